// avg_pool: y[c][p][q][n] = mean of the 2x2 window of x[c] at (2p, 2q); [C, 2P, 2Q, N] -> [C, P, Q, N]. Of volumes it
// is the 2x2x2 window. One thread per number of y, forward and backward: it writes the four or eight numbers of gx.
#include "common.cuh"

struct AvgPoolParams {
  const float* from;  // x; backward: gy
  float* to;          // y; backward: gx
  uint32_t len;       // of y
  uint32_t rows;      // P
  uint32_t columns;   // Q
  uint32_t n_len;
  uint32_t slices;    // of a window: 1 or 2
  uint32_t add;  // backward: add to gx
};
SMASH_PARAMS(AvgPoolParams, from, to, len, rows, columns, n_len, slices, add)

// Offset in x of the first corner of the window of y's number i; channel and slice are one index,
// because a channel of x has `slices` slices for each of y.
__device__ __forceinline__ size_t corner(const AvgPoolParams& p, uint32_t i) {
  const uint32_t n = i % p.n_len, q = i / p.n_len % p.columns, line = i / p.n_len / p.columns;
  const size_t row = size_t(line / p.rows) * p.slices * (2 * p.rows) + 2 * (line % p.rows);
  return (row * (2 * p.columns) + 2 * q) * p.n_len + n;
}

// Offsets of the window's four numbers in a slice, and of the next slice.
struct Window {
  size_t at[4], slice;
  __device__ __forceinline__ explicit Window(const AvgPoolParams& p) {
    const size_t row = size_t(2 * p.columns) * p.n_len;
    at[0] = 0, at[1] = p.n_len, at[2] = row, at[3] = row + p.n_len;
    slice = 2 * p.rows * row;
  }
};

SMASH_KERNEL(256, avg_pool_forward, AvgPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const Window w(p);
  const float* x = p.from + corner(p, i);
  float sum = (x[w.at[0]] + x[w.at[1]]) + (x[w.at[2]] + x[w.at[3]]);
  if (p.slices == 2) {
    x += w.slice;
    sum += (x[w.at[0]] + x[w.at[1]]) + (x[w.at[2]] + x[w.at[3]]);
  }
  p.to[i] = 0.25f / p.slices * sum;
}

SMASH_KERNEL(256, avg_pool_backward, AvgPoolParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const Window w(p);
  float* gx = p.to + corner(p, i);
  const float g = 0.25f / p.slices * p.from[i];
  for (uint32_t s = 0; s < p.slices; s++, gx += w.slice) {
    UNROLL for (int j = 0; j < 4; j++) gx[w.at[j]] = (p.add ? gx[w.at[j]] : 0.f) + g;
  }
}
