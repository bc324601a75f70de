#include "launcher/bench/bench_device.h"

#include "launcher/info/machine.h"

#include <tutti/core/parameter.h>
#include <tutti/core/random.h>
#include "core/cuda/config.h"
#include "core/cuda/device.h"

#include <algorithm>

namespace tutti {
namespace {

/// Fills a flat tensor with copies of its first `block` elements.
void repeat(const Tensor& flat, int64_t block, const Stream& stream) {
  for (int64_t at = block; at < flat.numel(); at += block) {
    const int64_t n = std::min(block, flat.numel() - at);
    copy(flat.slice(0, at, at + n), flat.slice(0, 0, n), stream);
  }
}

constexpr int64_t kBlock = int64_t{1} << 18;

}  // namespace

std::string device_model(const Device& device) {
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) return cuda::device_info(device.index).name;
  }
  return machine_info().cpu;
}

Tensor random_values(const Shape& shape, DType dtype, uint64_t seed, const Stream& stream) {
  const Tensor result = Tensor::empty(shape, dtype, stream);
  const Tensor flat = result.view({-1});
  const int64_t n = std::min(kBlock, flat.numel());
  if (n == 0) return result;
  const Parameter drawn{.name = "benchmark", .shape = {n}, .init = Init::normal(1)};
  initialise(drawn, flat.slice(0, 0, n), seed, stream);
  repeat(flat, n, stream);
  return result;
}

Tensor random_indices(const Shape& shape, int64_t end, uint64_t seed, const Stream& stream) {
  std::vector<int32_t> values(static_cast<size_t>(numel(shape)));
  const RandomKey key{.seed = seed, .tensor = stable_hash("benchmark")};
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t word = key.words(i / 4)[i % 4];
    values[i] = static_cast<int32_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(end)) >> 32);
  }
  return Tensor::from(values, shape, stream);
}

}  // namespace tutti
