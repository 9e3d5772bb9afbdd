// elementwise: passes over memory that the tape and several ops need; one thread per element.
#include "common.cuh"

struct PassParams {
  float* to;
  const float* from;
  uint32_t len;
  uint32_t add;
  float slope;
};
SMASH_PARAMS(PassParams, to, from, len, add, slope)

// to (+)= from
SMASH_KERNEL(256, elementwise_accumulate, PassParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i < p.len) p.to[i] = (p.add ? p.to[i] : 0.f) + p.from[i];
}

// to *= slope where from, the output of a leaky ReLU, is not positive
SMASH_KERNEL(256, elementwise_gate_leaky, PassParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i < p.len && !(p.from[i] > 0.f)) p.to[i] *= p.slope;
}
