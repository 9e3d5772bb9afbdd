// max_pool: y[c][p][q][n] = max of the 2x2 window of x[c] at (2p, 2q); [C, 2P, 2Q, N] -> [C, P, Q, N].
// One thread per number of y, forward and backward: it writes the four numbers of gx of its window.
#include "common.cuh"

struct MaxPoolParams {
  const float* x;
  const float* from;  // backward: gy
  float* to;          // y; backward: gx
  uint32_t len;       // of y
  uint32_t columns;   // Q
  uint32_t n_len;
  uint32_t add;  // backward: add to gx
};
SMASH_PARAMS(MaxPoolParams, x, from, to, len, columns, n_len, add)

// The window of y's number i: where its four numbers lie in x, and which is the first largest. NaN is larger than all.
struct Largest {
  size_t at[4];
  int best;
  __device__ __forceinline__ Largest(const MaxPoolParams& p, uint32_t i) {
    // Channel and row are one index, because a channel of x has two rows for each of y.
    const uint32_t n = i % p.n_len, q = i / p.n_len % p.columns, line = i / p.n_len / p.columns;
    const size_t row = size_t(2 * p.columns) * p.n_len;
    at[0] = 2 * line * row + size_t(2 * q) * p.n_len + n;
    at[1] = at[0] + p.n_len, at[2] = at[0] + row, at[3] = at[2] + p.n_len;
    best = 0;
    float most = p.x[at[0]];
    UNROLL for (int j = 1; j < 4; j++) {
      const float x = p.x[at[j]];
      if (x > most || x != x) most = x, best = j;
    }
  }
};

SMASH_KERNEL(256, max_pool_forward, MaxPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const Largest largest(p, i);
  p.to[i] = p.x[largest.at[largest.best]];
}

SMASH_KERNEL(256, max_pool_backward, MaxPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const Largest largest(p, i);
  const float g = p.from[i];
  UNROLL for (int j = 0; j < 4; j++) {
    float* gx = p.to + largest.at[j];
    *gx = (p.add ? *gx : 0.f) + (j == largest.best ? g : 0.f);
  }
}
