#pragma once

#include <tutti/core/tape.h>

namespace tutti {

struct CrossEntropyOptions {
  int64_t ignore_index = -1;   ///< rows with this target are not in the sum and have no gradient
  double label_smoothing = 0;  ///< in [0, 1): the target's probability is 1 - s + s / V, the others' s / V
  double scale = 1;            ///< factor on the sum, usually one over the predictions of the global batch
  int64_t classes = 0;         ///< V, if the logits have columns of padding behind them; 0: all columns
};

/// scale * the sum over rows of -log softmax(logits)[target].
/// Shapes: logits (..., V) fp32, bf16 or fp64, targets (...) int32 or int64 -> () fp32 (fp64 for fp64
/// logits). Columns behind the classes are not read; their gradient is 0.
///
/// Saves the logits and one log-sum-exp per row. If there is no other reference to the logits' storage,
/// backward overwrites them with their gradient, so that there is only one (rows, V) tensor; otherwise it
/// allocates a second one. Throws Error if shapes do not fit, or a target is neither in [0, V) nor
/// ignore_index (on CUDA, the loss is then NaN). Source of label smoothing: Szegedy et al. 2016, "Rethinking
/// the Inception architecture", section 7.
Var cross_entropy(Tape& tape, const Var& logits, const Tensor& targets,
                  const CrossEntropyOptions& options = {});
/// The same for logits that nothing reads afterwards. On CUDA, forward then replaces them by their gradient,
/// which saves a pass over them, if there is no other reference to their storage.
Var cross_entropy(Tape& tape, Var&& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

/// Sums over the rows whose target is not `ignore_index`; the results of parts can be added.
struct RowEvaluation {
  double loss = 0;     ///< of -log softmax(logits)[target]
  double correct = 0;  ///< rows whose first largest logit is the target's
  double count = 0;    ///< rows
};

/// Loss and accuracy of logits (..., V) for targets (...), without a tape. Throws Error as cross_entropy
/// does. Of the options, label smoothing and scale do not apply.
RowEvaluation cross_entropy_evaluate(const Stream& stream, const Tensor& logits, const Tensor& targets,
                                     const CrossEntropyOptions& options = {});

}  // namespace tutti
