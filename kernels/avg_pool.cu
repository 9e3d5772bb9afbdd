// avg_pool: y[c][p][q][n] = mean of the 2x2 window of x[c] at (2p, 2q); [C, 2P, 2Q, N] -> [C, P, Q, N].
// One thread per number of y, forward and backward: it writes the four numbers of gx.
#include "common.cuh"

struct AvgPoolParams {
  const float* from;  // x; backward: gy
  float* to;          // y; backward: gx
  uint32_t len;       // of y
  uint32_t columns;   // Q
  uint32_t n_len;
  uint32_t add;  // backward: add to gx
};
SMASH_PARAMS(AvgPoolParams, from, to, len, columns, n_len, add)

// Offset in x of the upper left corner of the window of y's number i; c and p are one index, because
// a channel of x has two rows for each of y.
__device__ __forceinline__ size_t corner(const AvgPoolParams& p, uint32_t i) {
  const uint32_t n = i % p.n_len, q = i / p.n_len % p.columns, row = i / p.n_len / p.columns;
  return (size_t(2 * row) * (2 * p.columns) + 2 * q) * p.n_len + n;
}

SMASH_KERNEL(256, avg_pool_forward, AvgPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const float* x = p.from + corner(p, i);
  const size_t below = size_t(2 * p.columns) * p.n_len;
  p.to[i] = 0.25f * ((x[0] + x[p.n_len]) + (x[below] + x[below + p.n_len]));
}

SMASH_KERNEL(256, avg_pool_backward, AvgPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  float* gx = p.to + corner(p, i);
  const size_t below = size_t(2 * p.columns) * p.n_len;
  const float g = 0.25f * p.from[i];
  const size_t window[4] = {0, p.n_len, below, below + p.n_len};
  UNROLL for (int j = 0; j < 4; j++) gx[window[j]] = (p.add ? gx[window[j]] : 0.f) + g;
}
