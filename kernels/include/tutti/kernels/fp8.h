#pragma once

#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/norm.h>

#include <memory>
#include <variant>

// Linear layers whose products have fp8 operands.
//
// Each of the three operands, x, w and the gradient of y, has a range: the largest magnitude that the last
// step met, as a mean over its microbatches. A power of two brings it to half of what the format holds
// (delayed scaling, Micikevicius et al. 2022). Ranges are parameters of Role::kStatistic that keep the latest
// value: they are summed over ranks as gradients are, are part of checkpoints, and the answer stays the same
// at any number of ranks. The first step computes in bf16 and measures ranges only.
//
// On a CPU, operands are rounded to fp8's numbers and multiplied in bf16, which holds them exactly: the same
// arithmetic, without its speed.
namespace tutti {

/// The first step whose products are in fp8: before, ranges are not known. It comes before a step is captured
/// as a graph, so that its algorithms are measured.
inline constexpr uint64_t kFirstFp8Step = 1;
/// Extents of an fp8 product are multiples of this, or it is done in bf16. Source: cuBLASLt, section "FP8".
inline constexpr int64_t kFp8Multiple = 16;

/// Throws Error if the stream's device is a GPU without fp8. The ops check it in the step before their first
/// in fp8; a program that resumes a training checks it itself.
void require_fp8(const Stream& stream);

/// Ranges of a linear layer, (1) bf16 each; undefined: the layer computes in the compute dtype.
struct Fp8Ranges {
  Var x, w, dy;
  [[nodiscard]] bool defined() const noexcept { return x.value.defined(); }
};

/// A normalization whose values are never in memory: the fp8 layer that reads it, and is its only reader,
/// normalizes while it rounds its operand.
class DeferredNorm {
 public:
  /// What kernels know of it.
  struct Parts;
  explicit DeferredNorm(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  [[nodiscard]] const Parts& parts() const noexcept { return *parts_; }

 private:
  std::shared_ptr<const Parts> parts_;
};

/// Whether the fp8 layer with weight w (outputs, inputs) takes deferred norms of x in this step: on CUDA, in
/// training, and where its products are in fp8.
bool takes_deferred_norm(const Tape& tape, const Var& x, const Var& w);
/// layer_norm and rms_norm for such a layer; shapes and errors as theirs.
DeferredNorm deferred_layer_norm(Tape& tape, const Var& x, const Var& w, const Var& b, double eps = 1e-5);
DeferredNorm deferred_rms_norm(Tape& tape, const Var& x, const Var& w, double eps = 1e-5);
/// add_layer_norm and add_rms_norm for such a layer.
struct AddDeferredNorm {
  Var sum;
  DeferredNorm norm;
};
AddDeferredNorm add_deferred_layer_norm(Tape& tape, const Var& x, const Var& residual, const Var& w,
                                        const Var& b, double eps = 1e-5);
AddDeferredNorm add_deferred_rms_norm(Tape& tape, const Var& x, const Var& residual, const Var& w,
                                      double eps = 1e-5);

/// x of an fp8 layer.
using Fp8Input = std::variant<Var, DeferredNorm>;

/// linear() with fp8 products. Throws Error as linear() does, and for another dtype than bf16.
Var fp8_linear(Tape& tape, const Fp8Input& x, const Var& w, const Var& bias, Activation activation,
               const Fp8Ranges& ranges);

/// Of the two layers of fp8_mlp().
struct Fp8MlpRanges {
  Fp8Ranges up, down;
};
/// mlp() with fp8 products; on CUDA, the activation is applied in the pass that rounds its result.
Var fp8_mlp(Tape& tape, const Fp8Input& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
            Activation activation, const Fp8MlpRanges& ranges);

/// linear_cross_entropy() with fp8 products; ranges.dy is that of the gradient of the logits.
Var fp8_linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                             const LinearCrossEntropyOptions& options, const Fp8Ranges& ranges);

}  // namespace tutti
