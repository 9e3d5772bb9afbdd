// pointwise: y[k] = act(scale * sum over the channels c of all views of w[k][c] * f(x[c])), f = ReLU
// or identity, its data gradient into one target per view, and its weight gradient; see
// src/ops/pointwise. The kernels of conv2d with one tap, on channels found through a list of views.
//
// _m is the number of channels a tile produces, _v the floats of a load, which divide the plane.
#include "correlate.cuh"
#include "filter_gradient.cuh"

// The views are `view_count` runs of channels; view v holds channels first[v] to first[v + 1].
struct PointwiseParams {
  const float* filter;  // packed
  float* y;             // [rows, plane]
  float* parts;         // [part_count, rows, plane] if part_count > 1
  int32_t plane, rows, depth;
  int32_t part_count;
  int32_t relu;         // 1: views are rectified as they are read
  float slope;          // of the leaky ReLU of y; 1 is none
  int32_t view_count;
  int32_t first[MAX_VIEWS + 1];
  const float* views[MAX_VIEWS];
};
SMASH_PARAMS(PointwiseParams, filter, y, parts, plane, rows, depth, part_count, relu, slope, view_count,
             first, views)

// Rows are the channels of the views, depth those of gy.
struct PointwiseDataParams {
  const float* gy;      // [depth, plane]
  const float* filter;  // packed backwards
  float* parts;         // [part_count, rows, plane] if part_count > 1
  int32_t plane, rows, depth;
  int32_t part_count;
  int32_t relu;         // 1: only where the view is positive
  int32_t view_count;
  int32_t first[MAX_VIEWS + 1];
  uint32_t add[MAX_VIEWS / 32];  // bit v: added to what target v holds
  const float* views[MAX_VIEWS];
  float* targets[MAX_VIEWS];
};
SMASH_PARAMS(PointwiseDataParams, gy, filter, parts, plane, rows, depth, part_count, relu, view_count,
             first, add, views, targets)

struct PointwiseWeightParams {
  const float* gy;      // [out_len, plane]
  float* parts;         // [part_count, out_len, in_len]
  int32_t plane, out_len, in_len;
  int32_t part_count;
  int32_t relu;
  int32_t view_count;
  int32_t first[MAX_VIEWS + 1];
  const float* views[MAX_VIEWS];
};
SMASH_PARAMS(PointwiseWeightParams, gy, parts, plane, out_len, in_len, part_count, relu, view_count,
             first, views)

static_assert(sizeof(PointwiseDataParams) < 4000, "kernel parameters have 4 KiB");

template <class Params>
__device__ __forceinline__ Correlation<Geometry> correlation(const Params& p) {
  return {pixels(p.plane), p.filter, p.parts, p.rows, p.depth, 1, p.part_count};
}
__device__ __forceinline__ FilterGradient<Geometry> gradient(const PointwiseWeightParams& p) {
  return {pixels(p.plane), p.gy, p.parts, 1, p.out_len, p.in_len, p.part_count};
}
template <class Params>
__device__ __forceinline__ ViewedChannels<Params> source(const Params& p) {
  return ViewedChannels<Params>(p);
}
__device__ __forceinline__ Channels source(const PointwiseDataParams& p) { return {p.gy, p.plane}; }
__device__ __forceinline__ ChannelSink sink(const PointwiseParams& p) {
  return {p.y, p.plane, {p.slope, false}};
}
__device__ __forceinline__ TargetSink<PointwiseDataParams> sink(const PointwiseDataParams& p) {
  return {p};
}

#define CORRELATE(name, Params, Sums, BM, BK, V)                               \
  SMASH_KERNEL(128, pointwise_##name##_m##BM##_v##V, Params) {                 \
    correlate<Sums, BM, BK, V>(correlation(p), source(p), sink(p));            \
  }
#define PASS(pass, Params, V)                              \
  CORRELATE(pass##_tiled, Params, FloatTile, 16, 16, V)    \
  CORRELATE(pass##_tiled, Params, FloatTile, 32, 16, V)    \
  CORRELATE(pass##_tiled, Params, FloatTile, 64, 8, V)     \
  CORRELATE(pass##_tf32, Params, Tf32Tile, 32, 16, V)      \
  CORRELATE(pass##_tf32, Params, Tf32Tile, 64, 16, V)

PASS(forward, PointwiseParams, 1)
PASS(forward, PointwiseParams, 2)
PASS(forward, PointwiseParams, 4)
PASS(backward_data, PointwiseDataParams, 1)
PASS(backward_data, PointwiseDataParams, 2)
PASS(backward_data, PointwiseDataParams, 4)

SMASH_KERNEL(256, pointwise_forward_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, pointwise_backward_data_pack, PackParams) { pack_filter(p); }
SMASH_KERNEL(256, pointwise_forward_reduce, PointwiseParams) { reduce_parts(correlation(p), sink(p)); }
SMASH_KERNEL(256, pointwise_backward_data_reduce, PointwiseDataParams) {
  reduce_parts(correlation(p), sink(p));
}

#define WEIGHT(V)                                                                       \
  SMASH_KERNEL(64, pointwise_backward_weight_tiled_m32_v##V, PointwiseWeightParams) {   \
    filter_gradient<FloatDots, 32, V>(gradient(p), source(p));                          \
  }                                                                                     \
  SMASH_KERNEL(128, pointwise_backward_weight_tiled_m64_v##V, PointwiseWeightParams) {  \
    filter_gradient<FloatDots, 64, V>(gradient(p), source(p));                          \
  }                                                                                     \
  SMASH_KERNEL(128, pointwise_backward_weight_tf32_m64_v##V, PointwiseWeightParams) {   \
    filter_gradient<Tf32Dots, 64, V>(gradient(p), source(p));                           \
  }
WEIGHT(1)
WEIGHT(2)
WEIGHT(4)

SMASH_KERNEL(256, pointwise_backward_weight_reduce, FilterReduceParams) { reduce_filter_gradient(p); }
SMASH_KERNEL(256, pointwise_backward_weight_scale, ScaleGradientParams) { finish_scale_gradient(p); }
