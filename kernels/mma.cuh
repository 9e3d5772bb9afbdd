// Tensor cores: the only inline assembly besides what common.cuh wraps, each piece with its twin
// for the emulator.
//
// TF32 is a float whose mantissa is cut to 10 bits. Products of two are exact in f32 and sums are
// f32, so only the rounding of the operands distinguishes it: relative errors of 2^-11 a factor.
#pragma once
#include "common.cuh"

// x rounded to TF32 (nearest, ties away from zero), as the bits of a float whose low 13 are 0.
__device__ __forceinline__ uint32_t to_tf32(float x) {
#ifdef SMASH_EMULATED
  return emu::cvt_rna_tf32(x);
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#endif
}

// d += a * b for one warp: d 16x8 in f32, a 16x8 and b 8x8 in TF32. With g = lane / 4 and
// t = lane % 4, a lane holds
//   a[0] = A[g][t], a[1] = A[g + 8][t], a[2] = A[g][t + 4], a[3] = A[g + 8][t + 4],
//   b[0] = B[t][g], b[1] = B[t + 4][g],  d[e] = D[g + 8 * (e / 2)][2 * t + e % 2].
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
#ifdef SMASH_EMULATED
  emu::mma_m16n8k8_tf32(d, a, b, EMU_HERE("mma_m16n8k8_tf32"));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
