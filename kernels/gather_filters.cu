// gather_filters: the filters of all 1x1 convolutions from the HyperNet's output x
// [R*D*N * N, k, slices], and back; see src/ops/gather_filters for which weight is whose.
// One thread per number written, neighbours to neighbours.
#include "common.cuh"

struct FilterPlace {
  uint32_t start;        // of the filter in y
  uint32_t rows;
  uint32_t first_slice;  // column of x
  uint32_t slices;
};

struct GatherFiltersParams {
  const float* from;            // x, or the gradient of y
  float* to;                    // y, or the gradient of x, which is added to
  const FilterPlace* filters;   // in the order of y
  uint32_t filter_count;
  uint32_t slice_channels;      // D*N
  uint32_t row_units;           // R*N
  uint32_t height, width;       // of x
  uint32_t len;                 // of `to`
};
SMASH_PARAMS(GatherFiltersParams, from, to, filters, filter_count, slice_channels, row_units, height, width, len)

// The filter that holds element i of y: the last that does not start beyond it.
__device__ __forceinline__ FilterPlace filter_of(const GatherFiltersParams& p, uint32_t i) {
  uint32_t low = 0, high = p.filter_count - 1;
  while (low < high) {
    const uint32_t middle = (low + high + 1) / 2;
    if (p.filters[middle].start <= i)
      low = middle;
    else
      high = middle - 1;
  }
  return p.filters[low];
}

// y[filter][row][column] = x[(row % RN) * DN + i][row / RN][t]
SMASH_KERNEL(256, gather_filters_forward, GatherFiltersParams) {
  const uint32_t at = blockIdx.x * 256u + threadIdx.x;
  if (at >= p.len) return;
  const FilterPlace filter = filter_of(p, at);
  const uint32_t columns = filter.slices * p.slice_channels;
  const uint32_t row = (at - filter.start) / columns, column = (at - filter.start) % columns;
  const uint32_t t = filter.first_slice + column / p.slice_channels, i = column % p.slice_channels;
  const uint32_t channel = row % p.row_units * p.slice_channels + i;
  p.to[at] = p.from[(channel * p.height + row / p.row_units) * p.width + t];
}

// gx[(row % RN) * DN + i][row / RN][t] += gy[filter][row][column] of every filter that took it
SMASH_KERNEL(256, gather_filters_backward, GatherFiltersParams) {
  const uint32_t at = blockIdx.x * 256u + threadIdx.x;
  if (at >= p.len) return;
  const uint32_t t = at % p.width, h = at / p.width % p.height, channel = at / p.width / p.height;
  const uint32_t row = h * p.row_units + channel / p.slice_channels, i = channel % p.slice_channels;
  float sum = p.to[at];
  for (uint32_t f = 0; f < p.filter_count; f++) {
    const FilterPlace filter = p.filters[f];
    const uint32_t slice = t - filter.first_slice;  // wraps to something large before the first
    if (row < filter.rows && slice < filter.slices) {
      sum += p.from[filter.start + (row * filter.slices + slice) * p.slice_channels + i];
    }
  }
  p.to[at] = sum;
}
