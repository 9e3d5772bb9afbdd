// Streams, events, copies and graphs. A stream is a queue of work; a captured graph is a list of
// work (one stream at a time is captured, so its nodes are in order).
#include <string.h>
#include <time.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "emu/driver.h"

namespace emu {
namespace {

struct Event;
struct Graph {
  std::vector<Work> nodes;
};
typedef std::shared_ptr<Graph> GraphRef;

struct Stream {
  struct Item {
    Event* event;  // that has happened when this is reached, or null
    Work work;
  };
  std::deque<Item> queue;
  GraphRef capture;
};
struct Event {
  bool pending = false;
  double milliseconds = 0;
  Stream* stream = nullptr;
};

Stream null_stream;
std::map<void*, std::unique_ptr<Stream>> streams;

// 0, 1 and 2: the default stream and its variants.
Stream* stream_of(void* handle) {
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &null_stream;
  const auto it = streams.find(handle);
  return it == streams.end() ? nullptr : it->second.get();
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) * 1e3 + double(t.tv_nsec) * 1e-6;
}

void run_one(Stream& stream) {
  const Stream::Item item = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (item.event) {
    item.event->pending = false;
    item.event->milliseconds = now();
  }
  if (sticky || !item.work) return;
  if (const Code code = item.work()) sticky = code;
}

Code drain(Stream& stream) {
  while (!stream.queue.empty()) run_one(stream);
  return sticky;
}

Code wait_for(Event& event) {
  while (event.pending) run_one(*event.stream);
  return sticky;
}

Code refuse_capture(const char* what) {
  return error(ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(what) + " while the stream is captured");
}

Code push(void* handle, Event* event, Work work) {
  if (sticky) return sticky;
  Stream* stream = stream_of(handle);
  if (!stream) return error(ERROR_INVALID_HANDLE, "no such stream");
  if (stream->capture) {
    if (work) stream->capture->nodes.push_back(std::move(work));
    return SUCCESS;
  }
  if (event) {
    event->pending = true;
    event->stream = stream;
  }
  stream->queue.push_back({event, std::move(work)});
  return settings().eager ? drain(*stream) : SUCCESS;
}

Code check_range(const char* what, Address address, size_t bytes) {
  if (is_allocated(address, bytes)) return SUCCESS;
  return error(ERROR_INVALID_VALUE, std::string(what) + ": the address range does not lie in one allocation");
}

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

Code fill(Address to, uint32_t value, size_t width, size_t count, void* stream) {
  if (const Code code = check_range("memset", to, width * count)) return code;
  return enqueue(stream, [=] {
    stats.memsets++;
    for (size_t i = 0; i < count; i++) memcpy(static_cast<char*>(pointer(to)) + i * width, &value, width);
    return SUCCESS;
  });
}

Work upload(Address to, const void* from, size_t bytes) {
  return [=] {
    stats.copies_to_device++;
    memcpy(pointer(to), from, bytes);
    return SUCCESS;
  };
}

}  // namespace

Code enqueue(void* stream, Work work) { return push(stream, nullptr, std::move(work)); }

bool is_capturing(void* handle) {
  const Stream* stream = stream_of(handle);
  return stream && stream->capture;
}

Code synchronize_all() {
  drain(null_stream);
  for (auto& stream : streams) drain(*stream.second);
  return sticky;
}

void forget_queued_work() {
  const auto forget = [](Stream& stream) {
    for (Stream::Item& item : stream.queue)
      if (item.event) item.event->pending = false;
    stream.queue.clear();
  };
  forget(null_stream);
  for (auto& stream : streams) forget(*stream.second);
}

}  // namespace emu

using namespace emu;

// ---- streams
API cuStreamCreate(void** out, unsigned) {
  LOCK;
  if (sticky) return sticky;
  auto stream = std::make_unique<Stream>();
  *out = stream.get();
  streams[*out] = std::move(stream);
  return SUCCESS;
}
API cuStreamCreateWithPriority(void** out, unsigned flags, int) { return cuStreamCreate(out, flags); }
API cuStreamDestroy_v2(void* handle) {
  LOCK;
  if (Stream* stream = stream_of(handle)) drain(*stream);
  return streams.erase(handle) ? SUCCESS : error(ERROR_INVALID_HANDLE, "no such stream");
}
API cuStreamSynchronize(void* handle) {
  LOCK;
  if (is_capturing(handle)) return refuse_capture("synchronize");
  Stream* stream = stream_of(handle);
  return stream ? drain(*stream) : error(ERROR_INVALID_HANDLE, "no such stream");
}
// A query lets the stream do one piece of work, so that a loop of queries ends.
API cuStreamQuery(void* handle) {
  LOCK;
  Stream* stream = stream_of(handle);
  if (!stream) return error(ERROR_INVALID_HANDLE, "no such stream");
  if (!stream->queue.empty()) run_one(*stream);
  return sticky ? sticky : stream->queue.empty() ? SUCCESS : ERROR_NOT_READY;
}
API cuStreamWaitEvent(void* handle, void* event, unsigned) {
  LOCK;
  Event* awaited = static_cast<Event*>(event);
  if (!awaited->pending || awaited->stream == stream_of(handle)) return sticky;
  if (is_capturing(handle)) return refuse_capture("waiting for an event from outside the capture");
  return enqueue(handle, [=] { return wait_for(*awaited); });
}

