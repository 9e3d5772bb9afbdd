// What convolutions read and write: planes of H*W*N floats, and the taps that shift them.
//
// Pixels lie N floats apart, so tap (r, s) is a shift of the whole plane by a multiple of N, and
// whether it stays inside the picture is the same for all N images. A load of V floats, V dividing
// N, therefore never straddles two pixels and is aligned under every tap.
#pragma once
#include "views.cuh"

// The extent of planes and the taps of a filter with odd kernel. A pointwise convolution is one
// pixel of `plane` images with one tap.
struct Geometry {
  int height, width, batch;      // H, W, N
  int kernel_h, kernel_w;        // R, S
  int dilation_h, dilation_w;

  __device__ __forceinline__ int plane() const { return height * width * batch; }
  __device__ __forceinline__ int taps() const { return kernel_h * kernel_w; }
  // Rows and columns from the output pixel to the input pixel of a tap.
  __device__ __forceinline__ int down(int tap) const {
    return (tap / kernel_w - kernel_h / 2) * dilation_h;
  }
  __device__ __forceinline__ int right(int tap) const {
    return (tap % kernel_w - kernel_w / 2) * dilation_w;
  }
};

__device__ __forceinline__ Geometry pixels(int plane) { return {1, 1, plane, 1, 1, 1, 1}; }

// Channels that follow one another in memory.
struct Channels {
  const float* base;
  int plane;
  __device__ __forceinline__ const float* channel(int c) const { return base + size_t(c) * plane; }
  __device__ __forceinline__ float value(float x) const { return x; }
};

// Channels of a list of views, optionally rectified as they are read. Neighbouring requests are
// for neighbouring channels, so the view found last is tried first.
template <class Params>
struct ViewedChannels {
  const Params& p;
  int view = 0;
  __device__ __forceinline__ explicit ViewedChannels(const Params& params) : p(params) {}
  __device__ __forceinline__ const float* channel(int c) {
    if (c < p.first[view] || c >= p.first[view + 1]) view = find_view(p, c);
    return p.views[view] + offset_in_view(p, view, c);
  }
  __device__ __forceinline__ float value(float x) const { return p.relu ? fmaxf(x, 0.f) : x; }
};
