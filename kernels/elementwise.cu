// elementwise: passes over memory that the tape and several ops need.
#include "common.cuh"

struct PassParams {
  float* to;
  const float* from;
  uint32_t len;
  uint32_t add;
  float slope;
};
SMASH_PARAMS(PassParams, to, from, len, add, slope)

struct Accumulate {
  template <int V>
  static __device__ void at(const PassParams& p, uint32_t i) {
    Vec<V> sum = load<V>(p.from + i);
    if (p.add) {
      const Vec<V> before = load<V>(p.to + i);
      UNROLL for (int j = 0; j < V; j++) sum.at[j] += before.at[j];
    }
    store<V>(p.to + i, sum);
  }
};

struct GateLeaky {
  template <int V>
  static __device__ void at(const PassParams& p, uint32_t i) {
    Vec<V> g = load<V>(p.to + i);
    const Vec<V> y = load<V>(p.from + i);
    UNROLL for (int j = 0; j < V; j++) g.at[j] *= y.at[j] > 0.f ? 1.f : p.slope;
    store<V>(p.to + i, g);
  }
};

// to (+)= from
SMASH_KERNEL(256, elementwise_accumulate, PassParams) { each_element<Accumulate>(p, p.len, aligned16(p.to, p.from)); }

// to *= slope where from, the output of a leaky ReLU, is not positive
SMASH_KERNEL(256, elementwise_gate_leaky, PassParams) { each_element<GateLeaky>(p, p.len, aligned16(p.to, p.from)); }
