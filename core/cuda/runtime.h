#pragma once

#include <tutti/core/error.h>
#include <tutti/core/stream.h>

#include <cuda_runtime.h>

#include <source_location>
#include <string_view>

// For host code of the CUDA backend: what every call of the runtime goes through.
namespace tutti::cuda {

/// Throws Error naming `call`, the current device and CUDA's name and text for `status` unless it is
/// cudaSuccess.
void check(cudaError_t status, std::string_view call,
           std::source_location where = std::source_location::current());

/// Reports a kernel that could not be launched; `kernel` names it.
void check_launch(std::string_view kernel, std::source_location where = std::source_location::current());

/// Makes a device current on this thread while it lives. Afterwards the device of an enclosing UseDevice is
/// current again; the outermost one leaves its device current, as making any other one so would give this
/// process a context, some hundred MiB, on a device that it has no business with.
class UseDevice {
 public:
  explicit UseDevice(int device);
  ~UseDevice();
  UseDevice(const UseDevice&) = delete;
  UseDevice& operator=(const UseDevice&) = delete;

 private:
  int outer_;  // of the enclosing one; -1: none
};

/// The CUDA stream under a Stream of a CUDA device. Throws Error for a stream of the CPU.
cudaStream_t native(const Stream& stream);

}  // namespace tutti::cuda
