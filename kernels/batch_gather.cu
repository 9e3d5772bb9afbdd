// batch_gather: a batch [C, H, W, N] of f32 from u8 images [C, h, w] that lie in device memory:
// cropped, mirrored, normalised, transposed. One thread per number of the batch.
#include "common.cuh"

struct BatchGatherParams {
  const uint8_t* const* images;  // N images
  const int32_t* windows;        // N times: row and column of the first pixel shown, mirrored or not
  const float* values;           // [C][256]: what a pixel value becomes
  float* x;
  int32_t image_rows;
  int32_t image_columns;
  int32_t rows;
  int32_t columns;
  int32_t n_len;
  uint32_t len;
};
SMASH_PARAMS(BatchGatherParams, images, windows, values, x, image_rows, image_columns, rows, columns, n_len, len)

SMASH_KERNEL(256, batch_gather_forward, BatchGatherParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len) return;
  const int n = i % p.n_len, q = i / p.n_len % p.columns;
  const int row = i / p.n_len / p.columns % p.rows, channel = i / p.n_len / p.columns / p.rows;
  const int32_t* window = p.windows + 3 * n;
  const int h = window[0] + row, w = window[1] + (window[2] ? p.columns - 1 - q : q);
  const bool inside = h >= 0 && h < p.image_rows && w >= 0 && w < p.image_columns;
  const uint8_t* plane = p.images[n] + size_t(channel) * p.image_rows * p.image_columns;
  p.x[i] = p.values[channel * 256 + (inside ? plane[h * p.image_columns + w] : 0)];
}
