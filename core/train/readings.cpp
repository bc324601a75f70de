#include "core/train/readings.h"

#include <tutti/core/tape.h>
#include "core/cuda/config.h"
#include "core/cuda/tensor_ops.h"

namespace tutti {

void Readings::take(const Tensor& numbers, const Stream& stream) {
  if (numbers.device().type == DeviceType::kCpu) {
    values_.push_back(numbers);
    return;
  }
  const Tensor pinned = Tensor::empty_pinned(numbers.shape(), numbers.dtype(), stream);
  copy(pinned, numbers, stream);
  values_.push_back(pinned);
}

std::vector<double> Readings::values() const {
  std::vector<double> read;
  read.reserve(values_.size() + 2);  // all but the last are single numbers
  for (const Tensor& value : values_) {
    const Tensor flat = value.view({-1});
    for (int64_t i = 0; i < flat.numel(); ++i) read.push_back(flat.select(0, i).item());
  }
  return read;
}

void backward_from_loss(Tape& tape, const Var& loss) {
  if constexpr (kWithCuda) {
    if (tape.stream().device().type == DeviceType::kCuda)
      return tape.backward(loss, cuda::one_if_finite(loss.value, tape.stream()));
  }
  tape.backward(loss);
}

}  // namespace tutti
