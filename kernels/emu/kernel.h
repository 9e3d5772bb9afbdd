// How a kernel is declared for the emulator: SMASH_PARAMS and SMASH_KERNEL of common.cuh, and the
// list of kernels that they fill when the library is loaded.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "emu/thread.h"

namespace emu {

struct Field {
  const char* name;
  size_t offset, size, align;
  bool pointer;  // or an array of pointers
};

struct Params {
  const char* name;
  size_t size;
  const Field* fields;
  size_t count;
};

struct Kernel {
  const char* name;
  unsigned max_threads;  // __launch_bounds__
  const Params* params;
  void (*call)(const void* params);
  char *shared_begin, *shared_end;  // the shared memory of all kernels in its file
  Kernel* next;
};
void add_kernel(Kernel*);

// Specialised by SMASH_PARAMS.
template <class Struct>
struct ParamsOf;

template <class T>
struct IsPointer {
  static constexpr bool value = false;
};
template <class T>
struct IsPointer<T*> {
  static constexpr bool value = true;
};
template <class T, size_t N>
struct IsPointer<T[N]> : IsPointer<T> {};

// Do the fields, each at its alignment, fill the struct? If not, one was left out.
template <size_t N>
constexpr bool complete(const Field (&fields)[N], size_t size, size_t align) {
  size_t end = 0;
  for (const Field& field : fields) {
    if ((end + field.align - 1) / field.align * field.align != field.offset) return false;
    end = field.offset + field.size;
  }
  return (end + align - 1) / align * align == size;
}

}  // namespace emu

// EMU_EACH(m, x, a, b, c) is m(x, a) m(x, b) m(x, c), for up to 64 names.
#define EMU_PARENS ()
#define EMU_AGAIN(...) EMU_AGAIN2(EMU_AGAIN2(EMU_AGAIN2(EMU_AGAIN2(__VA_ARGS__))))
#define EMU_AGAIN2(...) EMU_AGAIN1(EMU_AGAIN1(EMU_AGAIN1(EMU_AGAIN1(__VA_ARGS__))))
#define EMU_AGAIN1(...) EMU_AGAIN0(EMU_AGAIN0(EMU_AGAIN0(EMU_AGAIN0(__VA_ARGS__))))
#define EMU_AGAIN0(...) __VA_ARGS__
#define EMU_EACH(macro, x, ...) __VA_OPT__(EMU_AGAIN(EMU_STEP(macro, x, __VA_ARGS__)))
#define EMU_STEP(macro, x, first, ...) macro(x, first) __VA_OPT__(EMU_STEP_NAME EMU_PARENS(macro, x, __VA_ARGS__))
#define EMU_STEP_NAME() EMU_STEP

#define EMU_FIELD(Struct, field)                                                                     \
  {#field, offsetof(Struct, field), sizeof(Struct::field), alignof(decltype(Struct::field)), \
   emu::IsPointer<decltype(Struct::field)>::value},

#define SMASH_PARAMS(Struct, ...)                                                            \
  template <>                                                                                \
  struct emu::ParamsOf<Struct> {                                                             \
    static constexpr Field fields[] = {EMU_EACH(EMU_FIELD, Struct, __VA_ARGS__)};            \
    static_assert(complete(fields, sizeof(Struct), alignof(Struct)),                         \
                  "SMASH_PARAMS(" #Struct ") must list every field, in order");              \
    static constexpr Params params{#Struct, sizeof(Struct), fields, sizeof fields / sizeof fields[0]}; \
  };

// The build gathers the static variables of a kernel file, which are its shared memory, in a
// section of their own (shared.ld), so that the runtime can fill it and nothing else.
#ifdef SMASH_EMU_SHARED
#define EMU_JOIN2(a, b) a##b
#define EMU_JOIN(a, b) EMU_JOIN2(a, b)
#define EMU_SHARED_BEGIN EMU_JOIN(__start_, SMASH_EMU_SHARED)
#define EMU_SHARED_END EMU_JOIN(__stop_, SMASH_EMU_SHARED)
extern "C" __attribute__((visibility("hidden"), weak)) char EMU_SHARED_BEGIN[], EMU_SHARED_END[];
#else
#define EMU_SHARED_BEGIN nullptr
#define EMU_SHARED_END nullptr
#endif

#define SMASH_KERNEL(threads, name, Struct)                                                       \
  extern "C" void name(const Struct p);                                                           \
  __attribute__((constructor)) static void emu_add_##name() {                                     \
    static emu::Kernel kernel{#name,                                                              \
                              threads,                                                            \
                              &emu::ParamsOf<Struct>::params,                                     \
                              [](const void* p) { name(*static_cast<const Struct*>(p)); },        \
                              EMU_SHARED_BEGIN,                                                   \
                              EMU_SHARED_END,                                                     \
                              nullptr};                                                           \
    emu::add_kernel(&kernel);                                                                     \
  }                                                                                               \
  extern "C" void name(const Struct p)
