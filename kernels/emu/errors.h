// The error codes of the driver that the emulator can answer with.
#pragma once

#define EMU_ERRORS(X)                                                              \
  X(SUCCESS, 0, "no error")                                                        \
  X(ERROR_INVALID_VALUE, 1, "invalid argument")                                    \
  X(ERROR_OUT_OF_MEMORY, 2, "out of memory")                                       \
  X(ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                    \
  X(ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                           \
  X(ERROR_INVALID_IMAGE, 200, "device kernel image is invalid")                    \
  X(ERROR_INVALID_CONTEXT, 201, "invalid device context")                          \
  X(ERROR_NO_BINARY_FOR_GPU, 209, "no kernel image is available for execution on the device") \
  X(ERROR_INVALID_HANDLE, 400, "invalid resource handle")                          \
  X(ERROR_NOT_FOUND, 500, "named symbol not found")                                \
  X(ERROR_NOT_READY, 600, "device not ready")                                      \
  X(ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")        \
  X(ERROR_MISALIGNED_ADDRESS, 716, "misaligned address")                           \
  X(ERROR_LAUNCH_FAILED, 719, "unspecified launch failure")                        \
  X(ERROR_NOT_SUPPORTED, 801, "operation not supported")                           \
  X(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900, "operation not permitted when stream is capturing") \
  X(ERROR_STREAM_CAPTURE_INVALIDATED, 901, "operation failed due to a previous error during capture")

namespace emu {
enum Code : int {
#define EMU_CODE(name, value, text) name = value,
  EMU_ERRORS(EMU_CODE)
#undef EMU_CODE
};
}  // namespace emu
