// conv3d: y[k] = act(scale * sum over c, t, r, s of w[k][c][t][r][s] * x[c] shifted by (t, r, s)), its data
// gradient and its weight gradient, for any odd kernel, dilation and groups; see src/ops/conv3d.
//
// The kernels of conv2d over planes that are volumes: a tap leads to another slice as well. A stored
// filter is one of T*R rows to those who pack it and add its gradient.
#include "correlate.cuh"
#include "filter_gradient.cuh"

// Forward: x -> y. Data gradient: gy -> gx, with the filter packed backwards.
struct Conv3dParams {
  const float* x;       // [groups * depth, D, H, W, N]
  const float* filter;  // packed
  float* y;             // [groups * rows, D, H, W, N]
  float* parts;         // [part_count, groups * rows, D, H, W, N] if part_count > 1
  int32_t slices, height, width, batch;
  int32_t kernel_d, kernel_h, kernel_w, dilation_d, dilation_h, dilation_w;
  int32_t groups, rows, depth;
  int32_t part_count;
  int32_t add;          // 1: added to what y holds
  float slope;          // of the leaky ReLU; 1 is none
};
SMASH_PARAMS(Conv3dParams, x, filter, y, parts, slices, height, width, batch, kernel_d, kernel_h, kernel_w,
             dilation_d, dilation_h, dilation_w, groups, rows, depth, part_count, add, slope)

template <class Params>
__device__ __forceinline__ VolumeGeometry geometry(const Params& p) {
  return {p.slices, p.kernel_d, p.dilation_d,
          {p.height, p.width, p.batch, p.kernel_h, p.kernel_w, p.dilation_h, p.dilation_w}};
}

__device__ __forceinline__ Correlation<VolumeGeometry> correlation(const Conv3dParams& p) {
  return {geometry(p), p.filter, p.parts, p.rows, p.depth, p.groups, p.part_count};
}
__device__ __forceinline__ Channels source(const Conv3dParams& p) {
  return {p.x, geometry(p).plane()};
}
__device__ __forceinline__ ChannelSink sink(const Conv3dParams& p) {
  return {p.y, geometry(p).plane(), {p.slope, p.add != 0}};
}

#define CORRELATE(name, Sums, BM, BK, V)                                        \
  SMASH_KERNEL(128, conv3d_##name##_m##BM##_v##V, Conv3dParams) {               \
    correlate<Sums, BM, BK, V>(correlation(p), source(p), sink(p));             \
  }
#define DIRECT(pass, ROWS, V)                                                   \
  SMASH_KERNEL(128, conv3d_##pass##_direct_m##ROWS##_v##V, Conv3dParams) {      \
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

SMASH_KERNEL(256, conv3d_forward_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, conv3d_backward_data_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, conv3d_forward_reduce, Conv3dParams) { reduce_parts(correlation(p), sink(p)); }
SMASH_KERNEL(256, conv3d_backward_data_reduce, Conv3dParams) { reduce_parts(correlation(p), sink(p)); }

struct Conv3dWeightParams {
  const float* x;      // [groups * in_len, D, H, W, N]
  const float* gy;     // [groups * out_len, D, H, W, N]
  float* parts;        // [part_count, taps, groups * out_len, in_len]
  int32_t slices, height, width, batch;
  int32_t kernel_d, kernel_h, kernel_w, dilation_d, dilation_h, dilation_w;
  int32_t groups, out_len, in_len;
  int32_t part_count;
};
SMASH_PARAMS(Conv3dWeightParams, x, gy, parts, slices, height, width, batch, kernel_d, kernel_h, kernel_w,
             dilation_d, dilation_h, dilation_w, groups, out_len, in_len, part_count)

__device__ __forceinline__ FilterGradient<VolumeGeometry> gradient(const Conv3dWeightParams& p) {
  return {geometry(p), p.gy, p.parts, p.groups, p.out_len, p.in_len, p.part_count};
}
__device__ __forceinline__ Channels source(const Conv3dWeightParams& p) {
  return {p.x, geometry(p).plane()};
}

#define WEIGHT(V)                                                                  \
  SMASH_KERNEL(64, conv3d_backward_weight_tiled_m32_v##V, Conv3dWeightParams) {    \
    filter_gradient<FloatDots, 32, V>(gradient(p), source(p));                     \
  }                                                                                \
  SMASH_KERNEL(128, conv3d_backward_weight_tiled_m64_v##V, Conv3dWeightParams) {   \
    filter_gradient<FloatDots, 64, V>(gradient(p), source(p));                     \
  }                                                                                \
  SMASH_KERNEL(128, conv3d_backward_weight_tf32_m64_v##V, Conv3dWeightParams) {    \
    filter_gradient<Tf32Dots, 64, V>(gradient(p), source(p));                      \
  }                                                                                \
  SMASH_KERNEL(128, conv3d_backward_weight_direct_m4_v##V, Conv3dWeightParams) {   \
    filter_gradient_direct<V>(gradient(p), source(p));                             \
  }
WEIGHT(1)
WEIGHT(2)
WEIGHT(4)

SMASH_KERNEL(256, conv3d_backward_weight_reduce, FilterReduceParams) { reduce_filter_gradient(p); }
SMASH_KERNEL(256, conv3d_backward_weight_scale, ScaleGradientParams) { finish_scale_gradient(p); }
