#pragma once

#include <tutti/core/tensor.h>

namespace tutti {

/// Consecutive samples of one step's global batch.
struct Batch {
  Tensor inputs;             ///< tokens (B, T) int32, or images (B, H, W, C) fp32
  Tensor targets;            ///< next tokens (B, T) int32, or classes (B) int32; -1 where there is none
  int64_t first_sample = 0;  ///< position of row 0 in the global batch
  [[nodiscard]] int64_t samples() const { return inputs.size(0); }
};

}  // namespace tutti
