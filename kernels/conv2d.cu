// conv2d: y[k] = act(scale * sum over c, r, s of w[k][c][r][s] * x[c] shifted by (r, s)), its data
// gradient and its weight gradient, for any odd kernel, dilation and groups; see src/ops/conv2d.
//
//   tiled   matrix product in shared memory (correlate.cuh, filter_gradient.cuh)
//   tf32    the same on the tensor cores, operands rounded to 10 bits of mantissa
//   direct  few channels per group: sums in registers, operands through the cache
//
// _m is the number of channels a tile produces, _v the floats of a load, which divide N.
#include "correlate.cuh"
#include "filter_gradient.cuh"

// Forward: x -> y. Data gradient: gy -> gx, with the filter packed backwards.
struct Conv2dParams {
  const float* x;       // [groups * depth, H, W, N]
  const float* filter;  // packed
  float* y;             // [groups * rows, H, W, N]
  float* parts;         // [part_count, groups * rows, H, W, N] if part_count > 1
  int32_t height, width, batch;
  int32_t kernel_h, kernel_w, dilation_h, dilation_w;
  int32_t groups, rows, depth;
  int32_t part_count;
  int32_t add;          // 1: added to what y holds
  float slope;          // of the leaky ReLU; 1 is none
};
SMASH_PARAMS(Conv2dParams, x, filter, y, parts, height, width, batch, kernel_h, kernel_w, dilation_h,
             dilation_w, groups, rows, depth, part_count, add, slope)

__device__ __forceinline__ Correlation<Geometry> correlation(const Conv2dParams& p) {
  const Geometry geometry = {p.height,   p.width,      p.batch,     p.kernel_h,
                             p.kernel_w, p.dilation_h, p.dilation_w};
  return {geometry, p.filter, p.parts, p.rows, p.depth, p.groups, p.part_count};
}
__device__ __forceinline__ Channels source(const Conv2dParams& p) {
  return {p.x, p.height * p.width * p.batch};
}
__device__ __forceinline__ ChannelSink sink(const Conv2dParams& p) {
  return {p.y, p.height * p.width * p.batch, {p.slope, p.add != 0}};
}

#define CORRELATE(name, Sums, BM, BK, V)                                        \
  SMASH_KERNEL(128, conv2d_##name##_m##BM##_v##V, Conv2dParams) {               \
    correlate<Sums, BM, BK, V>(correlation(p), source(p), sink(p));             \
  }
#define DIRECT(pass, ROWS, V)                                                   \
  SMASH_KERNEL(128, conv2d_##pass##_direct_m##ROWS##_v##V, Conv2dParams) {      \
    correlate_direct<ROWS, V>(correlation(p), source(p), sink(p));              \
  }
#define PASS(pass, V)                              \
  CORRELATE(pass##_tiled, FloatTile, 16, 16, V)    \
  CORRELATE(pass##_tiled, FloatTile, 32, 16, V)    \
  CORRELATE(pass##_tiled, FloatTile, 64, 8, V)     \
  CORRELATE(pass##_tf32, Tf32Tile, 32, 16, V)      \
  CORRELATE(pass##_tf32, Tf32Tile, 64, 16, V)      \
  DIRECT(pass, 4, V)                               \
  DIRECT(pass, 8, V)

PASS(forward, 1)
PASS(forward, 2)
PASS(forward, 4)
PASS(backward_data, 1)
PASS(backward_data, 2)
PASS(backward_data, 4)

SMASH_KERNEL(256, conv2d_forward_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, conv2d_backward_data_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, conv2d_forward_reduce, Conv2dParams) { reduce_parts(correlation(p), sink(p)); }
SMASH_KERNEL(256, conv2d_backward_data_reduce, Conv2dParams) { reduce_parts(correlation(p), sink(p)); }

struct Conv2dWeightParams {
  const float* x;      // [groups * in_len, H, W, N]
  const float* gy;     // [groups * out_len, H, W, N]
  float* parts;        // [part_count, taps, groups * out_len, in_len]
  int32_t height, width, batch;
  int32_t kernel_h, kernel_w, dilation_h, dilation_w;
  int32_t groups, out_len, in_len;
  int32_t part_count;
};
SMASH_PARAMS(Conv2dWeightParams, x, gy, parts, height, width, batch, kernel_h, kernel_w, dilation_h,
             dilation_w, groups, out_len, in_len, part_count)

__device__ __forceinline__ FilterGradient<Geometry> gradient(const Conv2dWeightParams& p) {
  const Geometry geometry = {p.height,   p.width,      p.batch,     p.kernel_h,
                             p.kernel_w, p.dilation_h, p.dilation_w};
  return {geometry, p.gy, p.parts, p.groups, p.out_len, p.in_len, p.part_count};
}
__device__ __forceinline__ Channels source(const Conv2dWeightParams& p) {
  return {p.x, p.height * p.width * p.batch};
}

#define WEIGHT(V)                                                                  \
  SMASH_KERNEL(64, conv2d_backward_weight_tiled_m32_v##V, Conv2dWeightParams) {    \
    filter_gradient<FloatDots, 32, V>(gradient(p), source(p));                     \
  }                                                                                \
  SMASH_KERNEL(128, conv2d_backward_weight_tiled_m64_v##V, Conv2dWeightParams) {   \
    filter_gradient<FloatDots, 64, V>(gradient(p), source(p));                     \
  }                                                                                \
  SMASH_KERNEL(128, conv2d_backward_weight_tf32_m64_v##V, Conv2dWeightParams) {    \
    filter_gradient<Tf32Dots, 64, V>(gradient(p), source(p));                      \
  }                                                                                \
  SMASH_KERNEL(128, conv2d_backward_weight_direct_m4_v##V, Conv2dWeightParams) {   \
    filter_gradient_direct<V>(gradient(p), source(p));                             \
  }
WEIGHT(1)
WEIGHT(2)
WEIGHT(4)

SMASH_KERNEL(256, conv2d_backward_weight_reduce, FilterReduceParams) { reduce_filter_gradient(p); }
SMASH_KERNEL(256, conv2d_backward_weight_scale, ScaleGradientParams) { finish_scale_gradient(p); }
