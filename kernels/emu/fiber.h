// Fibers: functions with a stack of their own that hand the processor to each other. On x86-64 a switch is 15 instructions, elsewhere (or
// with SMASH_EMU_UCONTEXT) it is swapcontext, which makes kernels about 8 times slower.
//
// Sanitizers are told of every switch: to AddressSanitizer a fiber is a stack, to ThreadSanitizer
// a thread, so that it reports two CUDA threads racing although they never run at once.
#pragma once
#include <stddef.h>

#if !defined(__x86_64__) && !defined(SMASH_EMU_UCONTEXT)
#define SMASH_EMU_UCONTEXT
#endif
#ifdef SMASH_EMU_UCONTEXT
#include <ucontext.h>
#endif

namespace emu {

// `count` stacks, each above a page that faults.
class Stacks {
 public:
  explicit Stacks(size_t count);
  ~Stacks();
  char* at(size_t i) const { return memory_ + i * (SIZE + guard_) + guard_; }
  // The bytes of a stack that are used. The tops of the stacks do not lie a whole number of pages
  // apart: they would share a few lines of the processor's cache.
  static size_t size(size_t i) { return SIZE - i % 64 * 64; }
  // Is this address in the page below a stack?
  bool overflowed(const void* address) const;
#ifdef __SANITIZE_ADDRESS__
  static constexpr size_t SIZE = 256 << 10;
#else
  static constexpr size_t SIZE = 64 << 10;
#endif

 private:
  size_t guard_, total_;
  char* memory_;
};

struct Fiber {
  char* stack = nullptr;
  size_t size = 0;
#ifdef SMASH_EMU_UCONTEXT
  ucontext_t context;
#else
  void* context = nullptr;
#endif
  void* sanitizer = nullptr;  // ASan's fake stack; TSan's thread
};

// A fiber that starts in `entry`, which says fiber_entered() first and never returns.
void make_fiber(Fiber&, char* stack, size_t size, void (*entry)());
// What was left on this stack in the middle of something is no longer of interest.
void abandon(char* stack);
void fiber_entered();
// `from`, which runs now, lets `to` go on, and returns when another one changes to it.
void change(Fiber& from, Fiber& to);
// Makes a fiber of the calling OS thread.
void adopt_caller(Fiber&);

}  // namespace emu
