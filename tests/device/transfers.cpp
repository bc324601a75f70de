// Memory, copies and fills of the CUDA runtime API.
#include "tests/device/engine.h"
#include "tests/device/memory.h"
#include "tests/device/race.h"

#include <cstring>
#include <vector>

using namespace software_cuda;

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = allocate(bytes, current_device());
  return *memory == nullptr ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = settings().memory;
  *free = *total - in_use(current_device());
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  return result(e.error);
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = allocate(bytes, -1);
  return *memory == nullptr ? result(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const cudaError_t error = synchronize(nullptr);
  if (!release(memory, false)) return result(cudaErrorInvalidValue);
  return error;
}

cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const cudaError_t error = synchronize(nullptr);
  if (!release(memory, true)) return result(cudaErrorInvalidValue);
  return error;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Place source = place_of(from, bytes);
  const Place target = place_of(to, bytes);
  if (source == Place::kOutside || target == Place::kOutside) return result(cudaErrorInvalidValue);
  if (source == Place::kPageable && target == Place::kDevice) {  // has been read when this returns
    const auto* const begin = static_cast<const std::byte*>(from);
    return submit(stream, "cudaMemcpyAsync", [to, kept = std::vector<std::byte>(begin, begin + bytes)] {
      race::touch(to, kept.size(), race::Kind::kWrite);
      std::memcpy(to, kept.data(), kept.size());
    });
  }
  return submit(stream, "cudaMemcpyAsync", [=] {
    race::touch(from, bytes, race::Kind::kRead);
    race::touch(to, bytes, race::Kind::kWrite);
    std::memmove(to, from, bytes);
  });
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  if (place_of(memory, bytes) == Place::kOutside) return result(cudaErrorInvalidValue);
  return submit(stream, "cudaMemsetAsync", [=] {
    race::touch(memory, bytes, race::Kind::kWrite);
    std::memset(memory, value, bytes);
  });
}

cudaError_t cudaMemset2DAsync(void* memory, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  if (height == 0 || width == 0) return cudaSuccess;
  if (width > pitch || place_of(memory, (height - 1) * pitch + width) == Place::kOutside)
    return result(cudaErrorInvalidValue);
  return submit(stream, "cudaMemset2DAsync", [=] {
    for (size_t row = 0; row < height; ++row) {
      std::byte* const at = static_cast<std::byte*>(memory) + row * pitch;
      race::touch(at, width, race::Kind::kWrite);
      std::memset(at, value, width);
    }
  });
}
