// What every kernel file includes: how a kernel and its parameters are declared, vector loads,
// and reductions in fixed order.
//
// The same .cu file has two compilers: nvcc, for the GPU, and with SMASH_EMULATED a host C++
// compiler, for tests on machines without one (emu/). Everything the second one must do its own
// way is in this header and in mma.cuh; kernels hold no inline assembly and no #ifdef.
//
// A kernel takes one argument: its parameter struct, by value. The struct is written down twice,
// here and in Rust; SMASH_PARAMS lists its fields so that tests compare both, field by field.
#pragma once

#ifdef SMASH_EMULATED
#include "emu/cuda.h"
#else
#include <stdint.h>

#define SMASH_PARAMS(Struct, ...)
// `threads`: the block size it is launched with, which bounds its registers. In the kernel the
// parameters are called `p`; they stay in constant memory.
#define SMASH_KERNEL(threads, name, Struct) \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Struct p)
#define UNROLL _Pragma("unroll")
// A GPU faults by itself where a vector is not aligned.
#define SMASH_ALIGNED(address, bytes)
#endif

// The widest load that the alignment of a row allows: V consecutive floats.
template <int V>
struct alignas(4 * V) Vec {
  float at[V];
};

template <int V>
__device__ __forceinline__ Vec<V> load(const float* from) {
  SMASH_ALIGNED(from, sizeof(Vec<V>));
  return *reinterpret_cast<const Vec<V>*>(from);
}

template <int V>
__device__ __forceinline__ void store(float* to, const Vec<V>& v) {
  SMASH_ALIGNED(to, sizeof(Vec<V>));
  *reinterpret_cast<Vec<V>*>(to) = v;
}

// May vectors of 4 floats be loaded from this address, or this and others?
template <class... T>
__device__ __forceinline__ bool aligned16(const T*... pointers) {
  return ((... | reinterpret_cast<uintptr_t>(pointers)) & 15u) == 0;
}

// An elementwise kernel: 4 consecutive elements a thread, as one vector where `vectors` says that
// all operands allow it. Op::at<V>(p, i) does elements i to i + V - 1. Launched with len / 4 threads,
// rounded up.
template <class Op, class Params>
__device__ __forceinline__ void each_element(const Params& p, uint32_t len, bool vectors) {
  const uint32_t i = 4u * (blockIdx.x * blockDim.x + threadIdx.x);
  if (vectors && i + 4 <= len) {
    Op::template at<4>(p, i);
  } else {
    for (uint32_t j = i; j < len && j < i + 4; j++) Op::template at<1>(p, j);
  }
}

// Sum over the 32 lanes of a warp, in every lane; the same order in every run.
__device__ __forceinline__ float warp_sum(float x) {
  UNROLL for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

// Sum over a block of THREADS threads, in every thread. All threads of the block must call it.
template <int THREADS>
__device__ __forceinline__ float block_sum(float x) {
  constexpr int WARPS = THREADS / 32;
  __shared__ float parts[WARPS];
  x = warp_sum(x);
  __syncthreads();  // the parts of a call before this one have been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.f;
  UNROLL for (int warp = 0; warp < WARPS; warp++) sum += parts[warp];
  return sum;
}
