// gate: y = tanh(a) * sigmoid(b), element by element, and its gradients, one a launch.
#include "common.cuh"

struct GateParams {
  const float* a;
  const float* b;
  const float* gy;  // backward only
  float* to;        // y; backward: the gradient of a or b
  uint32_t len;
  uint32_t of_b;  // backward: to is the gradient of b
  uint32_t add;   // backward: add to it
};
SMASH_PARAMS(GateParams, a, b, gy, to, len, of_b, add)

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

struct Forward {
  template <int V>
  static __device__ void at(const GateParams& p, uint32_t i) {
    Vec<V> y = load<V>(p.a + i);
    const Vec<V> b = load<V>(p.b + i);
    UNROLL for (int j = 0; j < V; j++) y.at[j] = tanhf(y.at[j]) * sigmoid(b.at[j]);
    store<V>(p.to + i, y);
  }
};

struct Backward {
  template <int V>
  static __device__ void at(const GateParams& p, uint32_t i) {
    const Vec<V> gy = load<V>(p.gy + i), a = load<V>(p.a + i), b = load<V>(p.b + i);
    Vec<V> gx = {};
    if (p.add) gx = load<V>(p.to + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float t = tanhf(a.at[j]), s = sigmoid(b.at[j]);
      gx.at[j] += gy.at[j] * (p.of_b ? t * (s * (1.f - s)) : s * (1.f - t * t));
    }
    store<V>(p.to + i, gx);
  }
};

SMASH_KERNEL(256, gate_forward, GateParams) { each_element<Forward>(p, p.len, aligned16(p.a, p.b, p.to)); }

SMASH_KERNEL(256, gate_backward, GateParams) {
  each_element<Backward>(p, p.len, aligned16(p.a, p.b, p.gy, p.to));
}
