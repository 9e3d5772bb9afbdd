// Shuffles and votes among the 32 lanes of a warp.
#pragma once
#include <string.h>

#include "emu/thread.h"

#define __shfl_sync(mask, value, ...) emu::shuffle<emu::Lane::Index>(EMU_HERE("__shfl_sync"), mask, value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...) emu::shuffle<emu::Lane::Up>(EMU_HERE("__shfl_up_sync"), mask, value, __VA_ARGS__)
#define __shfl_down_sync(mask, value, ...) \
  emu::shuffle<emu::Lane::Down>(EMU_HERE("__shfl_down_sync"), mask, value, __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...) \
  emu::shuffle<emu::Lane::Xor>(EMU_HERE("__shfl_xor_sync"), mask, value, __VA_ARGS__)
#define __ballot_sync(mask, vote) emu::ballot(EMU_HERE("__ballot_sync"), mask, vote)
#define __any_sync(mask, vote) (emu::ballot(EMU_HERE("__any_sync"), mask, vote) != 0)
#define __all_sync(mask, vote) (emu::ballot(EMU_HERE("__all_sync"), mask, !(vote)) == 0)
#define __syncwarp(...) emu::syncwarp(EMU_HERE("__syncwarp"), ##__VA_ARGS__)

namespace emu {

enum class Lane { Index, Up, Down, Xor };

struct ShuffleSlot {
  uint64_t value;
  int operand, width;
};

// Outside its segment of `width` lanes, a lane reads itself.
template <Lane KIND>
inline int source_lane(int lane, const ShuffleSlot& slot) {
  const int segment = lane & ~(slot.width - 1), at = lane & (slot.width - 1);
  const int from = KIND == Lane::Index ? slot.operand & (slot.width - 1)
                   : KIND == Lane::Up  ? at - slot.operand
                   : KIND == Lane::Down ? at + slot.operand
                                        : at ^ slot.operand;
  return segment + (from < 0 || from >= slot.width ? at : from);
}

template <Lane KIND>
inline void exchange_shuffle(const Lanes& lanes) {
  uint64_t before[32];
  for (int lane = 0; lane < 32; lane++)
    if (lanes.has(lane)) before[lane] = lanes.at<ShuffleSlot>(lane).value;
  for (int lane = 0; lane < 32; lane++) {
    if (!lanes.has(lane)) continue;
    ShuffleSlot& slot = lanes.at<ShuffleSlot>(lane);
    const int from = source_lane<KIND>(lane, slot);
    if (!lanes.has(from)) fail("shuffle: lane %d reads lane %d, which is not in mask %08x", lane, from, lanes.mask);
    slot.value = before[from];
  }
}

template <Lane KIND, class T>
inline T shuffle(const Site* site, unsigned mask, T value, int operand, int width = 32) {
  static_assert(sizeof(T) <= 8, "");
  ShuffleSlot slot{0, operand, width};
  memcpy(&slot.value, &value, sizeof value);
  warp_collective(site, mask, &slot, exchange_shuffle<KIND>);
  memcpy(&value, &slot.value, sizeof value);
  return value;
}

inline unsigned ballot(const Site* site, unsigned mask, bool vote) {
  uint32_t slot = vote;
  warp_collective(site, mask, &slot, [](const Lanes& lanes) {
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; lane++)
      if (lanes.has(lane)) votes |= lanes.at<uint32_t>(lane) << lane;
    for (int lane = 0; lane < 32; lane++)
      if (lanes.has(lane)) lanes.at<uint32_t>(lane) = votes;
  });
  return slot;
}

inline void syncwarp(const Site* site, unsigned mask = 0xffffffffu) {
  warp_collective(site, mask, nullptr, [](const Lanes&) {}, true);
}

}  // namespace emu
