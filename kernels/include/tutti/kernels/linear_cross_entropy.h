#pragma once

#include <tutti/kernels/cross_entropy.h>

namespace tutti {

struct LinearCrossEntropyOptions {
  CrossEntropyOptions loss;
  /// Rows whose logits are in memory at a time; 0: as many as have about 64 MiB of logits, on a GPU 1 GiB.
  int64_t chunk_rows = 0;
  double soft_cap = 0;  ///< soft_cap() of the logits; 0: none
};

/// cross_entropy of the logits x w^T, computed for a chunk of rows at a time: memory of order chunk V instead
/// of rows V, for a head whose logits are the largest tensor of a step.
/// Shapes: x (..., C), w (V, C), with loss.classes also rows of padding, of one dtype (fp32, bf16 or fp64),
/// targets (...) int32 or int64 -> () fp32 (fp64 for fp64).
///
/// Gradients are computed in forward, with the logits of each chunk, and only scaled in backward: nothing is
/// recomputed. Saves dx, and dw in fp32 (fp64 for fp64). Chunks depend on the shapes, the options and the
/// kind of device alone. Throws Error as linear and cross_entropy do, and for a negative chunk. Source of not
/// keeping all logits in memory: Wijmans et al. 2024, "Cut your losses in large-vocabulary language models".
Var linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                         const LinearCrossEntropyOptions& options = {});

}  // namespace tutti
