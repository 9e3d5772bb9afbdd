// subsample: y[c][p][q][n] = x[c][2p][2q][n]; [C, 2P, 2Q, N] -> [C, P, Q, N].
// Forward: one thread per number of y. Backward: one per number of gx.
#include "common.cuh"

struct SubsampleParams {
  const float* from;  // x; backward: gy
  float* to;          // y; backward: gx
  uint32_t len;       // numbers written
  uint32_t columns;   // of what is written
  uint32_t n_len;
  uint32_t add;  // backward: add to gx
};
SMASH_PARAMS(SubsampleParams, from, to, len, columns, n_len, add)

// Channel and row are one index, because a channel of x has two rows for each of y.
SMASH_KERNEL(256, subsample_forward, SubsampleParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const uint32_t n = i % p.n_len, q = i / p.n_len % p.columns, row = i / p.n_len / p.columns;
  p.to[i] = p.from[(size_t(2 * row) * (2 * p.columns) + 2 * q) * p.n_len + n];
}

SMASH_KERNEL(256, subsample_backward, SubsampleParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const uint32_t n = i % p.n_len, column = i / p.n_len % p.columns, row = i / p.n_len / p.columns;
  const bool read = row % 2 == 0 && column % 2 == 0;
  const float g = read ? p.from[(size_t(row / 2) * (p.columns / 2) + column / 2) * p.n_len + n] : 0.f;
  p.to[i] = (p.add ? p.to[i] : 0.f) + g;
}
