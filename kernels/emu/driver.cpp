// A libcuda.so that runs kernels on the CPU: the entry points that cudarc calls for devices,
// contexts, modules and launches, and hooks for tests. Loaded in the driver's place, it lets the
// whole CUDA backend run unchanged.
#include "emu/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <vector>

namespace emu {

Stats stats;
Code sticky = SUCCESS;

namespace {

struct Module {
  std::string stem;  // of the kernel file; empty for machine code, which may hold any kernel
};

struct {
  Code code = SUCCESS;
  std::string message;
} last_error;

// The schedule of work that this thread waits for, where it has asked for one.
thread_local bool has_schedule;
thread_local Schedule thread_schedule;

long number(const char* variable, long otherwise) {
  const char* value = getenv(variable);
  return value ? strtol(value, nullptr, 10) : otherwise;
}

Schedule schedule_of(const char* text) {
  Schedule schedule;
  if (!text) return schedule;
  if (!strcmp(text, "reverse")) schedule.kind = Schedule::Reverse;
  if (!strncmp(text, "random", 6)) schedule.kind = Schedule::Random;
  if (!strncmp(text, "greedy", 6)) schedule.kind = Schedule::Greedy;
  if (const char* seed = strchr(text, ':')) schedule.seed = strtoull(seed + 1, nullptr, 10);
  return schedule;
}

const char* code_name(int code, const char** text) {
  switch (code) {
#define EMU_CASE(name, value, words) \
  case value:                        \
    *text = words;                   \
    return "CUDA_" #name;
    EMU_ERRORS(EMU_CASE)
#undef EMU_CASE
  }
  *text = "unknown error";
  return "CUDA_ERROR_UNKNOWN";
}

// A field that is a pointer must hold null or an address of an allocation (or the end of one, for
// tensors without elements).
Code check_pointers(const Kernel& kernel, const char* params) {
  for (size_t i = 0; i < kernel.params->count; i++) {
    const Field& field = kernel.params->fields[i];
    for (size_t at = 0; field.pointer && at < field.size; at += sizeof(Address)) {
      Address address;
      memcpy(&address, params + field.offset + at, sizeof address);
      if (address && !is_allocated(address, 0)) {
        char text[200];
        snprintf(text, sizeof text, "kernel %s: %s is a pointer, and 0x%llx is not device memory", kernel.name,
                 field.name, address);
        return error(ERROR_INVALID_VALUE, text);
      }
    }
  }
  return SUCCESS;
}

Code check_shape(const Kernel& kernel, dim3 grid, dim3 block, unsigned shared) {
  const auto refuse = [&](const std::string& why) {
    return error(ERROR_INVALID_VALUE, std::string("kernel ") + kernel.name + ": " + why);
  };
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || !threads) return refuse("a launch without threads");
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return refuse("the grid has too many blocks");
  if (threads > kernel.max_threads)
    return refuse(std::to_string(threads) + " threads a block, it is declared for " +
                  std::to_string(kernel.max_threads));
  if (shared) return refuse("dynamic shared memory is not emulated");
  return SUCCESS;
}

Code launch(const Kernel& kernel, dim3 grid, dim3 block, unsigned shared, void* stream, const void* params) {
  if (sticky) return sticky;
  if (const Code code = check_shape(kernel, grid, block, shared)) return code;
  const std::vector<char> copy(static_cast<const char*>(params), static_cast<const char*>(params) + kernel.params->size);
  if (const Code code = check_pointers(kernel, copy.data())) return code;
  return enqueue(stream, [=, &kernel] {
    stats.kernels++;
    const Outcome outcome = run(kernel, grid, block, copy.data(), has_schedule ? thread_schedule : settings().schedule);
    return outcome.code ? error(outcome.code, outcome.message) : SUCCESS;
  });
}

// "AddParams 32: a 0 8, b 8 8, y 16 8, len 24 4"
std::string layout(const Params& params) {
  std::string text = std::string(params.name) + " " + std::to_string(params.size);
  for (size_t i = 0; i < params.count; i++) {
    const Field& field = params.fields[i];
    text += std::string(i ? ", " : ": ") + field.name + " " + std::to_string(field.offset) + " " +
            std::to_string(field.size);
  }
  return text;
}

// A string that stays where it is for good.
const char* keep(const std::string& text) {
  static std::set<std::string> texts;
  return texts.insert(text).first->c_str();
}

}  // namespace

