#pragma once

#include "kernels/cases/op_case.h"

namespace tutti {

/// Sizes that kernels are timed at: those of a transformer's layers, and of an image network's.
struct KernelSizes {
  int64_t tokens = 4096;
  int64_t context = 256;
  int64_t width = 384;
  int64_t heads = 6;
  int64_t vocabulary = 4096;
  int64_t images = 4;

  /// Of GPT-2 124M and ResNet-50 with the batches that the CUDA figures are given for.
  static KernelSizes for_cuda() {
    return {.tokens = 65536, .context = 1024, .width = 768, .heads = 12, .vocabulary = 50304, .images = 256};
  }
};

/// The least memory traffic of some work (every input and output once) and its multiplications and additions.
struct Cost {
  double bytes = 0;
  double flops = 0;  ///< 0 where memory is the bound
};

namespace cases {

/// A row at a size that it is timed at.
struct TimedCase {
  std::string name;   ///< "linear, qkv"
  std::string shape;  ///< "4096 x 384 -> 1152"
  Cost forward;
  Cost backward;  ///< 0: there is none to time
  OpCase row;
};

/// Every op that training of the recipes spends its time in; `element_bytes` is the size of an activation's
/// element.
std::vector<TimedCase> timed_cases(const KernelSizes& sizes, double element_bytes);

}  // namespace cases
}  // namespace tutti
