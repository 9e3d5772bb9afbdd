// volume_gather: a batch [1, D, H, W, N] of f32 from views [D, H, W] of one bit a voxel that lie in device
// memory: rolled, mirrored, unpacked, transposed. One thread per number of the batch.
#include "common.cuh"

struct VolumeGatherParams {
  const uint8_t* const* views;  // N views
  const int32_t* windows;       // N times: roll along D, H and W, rows mirrored or not, columns mirrored or not
  float* x;
  int32_t slices;
  int32_t rows;
  int32_t columns;
  int32_t n_len;
  uint32_t len;
  float unset;
  float set;
};
SMASH_PARAMS(VolumeGatherParams, views, windows, x, slices, rows, columns, n_len, len, unset, set)

// Where output position `i` of `extent` looks: mirrored, then rolled by less than the extent.
__device__ __forceinline__ int source(int i, int extent, bool mirrored, int roll) {
  const int at = (mirrored ? extent - 1 - i : i) + roll;
  return at < extent ? at : at - extent;
}

SMASH_KERNEL(256, volume_gather_forward, VolumeGatherParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const int n = i % p.n_len, column = i / p.n_len % p.columns;
  const int row = i / p.n_len / p.columns % p.rows, slice = i / p.n_len / p.columns / p.rows;
  const int32_t* window = p.windows + 5 * n;
  const int d = source(slice, p.slices, false, window[0]);
  const int h = source(row, p.rows, window[3] != 0, window[1]);
  const int w = source(column, p.columns, window[4] != 0, window[2]);
  const int bit = (d * p.rows + h) * p.columns + w;
  p.x[i] = p.views[n][bit / 8] >> (bit % 8) & 1 ? p.set : p.unset;
}
