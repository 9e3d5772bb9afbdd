// add: y = a + b, element by element.
#include "common.cuh"

struct AddParams {
  const float* a;
  const float* b;
  float* y;
  uint32_t len;
};
SMASH_PARAMS(AddParams, a, b, y, len)

SMASH_KERNEL(256, add_forward, AddParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i < p.len) p.y[i] = p.a[i] + p.b[i];
}
