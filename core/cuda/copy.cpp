// Copies between the CPU and CUDA devices, and between devices.
#include "core/cuda/runtime.h"
#include "core/cuda/tensor_ops.h"

#include <algorithm>
#include <cstring>

namespace tutti::cuda {
namespace {

bool on_cuda(const Tensor& tensor) {
  return tensor.device().type == DeviceType::kCuda;
}

void copy_bytes(void* to, const void* from, int64_t bytes, const Stream& stream) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, native(stream)),
        "cudaMemcpyAsync");
}

// Size of a pinned staging buffer: large enough to saturate the bus, with few page-locked pages.
constexpr int64_t kStagingBytes = int64_t{8} << 20;

/// Contiguous, equal dtypes. A source that is not pinned has been read when this returns.
void to_device(const Tensor& destination, const Tensor& source, const Stream& stream) {
  if (source.storage().pinned()) {
    copy_bytes(destination.raw(), source.raw(), destination.bytes(), stream);
    source.record_use(stream);
    return;
  }
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(destination.raw());
  for (int64_t at = 0; at < destination.bytes(); at += kStagingBytes) {
    const int64_t bytes = std::min(kStagingBytes, destination.bytes() - at);
    const Tensor staging = Tensor::empty_pinned({bytes}, DType::kUInt8, stream);
    std::memcpy(staging.raw(), from + at, static_cast<size_t>(bytes));
    copy_bytes(to + at, staging.raw(), bytes, stream);
    staging.record_use(stream);
  }
}

/// Contiguous, equal dtypes. A destination that is not pinned has been written when this returns.
void to_host(const Tensor& destination, const Tensor& source, const Stream& stream) {
  copy_bytes(destination.raw(), source.raw(), destination.bytes(), stream);
  source.record_use(stream);
  if (destination.storage().pinned())
    destination.record_use(stream);
  else
    stream.synchronize();
}

}  // namespace

void copy(const Tensor& destination, const Tensor& source, const Stream& stream) {
  if (destination.numel() == 0) return;
  const Tensor& on_device = on_cuda(destination) ? destination : source;
  const Stream on =
      stream.device().type == DeviceType::kCuda ? stream : *on_device.storage().allocation_stream();
  const UseDevice use(on.device().index);
  if (destination.device() == source.device()) {
    if (destination.dtype() == source.dtype() && destination.contiguous() && source.contiguous())
      copy_bytes(destination.raw(), source.raw(), destination.bytes(), on);
    else
      convert(destination, source, on);
    destination.record_use(on);
    source.record_use(on);
    return;
  }
  // Before a copy between devices, the source is made contiguous and converted to the destination's dtype on
  // its own device.
  ThreadPool one_thread(1);
  const Stream host = Stream::inline_on(one_thread);
  const auto side_of = [&](const Tensor& tensor) -> const Stream& { return on_cuda(tensor) ? on : host; };
  if (source.dtype() != destination.dtype() || !source.contiguous()) {
    const Tensor plain = Tensor::empty(source.shape(), destination.dtype(), side_of(source));
    tutti::copy(plain, source, side_of(source));
    return tutti::copy(destination, plain, on);
  }
  if (!destination.contiguous()) {
    const Tensor plain = Tensor::empty(destination.shape(), destination.dtype(), side_of(destination));
    tutti::copy(plain, source, on);
    if (!on_cuda(destination)) on.synchronize();
    return tutti::copy(destination, plain, side_of(destination));
  }
  if (!on_cuda(source))
    to_device(destination, source, on);
  else if (!on_cuda(destination))
    to_host(destination, source, on);
  else
    copy_bytes(destination.raw(), source.raw(), destination.bytes(), on);
  destination.record_use(on);
  source.record_use(on);
}

}  // namespace tutti::cuda
