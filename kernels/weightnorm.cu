// weightnorm: scale = 1 / ||w|| of every filter of a network in one launch, and its gradient.
#include "common.cuh"

struct Filter {
  uint32_t start, len;
};

struct WeightnormForwardParams {
  const float* w;
  const Filter* filters;
  float* scale;
};
SMASH_PARAMS(WeightnormForwardParams, w, filters, scale)

struct WeightnormBackwardParams {
  const float* w;
  const Filter* filters;  // no two of which share a weight
  const float* scale;
  const float* gscale;
  float* gw;
};
SMASH_PARAMS(WeightnormBackwardParams, w, filters, scale, gscale, gw)

// One block per filter. A filter of zeros has factor 0.
SMASH_KERNEL(512, weightnorm_forward, WeightnormForwardParams) {
  const Filter filter = p.filters[blockIdx.x];
  const float* w = p.w + filter.start;
  float squares = 0.f;
  for (uint32_t i = threadIdx.x; i < filter.len; i += 512) squares += w[i] * w[i];
  squares = block_sum<512>(squares);
  if (threadIdx.x == 0) p.scale[blockIdx.x] = squares > 0.f ? 1.f / sqrtf(squares) : 0.f;
}

// gw += gscale * d(1/||w||)/dw = -gscale * scale^3 * w; the blocks along y share a filter.
SMASH_KERNEL(256, weightnorm_backward, WeightnormBackwardParams) {
  const Filter filter = p.filters[blockIdx.x];
  const float scale = p.scale[blockIdx.x];
  const float factor = -p.gscale[blockIdx.x] * scale * scale * scale;
  const float* w = p.w + filter.start;
  float* gw = p.gw + filter.start;
  for (uint32_t i = blockIdx.y * 256 + threadIdx.x; i < filter.len; i += gridDim.y * 256) {
    gw[i] += factor * w[i];
  }
}
