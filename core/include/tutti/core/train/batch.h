#pragma once

#include <tutti/core/tensor.h>

#include <vector>

namespace tutti {

/// Consecutive samples of one step's global batch.
struct Batch {
  Tensor inputs;             ///< tokens (B, T) int32, or images (B, H, W, C) fp32
  Tensor targets;            ///< next tokens (B, T) int32, or classes (B) int32; -1 where there is none
  int64_t first_sample = 0;  ///< position of row 0 in the global batch
  Event ready;               ///< the tensors are filled when it has passed
  [[nodiscard]] int64_t samples() const { return inputs.size(0); }

  /// Work given to `stream` from now on finds the tensors filled, and their memory is kept until it is done.
  void use_on(const Stream& stream) const;
};

/// Where the training loop and the evaluation get their batches from, step by step from the step it was made
/// for. samples, predictions and epoch are the same on all ranks; next gives this rank's part.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Samples in the global batch of `step`: fewer in the last batch of an epoch.
  [[nodiscard]] virtual int64_t samples(int64_t step) const = 0;
  /// Predictions that the losses of that global batch count: targets that are not -1.
  [[nodiscard]] virtual double predictions(int64_t step) const = 0;
  /// Passes over the data when `step` begins.
  [[nodiscard]] virtual double epoch(int64_t step) const = 0;
  /// Whether next() would return batches at once.
  [[nodiscard]] virtual bool has_next() { return true; }
  /// Waits until next() would not wait any more, `most_s` seconds at most. Returns whether that is so.
  virtual bool wait(double most_s) {
    (void)most_s;
    return true;
  }
  /// This rank's microbatches of the next step, in order.
  virtual std::vector<Batch> next() = 0;
};

}  // namespace tutti
