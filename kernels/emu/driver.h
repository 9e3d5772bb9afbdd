// The state behind the driver's entry points, and what their three files share: driver.cpp
// (devices, modules, launches), memory.cpp, stream.cpp (streams, events, copies, graphs).
//
// Everything happens under one lock. There is one context, and an error of a kernel is sticky for
// the whole process, as on a GPU, until smash_emu_reset(). Work is queued on its stream and runs
// only when something waits for it, on the thread that waits: the laziest legal order, so that a
// missing synchronisation shows as a wrong result. SMASH_EMU_EAGER=1 runs it at once.
#pragma once
#include <stdint.h>

#include <functional>
#include <mutex>
#include <string>

#include "emu/errors.h"
#include "emu/runtime.h"

#define API extern "C" __attribute__((visibility("default"))) int

namespace emu {

typedef unsigned long long Address;  // CUdeviceptr

// From the environment, for tests of what a program does on an unusual machine.
struct Settings {
  int driver_version;   // SMASH_EMU_DRIVER_VERSION=12040
  int compute;          // SMASH_EMU_COMPUTE=70: compute capability 7.0
  int devices;          // SMASH_EMU_DEVICES=0: cuInit finds no device
  uint64_t memory;      // SMASH_EMU_MEMORY_MIB=64
  bool eager;           // SMASH_EMU_EAGER=1
  Schedule schedule;    // SMASH_EMU_SCHEDULE=reverse, random:7 or greedy:7
};
const Settings& settings();

// Counters for tests, in the order in which smash_emu_stats gives them.
struct Stats {
  uint64_t memory_used, memory_peak, allocations;
  uint64_t kernels, graph_launches;  // kernels: all that ran, those of graphs too
  uint64_t copies_to_device, copies_from_device, copies_on_device, memsets;
  uint64_t profiler_starts, profiler_stops;
};
extern Stats stats;

std::recursive_mutex& mutex();
#define LOCK std::lock_guard<std::recursive_mutex> guard(emu::mutex())

// Remembers what cuGetErrorString adds to this code.
Code error(Code, const std::string& message);
// The error of an earlier kernel, which every call answers from then on.
extern Code sticky;

// ---- memory.cpp
bool is_allocated(Address, size_t bytes);  // inside one allocation
bool is_pinned(const void* host);
Code release(Address);
// "12 bytes past the end of a 1600-byte allocation"
std::string describe(uintptr_t address);

// ---- stream.cpp
typedef std::function<Code()> Work;
Code enqueue(void* stream, Work);
Code synchronize_all();
bool is_capturing(void* stream);
void forget_queued_work();

}  // namespace emu
