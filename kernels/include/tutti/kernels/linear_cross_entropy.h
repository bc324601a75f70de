#pragma once

#include <tutti/kernels/cross_entropy.h>

namespace tutti {

struct LinearCrossEntropyOptions {
  CrossEntropyOptions loss;
  /// Rows whose logits are held at a time; 0: so many that they take about 64 MiB.
  int64_t chunk_rows = 0;
  double soft_cap = 0;  ///< of the logits, as soft_cap(); 0: none
};

/// cross_entropy of the logits x w^T, of which only those of a chunk of rows are ever held: memory of order
/// chunk V instead of rows V, for a head whose logits are the largest tensor of a step.
/// Shapes: x (..., C), w (V, C) of one dtype (fp32, bf16 or fp64), targets (...) int32 or int64 -> () fp32
/// (fp64 for fp64).
///
/// Gradients are computed forward, chunk by chunk, while the logits are there, and only scaled in backward:
/// nothing is computed twice. Holds dx, and dw in fp32 (fp64 for fp64), until then. The cut follows from the
/// shapes and options alone. Throws Error as linear and cross_entropy do, and on a negative chunk. Source:
/// Wijmans et al. 2024, "Cut your losses in large-vocabulary language models", for the idea of never holding
/// all logits.
Var linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                         const LinearCrossEntropyOptions& options = {});

}  // namespace tutti
