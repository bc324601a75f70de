#pragma once

#include <tutti/core/tape.h>

#include <vector>

namespace tutti {

/// Numbers computed by a step and read after it: the host does not wait for the device during the step.
class Readings {
 public:
  void take(const Tensor& numbers, const Stream& stream);
  /// In the order of take(); the device must have completed the last take().
  [[nodiscard]] std::vector<double> values() const;

 private:
  std::vector<Tensor> values_;
};

/// Backward from `loss`. A loss that is not finite makes all gradients NaN, so that every rank detects it in
/// the norm.
void backward_from_loss(Tape& tape, const Var& loss);

}  // namespace tutti