const Settings& settings() {
  static const Settings read{int(number("SMASH_EMU_DRIVER_VERSION", 13000)),
                             int(number("SMASH_EMU_COMPUTE", 90)),
                             int(number("SMASH_EMU_DEVICES", 1)),
                             uint64_t(number("SMASH_EMU_MEMORY_MIB", 4096)) << 20,
                             number("SMASH_EMU_EAGER", 0) != 0,
                             schedule_of(getenv("SMASH_EMU_SCHEDULE"))};
  return read;
}

// With SMASH_EMU_STATS=FILE the counters of a program, one per line, when it ends.
__attribute__((destructor)) static void write_stats() {
  const char* path = getenv("SMASH_EMU_STATS");
  FILE* file = path ? fopen(path, "w") : nullptr;
  if (!file) return;
  fprintf(file, "kernels %llu\ngraph_launches %llu\nprofiler_starts %llu\nprofiler_stops %llu\n",
          (unsigned long long)stats.kernels, (unsigned long long)stats.graph_launches,
          (unsigned long long)stats.profiler_starts, (unsigned long long)stats.profiler_stops);
  fclose(file);
}

std::recursive_mutex& mutex() {
  static auto* one = new std::recursive_mutex;  // never destroyed: threads may outlive static objects
  return *one;
}

Code error(Code code, const std::string& message) {
  last_error = {code, message};
  return code;
}

}  // namespace emu

using namespace emu;

// ---- devices and contexts
API cuInit(unsigned) {
  LOCK;
  if (settings().devices <= 0) return ERROR_NO_DEVICE;
  static bool first = true;
  if (first) catch_faults();
  first = false;
  return SUCCESS;
}
API cuDriverGetVersion(int* out) {
  *out = settings().driver_version;
  return SUCCESS;
}
API cuDeviceGetCount(int* out) {
  *out = settings().devices;
  return SUCCESS;
}
API cuDeviceGet(int* out, int ordinal) {
  *out = ordinal;
  return ordinal >= 0 && ordinal < settings().devices ? SUCCESS : ERROR_INVALID_DEVICE;
}
API cuDeviceGetName(char* out, int size, int) {
  snprintf(out, size_t(size), "smash CPU emulator");
  return SUCCESS;
}
API cuDeviceGetUuid_v2(char* out, int device) {
  memcpy(out, "smash emulator ", 15);
  out[15] = char(device);
  return SUCCESS;
}
API cuDeviceGetUuid(char* out, int device) { return cuDeviceGetUuid_v2(out, device); }
API cuDeviceTotalMem_v2(size_t* out, int) {
  *out = settings().memory;
  return SUCCESS;
}
API cuDeviceGetAttribute(int* out, int attribute, int) {
  switch (attribute) {
    case 1: *out = 1024; break;                      // threads per block
    case 8: *out = 48 << 10; break;                  // shared memory per block
    case 10: *out = 32; break;                       // warp size
    case 12: *out = 65536; break;                    // registers per block
    case 13: *out = 1000000; break;                  // clock, kHz
    case 16: *out = 4; break;                        // multiprocessors
    case 36: *out = 1000000; break;                  // memory clock, kHz
    case 37: *out = 256; break;                      // width of the memory bus, bits
    case 38: *out = 4 << 20; break;                  // L2 cache, bytes
    case 39: *out = 2048; break;                     // threads per multiprocessor
    case 75: *out = settings().compute / 10; break;  // compute capability
    case 76: *out = settings().compute % 10; break;
    case 115: *out = 1; break;                       // memory pools
    default: *out = 0;
  }
  return SUCCESS;
}
API cuDevicePrimaryCtxRetain(void** out, int) {
  *out = &stats;  // any address will do: there is one context
  return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void*) { return SUCCESS; }
API cuCtxGetCurrent(void** out) { return cuDevicePrimaryCtxRetain(out, 0); }
API cuCtxGetDevice(int* out) {
  *out = 0;
  return SUCCESS;
}
API cuCtxSetFlags(unsigned) { return SUCCESS; }
API cuCtxGetLimit(size_t* out, int) {
  *out = 0;
  return SUCCESS;
}
API cuCtxSetLimit(int, size_t) { return SUCCESS; }
API cuCtxSynchronize() {
  LOCK;
  return synchronize_all();
}
API cuProfilerStart() {
  LOCK;
  stats.profiler_starts++;
  return SUCCESS;
}
API cuProfilerStop() {
  LOCK;
  stats.profiler_stops++;
  return SUCCESS;
}

