// mean: to (+)= share * from, element by element; once for each value that a mean is of, forward and backward.
#include "common.cuh"

struct MeanParams {
  const float* from;
  float* to;
  uint32_t len;
  float share;
  uint32_t add;
};
SMASH_PARAMS(MeanParams, from, to, len, share, add)

struct AddShare {
  template <int V>
  static __device__ void at(const MeanParams& p, uint32_t i) {
    Vec<V> sum = load<V>(p.from + i);
    UNROLL for (int j = 0; j < V; j++) sum.at[j] *= p.share;
    if (p.add) {
      const Vec<V> before = load<V>(p.to + i);
      UNROLL for (int j = 0; j < V; j++) sum.at[j] += before.at[j];
    }
    store<V>(p.to + i, sum);
  }
};

SMASH_KERNEL(256, mean_forward, MeanParams) { each_element<AddShare>(p, p.len, aligned16(p.from, p.to)); }

SMASH_KERNEL(256, mean_backward, MeanParams) { each_element<AddShare>(p, p.len, aligned16(p.from, p.to)); }
