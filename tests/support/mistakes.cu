// mistakes: kernels that are wrong, each in one way, to see that the emulator notices. All are
// launched with one or two blocks of 64 threads; `y` holds 64 numbers.
#include "common.cuh"

struct MistakesParams {
  const float* x;
  float* y;
  uint32_t len;
};
SMASH_PARAMS(MistakesParams, x, y, len)

// A reversal through shared memory, as it should be, and with the barrier forgotten.
SMASH_KERNEL(64, mistakes_none, MistakesParams) {
  __shared__ float tile[64];
  tile[threadIdx.x] = p.x[threadIdx.x];
  __syncthreads();
  p.y[threadIdx.x] = tile[63 - threadIdx.x];
}
SMASH_KERNEL(64, mistakes_no_barrier, MistakesParams) {
  __shared__ float tile[64];
  tile[threadIdx.x] = p.x[threadIdx.x];
  p.y[threadIdx.x] = tile[63 - threadIdx.x];
}
// Uses shared memory again while a slower warp may still read it. In fair rounds all have read
// before the first one writes, since it waits in the shuffle.
SMASH_KERNEL(64, mistakes_no_barrier_before_reuse, MistakesParams) {
  __shared__ float parts[2];
  float sum = 0.f;
  for (int i = 1; i <= 2; i++) {
    const float part = __shfl_sync(0xffffffffu, p.x[threadIdx.x] * i, 0);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
    __syncthreads();
    sum += parts[0] + 2 * parts[1];
  }
  p.y[threadIdx.x] = sum;
}
// Reads shared memory that only another kernel's block wrote.
SMASH_KERNEL(64, mistakes_uninitialised, MistakesParams) {
  __shared__ float tile[64];
  if (threadIdx.x < 32) tile[threadIdx.x] = 0.f;
  __syncthreads();
  p.y[threadIdx.x] = tile[threadIdx.x];
}
SMASH_KERNEL(64, mistakes_divergent_barrier, MistakesParams) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  p.y[threadIdx.x] = 1.f;
}
SMASH_KERNEL(64, mistakes_exit_before_barrier, MistakesParams) {
  if (threadIdx.x == 7) return;
  __syncthreads();
  p.y[threadIdx.x] = 1.f;
}
SMASH_KERNEL(64, mistakes_missing_lane, MistakesParams) {
  p.y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, p.x[threadIdx.x], 1);
}
SMASH_KERNEL(64, mistakes_out_of_bounds, MistakesParams) { p.y[threadIdx.x + p.len] = 1.f; }
SMASH_KERNEL(64, mistakes_block_order, MistakesParams) { p.y[threadIdx.x] = float(blockIdx.x); }
__device__ __attribute__((noinline)) float deep(const float* x, uint32_t n) {
  volatile float local[64];
  for (int i = 0; i < 64; i++) local[i] = x[i];
  return n == 0 ? local[0] : deep(x, n - 1) + local[n % 64];
}
SMASH_KERNEL(64, mistakes_stack_overflow, MistakesParams) { p.y[threadIdx.x] = deep(p.x, p.len); }

#ifdef SMASH_EMULATED
// What mma.cuh offers, used wrongly: an operand not rounded, a copy not waited for.
SMASH_KERNEL(32, mistakes_unrounded_operand, MistakesParams) {
  float d[4] = {};
  const uint32_t a[4] = {__float_as_uint(1.00001f)}, b[2] = {};
  emu::mma_m16n8k8_tf32(d, a, b, EMU_HERE("mma"));
  p.y[threadIdx.x] = d[0];
}
SMASH_KERNEL(64, mistakes_copy_in_flight, MistakesParams) {
  __shared__ float tile[64];
  emu::cp_async(&tile[threadIdx.x], &p.x[threadIdx.x], 4);
  emu::cp_async_commit();
  __syncthreads();
  p.y[threadIdx.x] = tile[threadIdx.x];
}
#endif
