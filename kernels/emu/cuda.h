// Just enough of CUDA C++ to compile this project's kernels with a host compiler: the emulator's
// side of common.cuh. Kernels see nothing else of the emulator.
//
// One block runs on one CPU thread, its CUDA threads as fibers that switch only at barriers and
// warp collectives (runtime.h). Shared arrays are therefore plain static variables. Every order
// the scheduler picks is a legal one of CUDA; what the hardware may do beyond that (weak memory
// order between blocks, two warps truly at once) is not modelled, and neither is speed.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "emu/kernel.h"
#include "emu/mma.h"
#include "emu/thread.h"
#include "emu/warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __constant__ static
#ifdef SMASH_EMU_TSAN  // every block has an OS thread, and so shared memory, of its own
#define __shared__ static thread_local
#else
#define __shared__ static
#endif
#define UNROLL
#define SMASH_ALIGNED(address, bytes)                              \
  if (reinterpret_cast<uintptr_t>(address) % (bytes) != 0)         \
  emu::fail("misaligned address: %p for a vector of %zu bytes", static_cast<const void*>(address), size_t(bytes))

#define threadIdx (emu::self->thread_index)
#define blockIdx (emu::self->block_index)
#define blockDim (emu::self->block_size)
#define gridDim (emu::self->grid_size)
constexpr int warpSize = 32;

#define __syncthreads() emu::syncthreads(EMU_HERE("__syncthreads"))

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Integer atomics only: the order in which threads come must not change a result.
template <class T>
static inline T atomicAdd(T* at, T value) {
  static_assert(__is_same(T, int) || __is_same(T, unsigned), "kernels use no float atomics");
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// glibc declares functions of these names, so they are macros here.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
template <class T>
static inline T __ldg(const T* from) {
  return *from;
}
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
template <class To, class From>
static inline To emu_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline int __float_as_int(float f) { return emu_bits<int>(f); }
static inline float __int_as_float(int i) { return emu_bits<float>(i); }
static inline unsigned __float_as_uint(float f) { return emu_bits<unsigned>(f); }
static inline float __uint_as_float(unsigned i) { return emu_bits<float>(i); }

template <class T>
static inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
  return a < b ? b : a;
}
// As on the GPU, the number wins over a NaN and +0 is more than -0. glibc's are calls.
static inline float min(float a, float b) {
  if (a == b) return __uint_as_float(__float_as_uint(a) | __float_as_uint(b));
  return a < b || b != b ? a : b;
}
static inline float max(float a, float b) {
  if (a == b) return __uint_as_float(__float_as_uint(a) & __float_as_uint(b));
  return a > b || b != b ? a : b;
}
#define fminf(a, b) min(float(a), float(b))
#define fmaxf(a, b) max(float(a), float(b))
