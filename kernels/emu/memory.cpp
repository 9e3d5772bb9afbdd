// Device memory and pinned memory. Every allocation ends (to 16 bytes) at pages that fault; what
// lies between is checked when it is freed. New memory is filled with 0xFF, NaN.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "emu/driver.h"

namespace emu {
namespace {

constexpr unsigned char CANARY = 0xc5;
constexpr size_t GUARD = size_t(1) << 20;  // faults, on either side

struct Allocation {
  size_t bytes;
  char* map;
  size_t map_bytes;
  bool pinned;
};
std::map<Address, Allocation> allocations;

size_t padded(size_t bytes) { return (bytes + 15) / 16 * 16; }

// The allocation with the highest address that is not above.
std::map<Address, Allocation>::iterator below(Address address) {
  auto it = allocations.upper_bound(address);
  return it == allocations.begin() ? allocations.end() : --it;
}

Code allocate(Address* out, size_t bytes, bool pinned) {
  if (sticky) return sticky;
  if (bytes == 0) return error(ERROR_INVALID_VALUE, "allocation of 0 bytes");
  if (!pinned && bytes > settings().memory - stats.memory_used)
    return error(ERROR_OUT_OF_MEMORY, "allocation of " + std::to_string(bytes) + " bytes, " +
                                          std::to_string(settings().memory - stats.memory_used) + " are free");
  const size_t page = size_t(sysconf(_SC_PAGESIZE)), body = padded(bytes), pages = (body + page - 1) / page * page;
  void* map = mmap(nullptr, pages + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED || mprotect(static_cast<char*>(map) + GUARD, pages, PROT_READ | PROT_WRITE))
    return error(ERROR_OUT_OF_MEMORY, "the host has no memory left");
  char* start = static_cast<char*>(map) + GUARD + pages - body;
  memset(start, 0xff, bytes);
  memset(start + bytes, CANARY, body - bytes);
  *out = Address(reinterpret_cast<uintptr_t>(start));
  allocations[*out] = {bytes, static_cast<char*>(map), pages + 2 * GUARD, pinned};
  stats.allocations++;
  if (!pinned) stats.memory_peak = std::max(stats.memory_peak, stats.memory_used += bytes);
  return SUCCESS;
}

}  // namespace

bool is_allocated(Address address, size_t bytes) {
  const auto it = below(address);
  return it != allocations.end() && address + bytes <= it->first + it->second.bytes;
}

bool is_pinned(const void* host) {
  const Address address = Address(reinterpret_cast<uintptr_t>(host));
  const auto it = below(address);
  return it != allocations.end() && it->second.pinned && address < it->first + it->second.bytes;
}

Code release(Address address) {
  const auto it = allocations.find(address);
  if (it == allocations.end()) return error(ERROR_INVALID_VALUE, "free of an address that was not allocated");
  const Allocation allocation = it->second;
  const auto* start = reinterpret_cast<const unsigned char*>(address);
  const bool intact = std::all_of(start + allocation.bytes, start + padded(allocation.bytes),
                                  [](unsigned char byte) { return byte == CANARY; });
  munmap(allocation.map, allocation.map_bytes);
  allocations.erase(it);
  if (!allocation.pinned) stats.memory_used -= allocation.bytes;
  if (intact) return SUCCESS;
  return sticky = error(ERROR_ILLEGAL_ADDRESS, "something wrote less than 16 bytes past the end of a " +
                                                   std::to_string(allocation.bytes) + "-byte allocation");
}

std::string describe(uintptr_t address) {
  const auto it = below(address);
  if (it != allocations.end()) {
    const size_t offset = address - it->first, bytes = it->second.bytes;
    if (offset < bytes + GUARD)
      return std::to_string(offset - bytes) + " bytes past the end of a " + std::to_string(bytes) + "-byte allocation";
  }
  const auto above = allocations.upper_bound(address);
  if (above != allocations.end() && above->first - address < GUARD + 4096)
    return std::to_string(above->first - address) + " bytes before a " + std::to_string(above->second.bytes) +
           "-byte allocation";
  char text[64];
  snprintf(text, sizeof text, "%p, near no allocation", reinterpret_cast<void*>(address));
  return text;
}

}  // namespace emu

using namespace emu;

API cuMemGetInfo_v2(size_t* available, size_t* total) {
  LOCK;
  *total = settings().memory;
  *available = *total - stats.memory_used;
  return sticky;
}
API cuMemAlloc_v2(Address* out, size_t bytes) {
  LOCK;
  return allocate(out, bytes, false);
}
API cuMemAllocAsync(Address* out, size_t bytes, void* stream) {
  LOCK;
  if (is_capturing(stream)) return error(ERROR_STREAM_CAPTURE_UNSUPPORTED, "allocation while the stream is captured");
  return allocate(out, bytes, false);
}
API cuMemAllocFromPoolAsync(Address* out, size_t bytes, void*, void* stream) {
  return cuMemAllocAsync(out, bytes, stream);
}
API cuMemFree_v2(Address address) {
  LOCK;
  synchronize_all();
  return release(address);
}
API cuMemFreeAsync(Address address, void* stream) {
  LOCK;
  if (sticky) return release(address), sticky;  // nothing queued will run any more
  return enqueue(stream, [=] { return release(address); });
}
API cuMemHostAlloc(void** out, size_t bytes, unsigned) {
  LOCK;
  Address address = 0;
  const Code code = allocate(&address, bytes, true);
  *out = reinterpret_cast<void*>(address);
  return code;
}
API cuMemFreeHost(void* host) {
  LOCK;
  synchronize_all();
  return release(Address(reinterpret_cast<uintptr_t>(host)));
}

// Memory pools: there is one, and nothing to set.
API cuDeviceGetDefaultMemPool(void** pool, int) {
  *pool = &allocations;
  return SUCCESS;
}
API cuDeviceGetMemPool(void** pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
API cuDeviceSetMemPool(int, void*) { return SUCCESS; }
API cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
API cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }
