// Orders of blocks and threads (schedule.h).
#include "emu/schedule.h"

#include <string.h>

#include <algorithm>

#include "emu/tsan.h"

namespace emu {
namespace {

uint64_t step(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

// Below `bound`.
size_t draw(uint64_t& state, size_t bound) { return size_t((step(state) >> 32) * bound >> 32); }

uint64_t seeded(uint64_t seed) { return (seed + 1) * 2654435761u + 88172645463325252ull; }

template <class T>
void shuffle(T* order, size_t count, uint64_t& random) {
  for (size_t i = count; i > 1; i--) std::swap(order[i - 1], order[draw(random, i)]);
}

}  // namespace

std::vector<size_t> block_order(Schedule schedule, size_t blocks) {
  std::vector<size_t> order(blocks);
  for (size_t i = 0; i < blocks; i++) order[i] = schedule.kind == Schedule::Reverse ? blocks - 1 - i : i;
  uint64_t random = seeded(schedule.seed);
  if (schedule.kind == Schedule::Random || schedule.kind == Schedule::Greedy) shuffle(order.data(), blocks, random);
  return order;
}

void Turns::start(Schedule schedule, unsigned threads, size_t block) {
  kind_ = schedule.kind;
  random_ = seeded(schedule.seed + block);
  threads_ = threads;
  warps_ = (threads + 31) / 32;
  current_ = unsigned(draw(random_, threads));
  at_ = end_ = 0;
  wake_all();
}

void Turns::wake_all() {
  TsanQuiet quiet;  // TSan sees every memset
  memset(ready_, 0xff, warps_ * sizeof ready_[0]);
  if (threads_ % 32) ready_[warps_ - 1] = (1u << threads_ % 32) - 1;
}

unsigned Turns::next_of_round() {
  if (at_ == end_) gather_round();
  return at_ == end_ ? NONE : round_[at_++];
}

void Turns::gather_round() {
  at_ = end_ = 0;
  for (unsigned warp = 0; warp < warps_; warp++) {
    for (unsigned lanes = ready_[warp]; lanes; lanes &= lanes - 1)
      round_[end_++] = warp * 32 + unsigned(__builtin_ctz(lanes));
    ready_[warp] = 0;
  }
  if (kind_ == Schedule::Reverse) std::reverse(round_, round_ + end_);
  if (kind_ == Schedule::Random) shuffle(round_, end_, random_);
}

unsigned Turns::go_on() {
  const unsigned last = current_ / 32;
  for (unsigned i = 0; i < warps_; i++) {
    const unsigned warp = (last + i) % warps_, lanes = ready_[warp];
    if (!lanes) continue;
    const unsigned ahead = i == 0 ? lanes >> current_ % 32 << current_ % 32 : 0;  // the same thread, if it can
    current_ = warp * 32 + unsigned(__builtin_ctz(ahead ? ahead : lanes));
    ready_[warp] &= ~(1u << current_ % 32);
    return current_;
  }
  return NONE;
}

}  // namespace emu
