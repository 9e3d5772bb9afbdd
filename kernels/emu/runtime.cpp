// Runs kernels: blocks one after another, the threads of a block as fibers that switch only at
// barriers and warp collectives. A round lets every thread that can go on run once, in the order
// of the schedule. Shared memory is filled with 0xFF (NaN) before each block, so that nothing is
// zero by luck or left over from the block before.
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

constexpr unsigned MAX_THREADS = 1024;
constexpr size_t SLOT = 64;  // largest thing a lane can hand over

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  int group;
};

enum class State : uint8_t { Ready, AtBarrier, InWarp, Done };

// A CUDA thread.
struct Runner {
  Thread thread;
  Fiber fiber;
  State state = State::Done;
  const Site* site = nullptr;
  std::vector<Copy> copies;  // not yet landed
  int group = 0;
};

struct Warp {
  unsigned arrived = 0, mask = 0, generation = 0;
  char keys[2];
  const Site* site = nullptr;
  alignas(16) char slots[32][SLOT];
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
  Stacks stacks{MAX_THREADS};
  std::vector<Runner> runners;
  std::vector<Warp> warps;
  std::vector<unsigned> now, next;  // threads of this round, and of the next
  const Launch* launch = nullptr;
  Runner* current = nullptr;
  pthread_t os_thread{};
  unsigned alive = 0, at_barrier = 0, generation = 0;
  char keys[2];  // for TSan: a thread may be at the next barrier before another has left this one
  char begin;
  const Site* barrier = nullptr;
  uint64_t random = 1;
  Outcome outcome;

  void wake(unsigned i) {
    runners[i].state = State::Ready;
    next.push_back(i);
  }
};
Block* running;  // null between launches
Kernel* kernels;

uint64_t step(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

uint64_t seeded(uint64_t seed) { return (seed + 1) * 2654435761u + 88172645463325252ull; }

template <class T>
void arrange(std::vector<T>& order, Schedule::Kind kind, uint64_t& random) {
  switch (kind) {
    case Schedule::Forward:
      std::sort(order.begin(), order.end());
      break;
    case Schedule::Reverse:
      std::sort(order.begin(), order.end(), [](T a, T b) { return a > b; });
      break;
    case Schedule::Random:
      for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[step(random) % i]);
  }
}

std::string text(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string where(const Runner& runner) {
  return "block " + text(runner.thread.block_index) + " thread " + text(runner.thread.thread_index);
}

std::string place(const Site& site) { return std::string(site.file) + ":" + std::to_string(site.line); }

// ---- a thread

void land(Runner& runner, int before_group) {
  std::vector<Copy> left;
  for (const Copy& copy : runner.copies) {
    if (copy.group < before_group) memcpy(copy.to, copy.from, copy.bytes);
    else left.push_back(copy);
  }
  runner.copies.swap(left);
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
    runner.state = State::Done;
    running->alive--;
    yield(runner.fiber);
  }
}

// ---- a block

void place_threads(Block& block, const Launch& launch, size_t index) {
  const dim3 grid = launch.grid, size = launch.block;
  const uint3 at{unsigned(index % grid.x), unsigned(index / grid.x % grid.y), unsigned(index / grid.x / grid.y)};
  for (unsigned i = 0; i < block.runners.size(); i++) {
    Runner& runner = block.runners[i];
    const uint3 thread{i % size.x, i / size.x % size.y, i / size.x / size.y};
    runner.thread = Thread{thread, at, size, grid, i / 32, i % 32};
    runner.group = 0;
    runner.site = nullptr;
    runner.fiber.sanitizer = tsan_thread(runner.fiber.sanitizer, i, launch.serial);
    block.wake(i);
  }
}

void prepare(Block& block, const Launch& launch, size_t index) {
  const size_t threads = launch.threads();
  if (block.runners.size() != threads) {
    block.runners = std::vector<Runner>(threads);
    for (size_t i = 0; i < threads; i++) make_fiber(block.runners[i].fiber, block.stacks.at(i), runner_main);
  }
  block.warps.resize((threads + 31) / 32);
  for (Warp& warp : block.warps) warp.arrived = 0;
  block.launch = &launch;
  block.alive = unsigned(threads);
  block.at_barrier = 0;
  block.random = seeded(launch.schedule.seed + index);
  block.next.clear();
  if (launch.kernel.shared_end > launch.kernel.shared_begin)
    memset(launch.kernel.shared_begin, 0xff, size_t(launch.kernel.shared_end - launch.kernel.shared_begin));
  place_threads(block, launch, index);
  tsan_release(&block.begin);
}

