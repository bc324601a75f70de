#pragma once

#include <tutti/core/error.h>
#include <tutti/core/stream.h>

#include <cuda_runtime.h>

#include <source_location>
#include <string_view>

// For host code of the CUDA backend: error checks and the current device of calls of the CUDA runtime.
namespace tutti::cuda {

/// Throws Error with `call`, the current device and CUDA's name and text for `status` unless it is
/// cudaSuccess. If a kernel has failed while it ran, with the last one that this thread launched.
void check(cudaError_t status, std::string_view call,
           std::source_location where = std::source_location::current());

/// For a library's call that has failed: throws as check() does if the current device has failed before it,
/// in a kernel or a copy. Libraries only say that they cannot launch.
void check_device(std::string_view call, std::source_location where = std::source_location::current());

/// Of the kernel that this thread has launched last.
void remember_kernel(std::string_view name) noexcept;

/// Makes a device current on this thread during its lifetime. The destructor restores the device of the
/// enclosing UseDevice. The outermost one does not change the current device: setting another one would
/// create a context, some hundred MiB, on a device that this process does not use.
class UseDevice {
 public:
  explicit UseDevice(int device);
  ~UseDevice();
  UseDevice(const UseDevice&) = delete;
  UseDevice& operator=(const UseDevice&) = delete;

 private:
  int outer_;  // of the enclosing one; -1: none
};

/// The CUDA stream of a Stream. Throws Error for a stream of the CPU.
cudaStream_t native(const Stream& stream);

}  // namespace tutti::cuda
