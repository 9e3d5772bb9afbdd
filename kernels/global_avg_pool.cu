// global_avg_pool: y[c][n] = mean over all pixels of x[c]; [C, D, H, W, N] -> [C, 1, 1, N].
// Forward: one thread per number of y. Backward: one per number of gx.
#include "common.cuh"

struct GlobalAvgPoolParams {
  const float* from;  // x; backward: gy
  float* to;          // y; backward: gx
  uint32_t len;       // numbers written
  uint32_t pixels;    // D*H*W
  uint32_t n_len;
  uint32_t add;  // backward: add to gx
};
SMASH_PARAMS(GlobalAvgPoolParams, from, to, len, pixels, n_len, add)

SMASH_KERNEL(128, global_avg_pool_forward, GlobalAvgPoolParams) {
  const uint32_t i = blockIdx.x * 128u + threadIdx.x;
  if (i >= p.len) return;
  const float* x = p.from + size_t(i / p.n_len) * p.pixels * p.n_len + i % p.n_len;
  float sum = 0.f;
  for (uint32_t pixel = 0; pixel < p.pixels; pixel++) sum += x[size_t(pixel) * p.n_len];
  p.to[i] = sum * (1.f / p.pixels);
}

SMASH_KERNEL(128, global_avg_pool_backward, GlobalAvgPoolParams) {
  const uint32_t i = blockIdx.x * 128u + threadIdx.x;
  if (i >= p.len) return;
  const uint32_t channel = i / p.n_len / p.pixels;
  const float g = p.from[channel * p.n_len + i % p.n_len] * (1.f / p.pixels);
  p.to[i] = (p.add ? p.to[i] : 0.f) + g;
}
