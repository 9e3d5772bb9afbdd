// Fibers: stacks, the switch between them, and what sanitizers want to know (fiber.h).
#include "emu/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SMASH_EMU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace emu {

Stacks::Stacks(size_t count) : guard_(size_t(sysconf(_SC_PAGESIZE))), total_(count * (SIZE + guard_)) {
  void* memory = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count; i++) mprotect(at(i) - guard_, guard_, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, total_); }

bool Stacks::overflowed(const void* address) const {
  const size_t offset = size_t(static_cast<const char*>(address) - memory_);
  return offset < total_ && offset % (SIZE + guard_) < guard_;
}

#ifndef SMASH_EMU_UCONTEXT
// Saves the registers that a call must preserve, and the stack pointer; loads those of the other.
extern "C" void smash_emu_swap(void** save, void* load);
asm(R"(
.text
.hidden smash_emu_swap
.globl smash_emu_swap
.type smash_emu_swap,@function
smash_emu_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size smash_emu_swap,.-smash_emu_swap
)");
#endif

void abandon(char* stack) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, Stacks::SIZE);
#else
  (void)stack;
#endif
}

void make_fiber(Fiber& fiber, char* stack, size_t size, void (*entry)()) {
  abandon(stack);
  fiber.stack = stack;
  fiber.size = size;
#ifdef SMASH_EMU_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  void** top = reinterpret_cast<void**>(stack + size);
  *--top = nullptr;  // no caller; keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.context = top;
#endif
}

static void swap(Fiber& from, Fiber& to) {
#ifdef SMASH_EMU_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  smash_emu_swap(&from.context, to.context);
#endif
}

void adopt_caller(Fiber& fiber) {
  fiber.stack = nullptr;  // ASan tells when it is left
#ifdef SMASH_EMU_TSAN
  fiber.sanitizer = __tsan_get_current_fiber();
#endif
}

#ifdef __SANITIZE_ADDRESS__
static Fiber* left;

static void arrived(void* sanitizer) {
  const void* stack;
  size_t size;
  __sanitizer_finish_switch_fiber(sanitizer, &stack, &size);
  if (left->stack) return;
  left->stack = static_cast<char*>(const_cast<void*>(stack));
  left->size = size;
}
#endif

void fiber_entered() {
#ifdef __SANITIZE_ADDRESS__
  arrived(nullptr);
#endif
}

// Not inlined: a caller must not carry an address of thread-local memory across the switch.
__attribute__((noinline)) void change(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_ADDRESS__
  left = &from;
  __sanitizer_start_switch_fiber(&from.sanitizer, to.stack, to.size);
#endif
#ifdef SMASH_EMU_TSAN
  __tsan_switch_to_fiber(to.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  swap(from, to);
#ifdef __SANITIZE_ADDRESS__
  arrived(from.sanitizer);
#endif
}

}  // namespace emu
