#pragma once

#include <tutti/core/tape.h>

namespace tutti {

struct CrossEntropyOptions {
  int64_t ignore_index = -1;   ///< rows with this target count nothing and get no gradient
  double label_smoothing = 0;  ///< in [0, 1): the target's probability is 1 - s + s / V, the others' s / V
  double scale = 1;            ///< factor on the sum, usually one over the predictions of the global batch
};

/// scale * the sum over rows of -log softmax(logits)[target].
/// Shapes: logits (..., V) fp32, bf16 or fp64, targets (...) int32 or int64 -> () fp32 (fp64 for fp64
/// logits).
///
/// Saves the logits and one log-sum-exp a row. Backward turns the logits into their gradient in place if
/// nothing but this node holds their storage by then, so that there is one (rows, V) tensor in all; a caller
/// that keeps the logits alive keeps their values and pays with a second tensor. Throws Error if shapes do
/// not fit, or a target is neither in [0, V) nor ignore_index. Source of label smoothing: Szegedy et al.
/// 2016, "Rethinking the Inception architecture", section 7.
Var cross_entropy(Tape& tape, const Var& logits, const Tensor& targets,
                  const CrossEntropyOptions& options = {});

/// Sums over the rows whose target is not `ignore_index`; parts add up as the whole.
struct RowEvaluation {
  double loss = 0;     ///< of -log softmax(logits)[target]
  double correct = 0;  ///< rows whose first largest logit is the target's
  double count = 0;    ///< rows
};

/// Loss and accuracy of logits (..., V) for targets (...), without a tape. Throws Error as cross_entropy
/// does.
RowEvaluation cross_entropy_evaluate(const Stream& stream, const Tensor& logits, const Tensor& targets,
                                     int64_t ignore_index = -1);

}  // namespace tutti