// ---- events
API cuEventCreate(void** out, unsigned) {
  *out = new Event;
  return SUCCESS;
}
API cuEventDestroy_v2(void* event) {
  LOCK;
  wait_for(*static_cast<Event*>(event));
  delete static_cast<Event*>(event);
  return SUCCESS;
}
API cuEventRecord(void* event, void* stream) {
  LOCK;
  return push(stream, static_cast<Event*>(event), nullptr);
}
API cuEventQuery(void* handle) {
  LOCK;
  Event* event = static_cast<Event*>(handle);
  if (event->pending) run_one(*event->stream);
  return sticky ? sticky : event->pending ? ERROR_NOT_READY : SUCCESS;
}
API cuEventSynchronize(void* event) {
  LOCK;
  return wait_for(*static_cast<Event*>(event));
}
API cuEventElapsedTime_v2(float* out, void* from, void* to) {
  LOCK;
  for (void* event : {from, to})
    if (const Code code = wait_for(*static_cast<Event*>(event))) return code;
  *out = float(static_cast<Event*>(to)->milliseconds - static_cast<Event*>(from)->milliseconds);
  return SUCCESS;
}
API cuEventElapsedTime(float* out, void* from, void* to) { return cuEventElapsedTime_v2(out, from, to); }

// ---- copies
API cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
  LOCK;
  if (const Code code = check_range("copy to the device", to, bytes)) return code;
  if (is_pinned(from)) return enqueue(stream, upload(to, from, bytes));
  if (is_capturing(stream)) return refuse_capture("copy from pageable memory");
  // Pageable memory has been read when the call returns.
  const std::string staged(static_cast<const char*>(from), bytes);
  return enqueue(stream, [=] { return upload(to, staged.data(), bytes)(); });
}
API cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
  LOCK;
  if (const Code code = check_range("copy from the device", from, bytes)) return code;
  if (!is_pinned(to) && is_capturing(stream)) return refuse_capture("copy to pageable memory");
  const Code code = enqueue(stream, [=] {
    stats.copies_from_device++;
    memcpy(to, pointer(from), bytes);
    return SUCCESS;
  });
  // Pageable memory has been written when the call returns.
  return code || is_pinned(to) ? code : drain(*stream_of(stream));
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
  LOCK;
  if (const Code code = check_range("copy on the device", from, bytes)) return code;
  if (const Code code = check_range("copy on the device", to, bytes)) return code;
  return enqueue(stream, [=] {
    stats.copies_on_device++;
    memmove(pointer(to), pointer(from), bytes);
    return SUCCESS;
  });
}
API cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  LOCK;
  const int code = cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
  return code ? code : drain(null_stream);
}
API cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  LOCK;
  const int code = cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
  return code ? code : drain(null_stream);
}
API cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }
API cuMemsetD8Async(Address to, unsigned char value, size_t count, void* stream) {
  LOCK;
  return fill(to, value, 1, count, stream);
}
API cuMemsetD32Async(Address to, unsigned value, size_t count, void* stream) {
  LOCK;
  return fill(to, value, 4, count, stream);
}
API cuMemsetD8_v2(Address to, unsigned char value, size_t count) { return cuMemsetD8Async(to, value, count, nullptr); }
API cuMemsetD32_v2(Address to, unsigned value, size_t count) { return cuMemsetD32Async(to, value, count, nullptr); }

// ---- graphs
API cuStreamBeginCapture_v2(void* handle, int) {
  LOCK;
  Stream* stream = stream_of(handle);
  if (!stream || stream == &null_stream || stream->capture) return refuse_capture("begin of a capture");
  stream->capture = std::make_shared<Graph>();
  return sticky;
}
API cuStreamIsCapturing(void* handle, int* status) {
  LOCK;
  *status = is_capturing(handle);
  return SUCCESS;
}
API cuStreamEndCapture(void* handle, void** out) {
  LOCK;
  if (!is_capturing(handle)) return error(ERROR_INVALID_VALUE, "the stream is not being captured");
  *out = new GraphRef(std::move(stream_of(handle)->capture));
  return SUCCESS;
}
API cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
  *out = new GraphRef(*static_cast<GraphRef*>(graph));
  return SUCCESS;
}
API cuGraphLaunch(void* executable, void* stream) {
  LOCK;
  const GraphRef graph = *static_cast<GraphRef*>(executable);
  return enqueue(stream, [=] {
    stats.graph_launches++;
    for (const Work& node : graph->nodes)
      if (const Code code = node()) return code;
    return SUCCESS;
  });
}
API cuGraphUpload(void*, void*) { return SUCCESS; }
API cuGraphExecDestroy(void* executable) {
  delete static_cast<GraphRef*>(executable);
  return SUCCESS;
}
API cuGraphDestroy(void* graph) {
  delete static_cast<GraphRef*>(graph);
  return SUCCESS;
}
