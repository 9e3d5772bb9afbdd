// The part of the emulator that runs a kernel, as its driver sees it.
#pragma once
#include <stdint.h>

#include <string>

#include "emu/errors.h"
#include "emu/kernel.h"
#include "emu/schedule.h"
#include "emu/thread.h"

namespace emu {

struct Outcome {
  Code code = SUCCESS;
  std::string message;  // names kernel, block and thread
};

const Kernel* find_kernel(const char* name);
// One launch at a time: the caller holds a lock.
Outcome run(const Kernel&, dim3 grid, dim3 block, const void* params, Schedule);

// For the handler of memory faults (fault.cpp), about the calling OS thread:
bool in_kernel();
bool stack_overflow(const void* address);
// The top of the stack of the thread that faulted, free to be used.
char* abandoned_stack();
// Ends the launch, as fail() does.
[[noreturn]] void fail_with(Code, const std::string& message);

// Makes memory faults in kernels errors of the launch.
void catch_faults();

}  // namespace emu
