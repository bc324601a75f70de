#pragma once

#include <tutti/core/module.h>
#include <tutti/core/train/batch.h>

namespace tutti {

/// Sums over a part of an evaluation set; the sum over all parts is that of the whole set.
struct EvaluationSums {
  double loss = 0;     ///< summed over predictions
  double correct = 0;  ///< predictions whose most probable class is the target
  double count = 0;    ///< predictions: tokens, or images
};

/// A model and its loss. models implements it for language modelling and classification.
class Task {
 public:
  virtual ~Task() = default;
  [[nodiscard]] virtual Module& model() = 0;
  /// Number of predictions in the loss of these targets (targets that are not -1).
  [[nodiscard]] virtual double predictions(const Batch& batch) const = 0;
  /// scale * (sum of the losses of the batch's predictions), a scalar in the accumulate dtype. `scale` is one
  /// over the predictions of the global batch, so that the sum over the parts of a step is its mean, for
  /// parts of any size.
  virtual Var loss(Tape& tape, const Batch& batch, double scale) = 0;
  /// Runs in inference mode: no dropout, running statistics.
  virtual EvaluationSums evaluate(const Stream& stream, const Batch& batch) = 0;
  /// FLOPs of forward and backward for one sample.
  [[nodiscard]] virtual double flops_per_sample() const = 0;
};

}  // namespace tutti
