#pragma once

#include <tutti/core/tape.h>
#include "kernels/cases/timed_case.h"

#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// An operation with its inputs, for timing.
struct KernelWork {
  /// Runs forward on the tape; with a recording tape, the tensors for backward are kept.
  std::function<Var(Tape& tape)> forward;
  Tensor output_gradient;  ///< of forward's result; undefined if there is no backward
};

/// One operation at one size. Nothing is allocated before prepare().
struct KernelCase {
  std::string name;   ///< "layer_norm"
  std::string shape;  ///< "4096 x 384"
  Cost forward;
  Cost backward;
  std::function<KernelWork(const Stream& stream)> prepare;
};

/// The operations that take most of the time of training: the rows of kernels/cases at these sizes,
/// operations that are not ops of a tape, and ops in fp8. `dtype` is that of activations: fp32 or bf16.
std::vector<KernelCase> kernel_cases(const KernelSizes& sizes, DType dtype);

}  // namespace tutti
