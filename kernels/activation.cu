// activation: y = f(x), element by element; f is ReLU, leaky ReLU, tanh or sigmoid. The derivative of
// each is a function of y.
#include "common.cuh"

struct ActivationParams {
  const float* from;  // x; backward: gy
  const float* y;     // backward only
  float* to;          // y; backward: gx
  uint32_t len;
  uint32_t kind;
  uint32_t add;  // backward: add to gx
  float slope;   // of the leaky ReLU below zero
};
SMASH_PARAMS(ActivationParams, from, y, to, len, kind, add, slope)

// As ops/activation numbers them.
enum Kind { RELU, LEAKY_RELU, TANH, SIGMOID };

__device__ __forceinline__ float apply(uint32_t kind, float slope, float x) {
  switch (kind) {
    case RELU: return fmaxf(x, 0.f);
    case LEAKY_RELU: return fmaxf(x, slope * x);
    case TANH: return tanhf(x);
    default: return 1.f / (1.f + expf(-x));
  }
}

__device__ __forceinline__ float derivative(uint32_t kind, float slope, float y) {
  switch (kind) {
    case RELU: return y > 0.f ? 1.f : 0.f;
    case LEAKY_RELU: return y > 0.f ? 1.f : slope;
    case TANH: return 1.f - y * y;
    default: return y * (1.f - y);
  }
}

struct Forward {
  template <int V>
  static __device__ void at(const ActivationParams& p, uint32_t i) {
    Vec<V> v = load<V>(p.from + i);
    UNROLL for (int j = 0; j < V; j++) v.at[j] = apply(p.kind, p.slope, v.at[j]);
    store<V>(p.to + i, v);
  }
};

struct Backward {
  template <int V>
  static __device__ void at(const ActivationParams& p, uint32_t i) {
    const Vec<V> gy = load<V>(p.from + i), y = load<V>(p.y + i);
    Vec<V> gx = {};
    if (p.add) gx = load<V>(p.to + i);
    UNROLL for (int j = 0; j < V; j++) gx.at[j] += gy.at[j] * derivative(p.kind, p.slope, y.at[j]);
    store<V>(p.to + i, gx);
  }
};

SMASH_KERNEL(256, activation_forward, ActivationParams) { each_element<Forward>(p, p.len, aligned16(p.from, p.to)); }

SMASH_KERNEL(256, activation_backward, ActivationParams) {
  each_element<Backward>(p, p.len, aligned16(p.from, p.y, p.to));
}