// ---- modules
// The kernels are already here. An image is the marker that a build without nvcc embeds, which
// names the kernel file, or something that looks like machine code or PTX.
API cuModuleLoadData(void** out, const void* image) {
  static const char marker[] = "SMASH-KERNELS ";
  const char* text = static_cast<const char*>(image);
  if (!strncmp(text, marker, sizeof marker - 1)) {
    *out = new Module{text + sizeof marker - 1};
    return SUCCESS;
  }
  const unsigned char fatbin[] = {0x50, 0xed, 0x55, 0xba};
  if (memcmp(image, fatbin, 4) && memcmp(image, "\x7f" "ELF", 4) && strncmp(text, "//", 2)) return ERROR_INVALID_IMAGE;
  *out = new Module;
  return SUCCESS;
}
API cuModuleUnload(void* module) {
  delete static_cast<Module*>(module);
  return SUCCESS;
}
API cuModuleGetFunction(void** out, void* module, const char* name) {
  LOCK;
  const std::string stem = static_cast<Module*>(module)->stem;
  const Kernel* kernel = find_kernel(name);
  if (!kernel || (!stem.empty() && strncmp(name, (stem + "_").c_str(), stem.size() + 1)))
    return error(ERROR_NOT_FOUND, std::string("no kernel ") + name + (stem.empty() ? "" : " in " + stem + ".cu"));
  *out = const_cast<Kernel*>(kernel);
  return SUCCESS;
}
API cuFuncGetAttribute(int* out, int attribute, void* function) {
  *out = attribute == 0 ? int(static_cast<Kernel*>(function)->max_threads) : 0;
  return SUCCESS;
}
API cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* size) {
  if (index > 0) return ERROR_INVALID_VALUE;
  *offset = 0;
  *size = static_cast<Kernel*>(function)->params->size;
  return SUCCESS;
}

// ---- launches
API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** params, void**) {
  LOCK;
  return launch(*static_cast<Kernel*>(function), {gx, gy, gz}, {bx, by, bz}, shared, stream, params[0]);
}
struct LaunchConfig {  // CUlaunchConfig
  unsigned gx, gy, gz, bx, by, bz, shared;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};
API cuLaunchKernelEx(const LaunchConfig* c, void* function, void** params, void**) {
  LOCK;
  return launch(*static_cast<Kernel*>(function), {c->gx, c->gy, c->gz}, {c->bx, c->by, c->bz}, c->shared, c->stream,
                params[0]);
}

// ---- errors
API cuGetErrorName(int code, const char** out) {
  const char* text;
  *out = code_name(code, &text);
  return SUCCESS;
}
API cuGetErrorString(int code, const char** out) {
  LOCK;
  const char* text;
  code_name(code, &text);
  const bool known = code != SUCCESS && code == last_error.code;
  *out = known ? keep(std::string(text) + ": " + last_error.message) : text;
  return SUCCESS;
}

// ---- for tests
// How blocks and threads are ordered (0 forward, 1 reverse, 2 random, 3 greedy) in work that
// the calling thread waits for.
API smash_emu_set_schedule(int kind, uint64_t seed) {
  if (kind < 0 || kind > 3) return ERROR_INVALID_VALUE;
  has_schedule = true;
  thread_schedule = {Schedule::Kind(kind), seed};
  return SUCCESS;
}
// Forgets a sticky error and all queued work.
API smash_emu_reset() {
  LOCK;
  sticky = SUCCESS;
  last_error = {};
  forget_queued_work();
  return SUCCESS;
}
// The first `count` counters of Stats.
API smash_emu_stats(uint64_t* out, size_t count) {
  LOCK;
  if (count > sizeof stats / sizeof(uint64_t)) return ERROR_INVALID_VALUE;
  memcpy(out, &stats, count * sizeof(uint64_t));
  return SUCCESS;
}
// The parameter struct of a kernel as the compiler laid it out.
API smash_emu_layout(const char* name, const char** out) {
  LOCK;
  const Kernel* kernel = find_kernel(name);
  if (!kernel) return error(ERROR_NOT_FOUND, std::string("no kernel ") + name);
  *out = keep(layout(*kernel->params));
  return SUCCESS;
}
