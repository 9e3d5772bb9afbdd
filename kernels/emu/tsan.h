// What the runtime tells ThreadSanitizer; nothing at all in other builds.
//
// A CUDA thread is one of TSan's threads. Those are dear to make (1 ms), so they are kept, and
// thread i takes another one in each block: it must not look ordered after thread i of the block
// before.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef SMASH_EMU_TSAN
#include <sanitizer/tsan_interface.h>

#include <vector>

extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);

namespace emu {

// Accesses of the emulator itself are not looked at.
struct TsanQuiet {
  TsanQuiet() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~TsanQuiet() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

inline void tsan_acquire(void* key) { __tsan_acquire(key); }
inline void tsan_release(void* key) { __tsan_release(key); }
inline std::vector<void*>& tsan_pool() {
  static std::vector<void*> pool;
  return pool;
}
constexpr size_t TSAN_SPARE = 61;
inline void tsan_threads(size_t count) {
  while (tsan_pool().size() < count + TSAN_SPARE) tsan_pool().push_back(__tsan_create_fiber(0));
}
inline void* tsan_thread(void*, size_t i, uint64_t block) {
  return tsan_pool()[(i + block * TSAN_SPARE) % tsan_pool().size()];
}

#else
namespace emu {

struct TsanQuiet {
  TsanQuiet() {}
};
inline void tsan_acquire(void*) {}
inline void tsan_release(void*) {}
inline void* tsan_thread(void* same, size_t, uint64_t) { return same; }

#endif

}  // namespace emu