void report_deadlock(Block& block) {
  const auto waits = [](const Runner& r) { return r.state == State::AtBarrier || r.state == State::InWarp; };
  const Runner& waiting = *std::find_if(block.runners.begin(), block.runners.end(), waits);
  const size_t threads = block.runners.size();
  block.outcome = {ERROR_LAUNCH_FAILED,
                   std::string("kernel ") + block.launch->kernel.name + ": deadlock: " +
                       std::to_string(threads - block.alive) + " of " + std::to_string(threads) +
                       " threads have exited, " + where(waiting) + " waits in " + waiting.site->what + " at " +
                       place(*waiting.site)};
}

void run_block(Block& block, const Launch& launch, size_t index) {
  prepare(block, launch, index);
  while (block.alive && block.outcome.code == SUCCESS) {
    block.now.swap(block.next);
    block.next.clear();
    if (block.now.empty()) return report_deadlock(block);
    arrange(block.now, launch.schedule.kind, block.random);
    for (unsigned i : block.now) {
      block.current = &block.runners[i];
      self = &block.current->thread;
      resume(block.current->fiber);
      block.current = nullptr;
      if (block.outcome.code != SUCCESS) break;
    }
  }
  tsan_acquire(&block);
}

Outcome run_here(Block& block, const Launch& launch, size_t index) {
  scheduler_here();
  block.os_thread = pthread_self();
  block.outcome = Outcome{};
  running = &block;
  run_block(block, launch, index);
  running = nullptr;
  if (block.outcome.code != SUCCESS) block.runners.clear();  // their stacks are left in the middle of something
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
  std::vector<size_t> order(launch.blocks());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  uint64_t random = seeded(schedule.seed);
  arrange(order, schedule.kind, random);
  return run_blocks(launch, order);
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
  for (;;) yield(runner.fiber);
}

void fail(const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  fail_with(ERROR_LAUNCH_FAILED, message);
}

void syncthreads(const Site* site) {
  Block& block = *running;
  Runner& runner = *block.current;
  runner.site = site;
  if (block.at_barrier == 0) block.barrier = site;
  else if (block.barrier->line != site->line || strcmp(block.barrier->file, site->file))
    fail("divergent barrier: this thread is at %s, others wait at %s", place(*site).c_str(),
         place(*block.barrier).c_str());
  char* key = &block.keys[block.generation % 2];
  tsan_release(key);
  runner.state = State::AtBarrier;
  if (++block.at_barrier == block.runners.size()) {
    block.at_barrier = 0;
    block.generation++;
    for (unsigned i = 0; i < block.runners.size(); i++) block.wake(i);
  }
  yield(runner.fiber);
  tsan_acquire(key);
}

void warp_collective(const Site* site, unsigned mask, void* slot, size_t bytes, Exchange exchange, bool fence) {
  Block& block = *running;
  Runner& runner = *block.current;
  runner.site = site;
  const unsigned lane = runner.thread.lane, first = runner.thread.warp * 32;
  const size_t lanes = block.runners.size() - first;
  Warp& warp = block.warps[runner.thread.warp];
  if (!(mask >> lane & 1)) fail("%s: calling lane %u is not in mask %08x", site->what, lane, mask);
  if (bytes > SLOT) fail("%s: %zu bytes, a slot has %zu", site->what, bytes, SLOT);
  if (lanes < 32) mask &= (1u << lanes) - 1;
  if (warp.arrived == 0) {
    warp.site = site;
    warp.mask = mask;
  } else if (warp.mask != mask || warp.site->line != site->line || strcmp(warp.site->what, site->what)) {
    fail("%s: lanes of one warp disagree: mask %08x at %s, others %s with mask %08x at %s", site->what, mask,
         place(*site).c_str(), warp.site->what, warp.mask, place(*warp.site).c_str());
  }
  tsan_copy(warp.slots[lane], slot, bytes);
  warp.arrived |= 1u << lane;
  char* key = &warp.keys[warp.generation % 2];
  if (fence) tsan_release(key);
  runner.state = State::InWarp;
  if (warp.arrived == mask) {
    TsanQuiet quiet;
    exchange(Lanes{warp.slots[0], SLOT, mask});
    warp.arrived = 0;
    warp.generation++;
    // The last lane to arrive yields too, so that it gains no head start.
    for (unsigned i = 0; i < 32; i++)
      if (mask >> i & 1) block.wake(first + i);
  }
  yield(runner.fiber);
  if (fence) tsan_acquire(key);
  tsan_copy(slot, warp.slots[lane], bytes);
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
