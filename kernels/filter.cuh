// Windows of stored filters: packed for correlate.cuh, and their gradients added in place.
//
// Element (k, c, r, s) of the window lies at offset + k * stride_k + c * stride_c + r * stride_r + s
// of the stored filter; k counts over all groups, c within one.
#pragma once
#include "common.cuh"

struct PackParams {
  const float* w;      // the stored filter
  const float* scale;  // one number, or null for 1
  float* packed;       // [group][tap][depth][rows, filled up to a multiple of 4]
  int32_t groups;
  int32_t rows;        // channels produced per group
  int32_t depth;       // channels consumed per group
  int32_t kernel_h, kernel_w;
  int32_t offset, stride_k, stride_c, stride_r;
  int32_t backward;    // 1: rows are input channels and taps are mirrored
};
SMASH_PARAMS(PackParams, w, scale, packed, groups, rows, depth, kernel_h, kernel_w, offset, stride_k,
             stride_c, stride_r, backward)

__device__ __forceinline__ int padded_rows(int rows) { return (rows + 3) / 4 * 4; }

// One thread an element of `packed`; blocks of 256.
__device__ __forceinline__ void pack_filter(const PackParams& p) {
  const int taps = p.kernel_h * p.kernel_w, padded = padded_rows(p.rows);
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= p.groups * taps * p.depth * padded) return;
  const int row = i % padded, d = i / padded % p.depth;
  const int tap = i / padded / p.depth % taps, group = i / padded / p.depth / taps;
  const int k = p.backward ? group * p.depth + d : group * p.rows + row;
  const int c = p.backward ? row : d;
  const int source = p.backward ? taps - 1 - tap : tap;
  const int at = p.offset + k * p.stride_k + c * p.stride_c + source / p.kernel_w * p.stride_r +
                 source % p.kernel_w;
  const float scale = p.scale ? *p.scale : 1.f;
  p.packed[i] = row < p.rows ? scale * p.w[at] : 0.f;
}

struct FilterReduceParams {
  const float* parts;  // [part][tap][k over all groups][c]
  const float* w;      // the stored filter
  const float* scale;  // one number, or null for 1
  float* gw;           // gradient of the stored filter: the window is added to
  float* products;     // sums over each block of unscaled gradient * w, or null
  int32_t part_count;
  int32_t outputs;     // k over all groups
  int32_t in_len;      // c of a group
  int32_t kernel_h, kernel_w;
  int32_t offset, stride_k, stride_c, stride_r;
};
SMASH_PARAMS(FilterReduceParams, parts, w, scale, gw, products, part_count, outputs, in_len, kernel_h,
             kernel_w, offset, stride_k, stride_c, stride_r)

// gw += scale * sum of the parts, in order. One thread an element of the window; blocks of 256.
__device__ __forceinline__ void reduce_filter_gradient(const FilterReduceParams& p) {
  const int len = p.kernel_h * p.kernel_w * p.outputs * p.in_len;
  const int i = blockIdx.x * 256 + threadIdx.x;
  float product = 0.f;
  if (i < len) {
    const int c = i % p.in_len, k = i / p.in_len % p.outputs, tap = i / p.in_len / p.outputs;
    const int at = p.offset + k * p.stride_k + c * p.stride_c + tap / p.kernel_w * p.stride_r +
                   tap % p.kernel_w;
    float sum = 0.f;
    for (int part = 0; part < p.part_count; part++) sum += p.parts[size_t(part) * len + i];
    p.gw[at] += (p.scale ? *p.scale : 1.f) * sum;
    product = sum * p.w[at];
  }
  if (p.products) {
    product = block_sum<256>(product);
    if (threadIdx.x == 0) p.products[blockIdx.x] = product;
  }
}

struct ScaleGradientParams {
  const float* products;
  float* gscale;  // added to
  int32_t len;
};
SMASH_PARAMS(ScaleGradientParams, products, gscale, len)

// gscale += sum of the products. One block of 256.
__device__ __forceinline__ void finish_scale_gradient(const ScaleGradientParams& p) {
  float sum = 0.f;
  for (int i = threadIdx.x; i < p.len; i += 256) sum += p.products[i];
  sum = block_sum<256>(sum);
  if (threadIdx.x == 0) *p.gscale += sum;
}
