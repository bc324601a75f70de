#pragma once

#include <tutti/core/module.h>
#include <tutti/core/train/batch.h>

namespace tutti {

/// Sums over a part of an evaluation set; parts add up exactly as the whole.
struct EvaluationSums {
  double loss = 0;     ///< summed over predictions
  double correct = 0;  ///< predictions whose most probable class is the target
  double count = 0;    ///< predictions: tokens, or images
};

/// What is trained: a model and its loss. models implements it for language modelling and classification.
class Task {
 public:
  virtual ~Task() = default;
  [[nodiscard]] virtual Module& model() = 0;
  /// How many predictions the loss of these targets counts (targets that are not -1).
  [[nodiscard]] virtual double predictions(const Batch& batch) const = 0;
  /// scale * (sum of the losses of the batch's predictions), a scalar in the accumulate dtype. `scale` is one
  /// over the predictions of the global batch, so that the parts of a step add up to its mean, whatever their
  /// sizes.
  virtual Var loss(Tape& tape, const Batch& batch, double scale) = 0;
  /// Runs in inference mode: no dropout, running statistics.
  virtual EvaluationSums evaluate(const Stream& stream, const Batch& batch) = 0;
  /// FLOPs of forward and backward for one sample.
  [[nodiscard]] virtual double flops_per_sample() const = 0;
};

}  // namespace tutti
