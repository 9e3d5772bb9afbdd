// add: y = a + b, element by element.
#include "common.cuh"

struct AddParams {
  const float* a;
  const float* b;
  float* y;
  uint32_t len;
};
SMASH_PARAMS(AddParams, a, b, y, len)

struct Add {
  template <int V>
  static __device__ void at(const AddParams& p, uint32_t i) {
    Vec<V> y = load<V>(p.a + i);
    const Vec<V> b = load<V>(p.b + i);
    UNROLL for (int j = 0; j < V; j++) y.at[j] += b.at[j];
    store<V>(p.y + i, y);
  }
};

SMASH_KERNEL(256, add_forward, AddParams) { each_element<Add>(p, p.len, aligned16(p.a, p.b, p.y)); }
