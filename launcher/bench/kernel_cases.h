#pragma once

#include <tutti/core/tape.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

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

/// What can be timed: an operation with its inputs.
struct KernelWork {
  /// Runs forward on the tape; with a recording tape, what backward needs is kept.
  std::function<Var(Tape& tape)> forward;
  Tensor output_gradient;  ///< of forward's result; undefined: there is no backward
};

/// One operation at one size. Nothing is allocated before prepare().
struct KernelCase {
  std::string name;   ///< "layer_norm"
  std::string shape;  ///< "4096 x 384"
  Cost forward;
  Cost backward;
  std::function<KernelWork(const Stream& stream)> prepare;
};

/// All operations that training of the recipes spends its time in; `dtype` is that of activations: fp32 or
/// bf16.
std::vector<KernelCase> kernel_cases(const KernelSizes& sizes, DType dtype);

}  // namespace tutti
