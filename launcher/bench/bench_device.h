#pragma once

#include <tutti/core/tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// What a benchmark runs on: one device and a stream of it.
class BenchDevice {
 public:
  /// `wanted` is auto, cpu or cuda; `threads` 0 for all usable cores. Throws Error if there is no such
  /// device.
  BenchDevice(const std::string& wanted, int64_t threads);

  [[nodiscard]] const Stream& stream() const { return *stream_; }
  [[nodiscard]] bool on_cuda() const { return stream_->device().type == DeviceType::kCuda; }
  [[nodiscard]] int threads() const { return pool_.threads(); }

 private:
  ThreadPool pool_;
  std::unique_ptr<Stream> stream_;
};

/// The processor's or the GPU's model.
std::string device_model(const Device& device);

/// A tensor of normally distributed numbers with deviation 1, the same for the same `seed`. Large tensors
/// repeat a block: to the speed of kernels that makes no difference.
Tensor random_values(const Shape& shape, DType dtype, uint64_t seed, const Stream& stream);

/// An int32 tensor of whole numbers in [0, end), the same for the same `seed`.
Tensor random_indices(const Shape& shape, int64_t end, uint64_t seed, const Stream& stream);

}  // namespace tutti
