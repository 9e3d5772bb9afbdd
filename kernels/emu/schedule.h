// The orders in which blocks, and the threads of a block, get the processor. A correct kernel gives
// the same bits under all of them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <vector>

namespace emu {

struct Schedule {
  // The first three go in rounds: every thread that can go on runs once, by number, the other way
  // round, or in an order drawn anew. They are fair, so no thread is ever far ahead. Greedy lets
  // one go on for as long as it can, past barriers that others have yet to leave, then the rest of
  // its warp, then the next warp; blocks are in random order.
  enum Kind { Forward, Reverse, Random, Greedy } kind = Forward;
  uint64_t seed = 1;
};

std::vector<size_t> block_order(Schedule, size_t blocks);

// Which thread of a block is next.
class Turns {
 public:
  static constexpr unsigned NONE = ~0u, MAX_THREADS = 1024;

  // All `threads` can go on.
  void start(Schedule, unsigned threads, size_t block);
  void wake(unsigned warp, unsigned lanes) { ready_[warp] |= lanes; }
  void wake_all();
  // NONE: all wait for each other, or are done.
  unsigned next() { return kind_ == Schedule::Greedy ? go_on() : next_of_round(); }

 private:
  unsigned next_of_round();
  unsigned go_on();
  void gather_round();

  Schedule::Kind kind_ = Schedule::Forward;
  uint64_t random_ = 1;
  unsigned threads_ = 0, warps_ = 0;
  unsigned current_ = 0;                            // greedy: who ran last
  unsigned ready_[MAX_THREADS / 32];                // one bit a lane
  unsigned round_[MAX_THREADS], at_ = 0, end_ = 0;  // the round's threads, and who is next
};

}  // namespace emu
