// What a running CUDA thread knows of itself and may ask of the runtime. runtime.cpp implements it.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace emu {

struct Thread {
  uint3 thread_index, block_index;
  dim3 block_size, grid_size;
  unsigned warp, lane;
};

// The thread that runs now.
extern Thread* self;

// A place in a kernel where threads wait for each other.
struct Site {
  const char* file;
  int line;
  const char* what;
};
#define EMU_HERE(what)                                    \
  ([]() -> const emu::Site* {                             \
    static const emu::Site site{__FILE__, __LINE__, what}; \
    return &site;                                         \
  }())

void syncthreads(const Site*);

// One exchange within a warp: every lane of `mask` shows a slot, a variable of its own, and the
// last one to come lets `exchange` work on all of them. `fence`: the exchange also orders memory
// accesses, which __syncwarp does and a shuffle does not.
struct Lanes {
  void* const* slots;  // those of lanes in the mask
  unsigned mask;
  template <class T>
  T& at(int lane) const {
    return *static_cast<T*>(slots[lane]);
  }
  bool has(int lane) const { return mask >> lane & 1; }
};
typedef void (*Exchange)(const Lanes&);
void warp_collective(const Site*, unsigned mask, void* slot, Exchange exchange, bool fence = false);

// Asynchronous copies to shared memory. They land as late as is legal: when waited for.
void cp_async(void* to, const void* from, size_t bytes);
void cp_async_commit();
void cp_async_wait(int groups_left);

// Ends the launch: CUDA_ERROR_LAUNCH_FAILED with kernel, block, thread and place.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emu
