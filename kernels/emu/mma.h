// Tensor cores: the matrix product of TF32 numbers, mma.sync.m16n8k8, for the emulator's side of
// mma.cuh. Which lane holds which element is that of the PTX ISA. Operands must have been rounded
// to TF32 (a mistake that a GPU hides by truncating); the sum is rounded once at its end, where
// hardware has a rounding of its own.
#pragma once
#include <string.h>

#include "emu/thread.h"

namespace emu {

// cvt.rna.tf32.f32: nearest, ties away from zero.
inline uint32_t cvt_rna_tf32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits & 0x7fffffu ? 0x7fffe000u : bits;  // NaN, infinity
  return (bits + 0x1000u) & 0xffffe000u;
}

struct MmaSlot {
  float d[4];
  uint32_t a[4], b[2];
};

inline float tf32_value(uint32_t bits) {
  if (bits & 0x1fffu) fail("mma: operand %08x is not rounded to TF32", bits);
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline void exchange_mma(const Lanes& lanes) {
  if (lanes.mask != 0xffffffffu) fail("mma: needs the whole warp");
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; lane++) {
    const MmaSlot& slot = lanes.at<MmaSlot>(lane);
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; i++) a[group + 8 * (i % 2)][member + 4 * (i / 2)] = tf32_value(slot.a[i]);
    for (int i = 0; i < 2; i++) b[member + 4 * i][group] = tf32_value(slot.b[i]);
  }
  for (int lane = 0; lane < 32; lane++) {
    MmaSlot& slot = lanes.at<MmaSlot>(lane);
    for (int i = 0; i < 4; i++) {
      const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
      double sum = slot.d[i];  // products of TF32 numbers are exact in double
      for (int k = 0; k < 8; k++) sum += double(a[row][k]) * double(b[k][column]);
      slot.d[i] = float(sum);
    }
  }
}

// d += a * b
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site* site) {
  MmaSlot slot;
  memcpy(slot.d, d, sizeof slot.d);
  memcpy(slot.a, a, sizeof slot.a);
  memcpy(slot.b, b, sizeof slot.b);
  warp_collective(site, 0xffffffffu, &slot, exchange_mma);
  memcpy(d, slot.d, sizeof slot.d);
}

}  // namespace emu
