// Lists of views: channels that lie in several places and are read and written there, one list
// after the other. See src/backend/cuda/views.rs, which makes them.
//
// A parameter struct with views has the fields `views` (where each begins), `first` (its first
// channel), `view_count` and `plane` (floats of a channel). With gradients into the views it also
// has `targets` (where each goes, null for none) and `add` (bit v: what target v holds is added to).
#pragma once
#include "common.cuh"

// As many as two lists leave room for in the 4 KiB of a kernel's parameters.
constexpr int MAX_VIEWS = 128;

// The view that holds channel c: the last whose first channel is not beyond it.
template <class Params>
__device__ __forceinline__ int find_view(const Params& p, int c) {
  int low = 0, high = p.view_count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (p.first[middle] <= c)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// Floats from the start of view v, or of its target, to channel c in it.
template <class Params>
__device__ __forceinline__ size_t offset_in_view(const Params& p, int v, int c) {
  return size_t(c - p.first[v]) * p.plane;
}

// Does the gradient of view v add to what is there?
template <class Params>
__device__ __forceinline__ bool adds(const Params& p, int v) {
  return p.add[v / 32] >> (v % 32) & 1u;
}
