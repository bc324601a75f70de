#pragma once

#include <tutti/core/tape.h>

#include <vector>

namespace tutti {

/// Numbers that a step computes, read when it is done: the host does not wait for a device in between.
class Readings {
 public:
  void take(const Tensor& numbers, const Stream& stream);
  /// In the order of take(); the device must have passed the last of them.
  [[nodiscard]] std::vector<double> values() const;

 private:
  std::vector<Tensor> values_;
};

/// Backward from `loss`. One that is not finite makes all gradients NaN, so that every rank sees it in the
/// norm.
void backward_from_loss(Tape& tape, const Var& loss);

}  // namespace tutti
