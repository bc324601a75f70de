#pragma once

#include <tutti/core/tensor.h>

#include <vector>

namespace tutti {

/// Consecutive samples of one step's global batch.
struct Batch {
  Tensor inputs;             ///< tokens (B, T) int32, or images (B, H, W, C) fp32
  Tensor targets;            ///< next tokens (B, T) int32, or classes (B) int32; -1 where there is none
  int64_t first_sample = 0;  ///< position of row 0 in the global batch
  Event ready;               ///< when complete, the tensors are filled
  [[nodiscard]] int64_t samples() const { return inputs.size(0); }

  /// Work enqueued on `stream` after this call can read the tensors; their memory is kept until it is done.
  void use_on(const Stream& stream) const;
};

/// Source of batches for the training loop and the evaluation, step by step from its first step. samples,
/// predictions and epoch are the same on all ranks; next returns this rank's part.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Samples in the global batch of `step`: fewer in the last batch of an epoch.
  [[nodiscard]] virtual int64_t samples(int64_t step) const = 0;
  /// Predictions in the loss of that global batch: targets that are not -1.
  [[nodiscard]] virtual double predictions(int64_t step) const = 0;
  /// Passes over the data when `step` begins.
  [[nodiscard]] virtual double epoch(int64_t step) const = 0;
  /// Whether next() would return without waiting.
  [[nodiscard]] virtual bool has_next() { return true; }
  /// Waits until next() would return without waiting, for at most `most_s` seconds. Returns has_next().
  virtual bool wait(double most_s) {
    (void)most_s;
    return true;
  }
  /// This rank's microbatches of the next step, in order.
  virtual std::vector<Batch> next() = 0;
};

}  // namespace tutti
