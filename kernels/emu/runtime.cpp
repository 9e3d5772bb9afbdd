// Runs kernels: blocks one after another, the threads of a block as fibers that switch only at
// barriers and warp collectives; one that has to wait hands the processor to the next one of the
// schedule. Shared memory is filled with 0xFF (NaN) before each block, so that nothing is zero by
// luck or left over from the block before.
//
// With SMASH_EMU_TSAN every block gets a new OS thread, so that shared memory and stacks are new,
// and no order between blocks is implied; they still run one at a time. This file itself is never
// compiled with -fsanitize=thread.
#include "emu/runtime.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "emu/fiber.h"
#include "emu/tsan.h"

namespace emu {

Thread* self;

namespace {

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  int group;
};

// A CUDA thread.
struct Runner {
  Thread thread;
  Fiber fiber;
  bool done = false;
  const Site* site = nullptr;  // where it waits, or waited last
  std::vector<Copy> copies;  // not yet landed
  int group = 0;
};

struct Warp {
  unsigned arrived = 0, mask = 0, generation = 0;
  char keys[2];
  const Site* site = nullptr;
  void* slots[32];
};

struct Launch {
  const Kernel& kernel;
  dim3 grid, block;
  const void* params;
  Schedule schedule;
  uint64_t serial = 0;  // of the block
  size_t threads() const { return size_t(block.x) * block.y * block.z; }
  size_t blocks() const { return size_t(grid.x) * grid.y * grid.z; }
};

// A block while it runs, and what it leaves for the next one.
struct Block {
  Stacks stacks{Turns::MAX_THREADS};
  std::vector<Runner> runners{Turns::MAX_THREADS};
  size_t fibers = 0;  // so many of them have been made
  std::vector<Warp> warps{Turns::MAX_THREADS / 32};
  Turns turns;
  Fiber home;  // whoever runs the block
  const Launch* launch = nullptr;
  Runner* current = nullptr;
  pthread_t os_thread{};
  unsigned threads = 0, alive = 0, at_barrier = 0, generation = 0;
  char keys[2];  // for TSan: a thread may be at the next barrier before another has left this one
  char begin;
  const Site* barrier = nullptr;
  Outcome outcome;
};
Block* running;  // null between launches
Kernel* kernels;

std::string text(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string where(const Runner& runner) {
  return "block " + text(runner.thread.block_index) + " thread " + text(runner.thread.thread_index);
}

std::string place(const Site& site) { return std::string(site.file) + ":" + std::to_string(site.line); }

// Two copies of a function template have sites of their own for one place.
__attribute__((noinline)) bool same_text(const Site* a, const Site* b) {
  return a->line == b->line && !strcmp(a->file, b->file) && !strcmp(a->what, b->what);
}
inline bool same_place(const Site* a, const Site* b) { return a == b || same_text(a, b); }

// ---- a thread

// Whose turn it is goes on in place of `fiber`; when nobody can, whoever runs the block.
void switch_from(Fiber& fiber) {
  Block& block = *running;
  const unsigned next = block.turns.next();
  block.current = next == Turns::NONE ? nullptr : &block.runners[next];
  if (block.current) self = &block.current->thread;
  Fiber& to = block.current ? block.current->fiber : block.home;
  if (&to != &fiber) change(fiber, to);
}

void land(Runner& runner, int before_group) {
  size_t left = 0;
  for (const Copy& copy : runner.copies) {
    if (copy.group < before_group) memcpy(copy.to, copy.from, copy.bytes);
    else runner.copies[left++] = copy;
  }
  runner.copies.resize(left);
}

// What a fiber does: one thread of each block, again and again.
void runner_main() {
  fiber_entered();
  for (;;) {
    Runner& runner = *running->current;
    tsan_acquire(&running->begin);
    running->launch->kernel.call(running->launch->params);
    land(runner, runner.group + 1);
    tsan_release(running);
    runner.done = true;
    running->alive--;
    switch_from(runner.fiber);
  }
}

// ---- a block

void place_threads(Block& block, const Launch& launch, size_t index) {
  const dim3 grid = launch.grid, size = launch.block;
  const uint3 at{unsigned(index % grid.x), unsigned(index / grid.x % grid.y), unsigned(index / grid.x / grid.y)};
  for (unsigned i = 0; i < block.threads; i++) {
    Runner& runner = block.runners[i];
    const uint3 thread{i % size.x, i / size.x % size.y, i / size.x / size.y};
    runner.thread = Thread{thread, at, size, grid, i / 32, i % 32};
    runner.group = 0;
    runner.done = false;
    runner.site = nullptr;
    runner.fiber.sanitizer = tsan_thread(runner.fiber.sanitizer, i, launch.serial);
  }
}

void prepare(Block& block, const Launch& launch, size_t index) {
  block.threads = block.alive = unsigned(launch.threads());
  for (size_t& i = block.fibers; i < block.threads; i++) {
    block.runners[i].copies.clear();
    make_fiber(block.runners[i].fiber, block.stacks.at(i), Stacks::size(i), runner_main);
  }
  for (Warp& warp : block.warps) warp.arrived = 0;
  block.launch = &launch;
  block.at_barrier = 0;
  block.turns.start(launch.schedule, block.threads, index);
  if (launch.kernel.shared_end > launch.kernel.shared_begin)
    memset(launch.kernel.shared_begin, 0xff, size_t(launch.kernel.shared_end - launch.kernel.shared_begin));
  place_threads(block, launch, index);
  tsan_release(&block.begin);
}

void report_deadlock(Block& block) {
  const Runner* first = block.runners.data();
  const Runner& waiting = *std::find_if(first, first + block.threads, [](const Runner& r) { return !r.done; });
  block.outcome = {ERROR_LAUNCH_FAILED,
                   std::string("kernel ") + block.launch->kernel.name + ": deadlock: " +
                       std::to_string(block.threads - block.alive) + " of " + std::to_string(block.threads) +
                       " threads have exited, " + where(waiting) + " waits in " + waiting.site->what + " at " +
                       place(*waiting.site)};
}

Outcome run_here(Block& block, const Launch& launch, size_t index) {
  adopt_caller(block.home);
  block.os_thread = pthread_self();
  block.outcome = Outcome{};
  prepare(block, launch, index);
  running = &block;
  switch_from(block.home);
  running = nullptr;
  tsan_acquire(&block);
  if (block.alive && block.outcome.code == SUCCESS) report_deadlock(block);
  if (block.outcome.code != SUCCESS) block.fibers = 0;  // their stacks are left in the middle of something
  return block.outcome;
}

#ifdef SMASH_EMU_TSAN
// The threads are joined only at the end and `done` is polled: neither may order block after block.
Outcome run_blocks(Launch& launch, const std::vector<size_t>& order) {
  tsan_threads(launch.threads());
  Outcome outcome;
  std::vector<std::thread> threads;
  for (size_t index : order) {
    volatile bool done = false;
    launch.serial++;
    threads.emplace_back([&] {
      TsanQuiet quiet;
      auto block = std::make_unique<Block>();
      outcome = run_here(*block, launch, index);
      done = true;
    });
    while (!done) usleep(20);
    if (outcome.code != SUCCESS) break;
  }
  for (std::thread& thread : threads) thread.join();
  return outcome;
}
#else
Outcome run_blocks(const Launch& launch, const std::vector<size_t>& order) {
  static Block block;
  for (size_t index : order) {
    const Outcome outcome = run_here(block, launch, index);
    if (outcome.code != SUCCESS) return outcome;
  }
  return {};
}
#endif

}  // namespace

// ---- for the driver

void add_kernel(Kernel* kernel) {
  kernel->next = kernels;
  kernels = kernel;
}

const Kernel* find_kernel(const char* name) {
  for (const Kernel* kernel = kernels; kernel; kernel = kernel->next)
    if (!strcmp(kernel->name, name)) return kernel;
  return nullptr;
}

Outcome run(const Kernel& kernel, dim3 grid, dim3 block, const void* params, Schedule schedule) {
  Launch launch{kernel, grid, block, params, schedule};
  return run_blocks(launch, block_order(schedule, launch.blocks()));
}

bool in_kernel() { return running && running->current && pthread_equal(running->os_thread, pthread_self()); }
bool stack_overflow(const void* address) { return running->stacks.overflowed(address); }
char* abandoned_stack() {
  char* stack = running->current->fiber.stack;
  abandon(stack);
  return stack + Stacks::SIZE;
}

// ---- for kernels (thread.h)

void fail_with(Code code, const std::string& message) {
  Runner& runner = *running->current;
  Outcome& outcome = running->outcome;
  outcome = {code, std::string("kernel ") + running->launch->kernel.name + ", " + where(runner) + ": " + message};
  if (runner.site) outcome.message += " (last wait: " + place(*runner.site) + ")";
  running->current = nullptr;
  change(runner.fiber, running->home);
  abort();  // nobody comes back here
}

void fail(const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  fail_with(ERROR_LAUNCH_FAILED, message);
}

[[noreturn]] static void lanes_disagree(const Warp& warp, const Site* site, unsigned mask) {
  fail("%s: lanes of one warp disagree: mask %08x at %s, others %s with mask %08x at %s", site->what, mask,
       place(*site).c_str(), warp.site->what, warp.mask, place(*warp.site).c_str());
}

[[noreturn]] static void divergent_barrier(const Site* site) {
  fail("divergent barrier: this thread is at %s, others wait at %s", place(*site).c_str(),
       place(*running->barrier).c_str());
}

void syncthreads(const Site* site) {
  Block& block = *running;
  Runner& runner = *block.current;
  runner.site = site;
  if (block.at_barrier == 0) block.barrier = site;
  else if (!same_place(block.barrier, site)) divergent_barrier(site);
  char* key = &block.keys[block.generation % 2];
  tsan_release(key);
  if (++block.at_barrier == block.threads) {
    block.at_barrier = 0;
    block.generation++;
    block.turns.wake_all();
  }
  switch_from(runner.fiber);
  tsan_acquire(key);
}

void warp_collective(const Site* site, unsigned mask, void* slot, Exchange exchange, bool fence) {
  Block& block = *running;
  Runner& runner = *block.current;
  runner.site = site;
  const unsigned lane = runner.thread.lane, lanes = block.threads - runner.thread.warp * 32;
  Warp& warp = block.warps[runner.thread.warp];
  if (!(mask >> lane & 1)) fail("%s: calling lane %u is not in mask %08x", site->what, lane, mask);
  if (lanes < 32) mask &= (1u << lanes) - 1;
  if (warp.arrived == 0) {
    warp.site = site;
    warp.mask = mask;
  } else if (warp.mask != mask || !same_place(warp.site, site)) {
    lanes_disagree(warp, site, mask);
  }
  warp.slots[lane] = slot;
  warp.arrived |= 1u << lane;
  char* key = &warp.keys[warp.generation % 2];
  if (fence) tsan_release(key);
  if (warp.arrived == mask) {
    TsanQuiet quiet;
    exchange(Lanes{warp.slots, mask});
    warp.arrived = 0;
    warp.generation++;
    block.turns.wake(runner.thread.warp, mask);
  }
  switch_from(runner.fiber);
  if (fence) tsan_acquire(key);
}

void cp_async(void* to, const void* from, size_t bytes) {
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  if (addresses & (bytes - 1))
    fail_with(ERROR_MISALIGNED_ADDRESS, "cp.async: an address is no multiple of " + std::to_string(bytes));
  running->current->copies.push_back({to, from, bytes, running->current->group});
}
void cp_async_commit() { running->current->group++; }
void cp_async_wait(int groups_left) { land(*running->current, running->current->group - groups_left); }

}  // namespace emu
