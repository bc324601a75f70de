#pragma once

#include "kernels/cases/op_case.h"

namespace tutti {

/// Sizes at which kernels are timed: those of the layers of a transformer and of an image network.
struct KernelSizes {
  int64_t tokens = 4096;
  int64_t context = 256;
  int64_t width = 384;
  int64_t heads = 6;
  int64_t vocabulary = 4096;
  int64_t images = 4;

  /// The sizes of GPT-2 124M and ResNet-50 with the batches of the published CUDA results.
  static KernelSizes for_cuda() {
    return {.tokens = 65536, .context = 1024, .width = 768, .heads = 12, .vocabulary = 50304, .images = 256};
  }
};

/// The minimum memory traffic of an op (each input and output once), and its multiplications and additions.
struct Cost {
  double bytes = 0;
  double flops = 0;  ///< 0 if the op is memory-bound
};

namespace cases {

/// A row at a size at which it is timed.
struct TimedCase {
  std::string name;   ///< "linear, qkv"
  std::string shape;  ///< "4096 x 384 -> 1152"
  Cost forward;
  Cost backward;  ///< 0: backward is not timed
  OpCase row;
};

/// The ops on which training of the recipes spends its time; `element_bytes` is the size of an element of the
/// activations.
std::vector<TimedCase> timed_cases(const KernelSizes& sizes, double element_bytes);

}  // namespace cases
}  // namespace tutti
