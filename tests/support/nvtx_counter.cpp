// A profiler that only counts: tests/it/profile.rs loads it through NVTX_INJECTION64_PATH.
//
// At exit it writes to the file named by NVTX_COUNTS, one fact per line:
//   domain NAME
//   category NUMBER NAME
//   range PARENT/NAME CATEGORY COUNT   (PARENT is "-" outside of all ranges)
//   payload NAME VALUES...             (in order; names that have any)
//   pops COUNT
//   stray COUNT                        (pops without a push)
//   open COUNT                         (pushes without a pop, at exit)
// The protocol: NVTX 3 headers, nvtxTypes.h. Nothing of theirs is included, so that numbers and layouts
// are here a second time.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Event {
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const char* message;
};
static_assert(sizeof(Event) == 48 && offsetof(Event, payload) == 24 && offsetof(Event, message) == 40, "as in NVTX");

using Function = void (*)();
using Table = Function**;

struct Callbacks {
    size_t size;
    int (*module)(int, Table*, unsigned*);
};

struct VersionInfo {
    size_t size;
    uint32_t version, reserved;
    void (*set_version)(uint32_t);
};

enum { CALLBACKS = 1, VERSION_INFO = 3 };
enum { CORE2 = 5, PUSH_EX = 4, POP = 5, NAME_CATEGORY = 8, CREATE = 12 };
const unsigned SIZES[] = {0, 16, 9, 15, 7, 16, 7};

std::mutex lock;
std::string domains, categories;
std::map<std::pair<std::string, uint32_t>, unsigned long> ranges;
std::map<std::string, std::vector<uint64_t>> payloads;
unsigned long pushes, pops, stray;
thread_local std::vector<std::string> open_ranges;
int domain_handle;

void* create(const char* name) {
    domains += std::string("domain ") + name + "\n";
    return &domain_handle;
}

void name_category(void* domain, uint32_t category, const char* name) {
    if (domain == &domain_handle) {
        categories += "category " + std::to_string(category) + " " + name + "\n";
    }
}

int push(void* domain, const Event* event) {
    std::lock_guard<std::mutex> guard(lock);
    if (domain != &domain_handle || event->version != 3 || event->size != sizeof(Event) || event->message_type != 1) {
        std::abort();
    }
    const std::string parent = open_ranges.empty() ? "-" : open_ranges.back();
    ranges[{parent + "/" + event->message, event->category}]++;
    if (event->payload_type == 1) {
        payloads[event->message].push_back(event->payload);
    }
    open_ranges.push_back(event->message);
    pushes++;
    return static_cast<int>(open_ranges.size()) - 1;
}

int pop(void* domain) {
    std::lock_guard<std::mutex> guard(lock);
    if (domain != &domain_handle || open_ranges.empty()) {
        stray++;
        return -1;
    }
    open_ranges.pop_back();
    pops++;
    return static_cast<int>(open_ranges.size());
}

void report() {
    std::FILE* file = std::fopen(std::getenv("NVTX_COUNTS"), "w");
    if (!file) {
        std::abort();
    }
    std::fprintf(file, "%s%s", domains.c_str(), categories.c_str());
    for (const auto& [range, count] : ranges) {
        std::fprintf(file, "range %s %u %lu\n", range.first.c_str(), range.second, count);
    }
    for (const auto& [name, values] : payloads) {
        std::fprintf(file, "payload %s", name.c_str());
        for (uint64_t value : values) {
            std::fprintf(file, " %llu", static_cast<unsigned long long>(value));
        }
        std::fprintf(file, "\n");
    }
    std::fprintf(file, "pops %lu\nstray %lu\nopen %lu\n", pops, stray, pushes - pops);
    std::fclose(file);
}

}  // namespace

// Returns 0, "do not profile", where the program does not keep to the protocol.
extern "C" int InitializeInjectionNvtx2(const void* (*export_table)(uint32_t)) {
    if (!std::getenv("NVTX_COUNTS")) {
        return 0;
    }
    const auto* version = static_cast<const VersionInfo*>(export_table(VERSION_INFO));
    const auto* callbacks = static_cast<const Callbacks*>(export_table(CALLBACKS));
    if (!version || version->size != sizeof(VersionInfo) || version->version != 3 || export_table(2) ||
        !callbacks || callbacks->size != sizeof(Callbacks)) {
        return 0;
    }
    version->set_version(3);
    Table table = nullptr;
    unsigned size = 0;
    for (int module = 1; module <= 6; module++) {
        if (!callbacks->module(module, &table, &size) || size != SIZES[module] || table[0] || table[size]) {
            return 0;
        }
        for (unsigned slot = 1; slot < size; slot++) {
            if (!table[slot] || *table[slot]) {
                return 0;
            }
        }
    }
    if (callbacks->module(0, &table, &size) || callbacks->module(7, &table, &size) ||
        !callbacks->module(CORE2, &table, nullptr)) {
        return 0;
    }
    *table[PUSH_EX] = reinterpret_cast<Function>(push);
    *table[POP] = reinterpret_cast<Function>(pop);
    *table[NAME_CATEGORY] = reinterpret_cast<Function>(name_category);
    *table[CREATE] = reinterpret_cast<Function>(create);
    std::atexit(report);
    return 1;
}
