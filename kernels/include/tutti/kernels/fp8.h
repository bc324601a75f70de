#pragma once

#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/norm.h>

#include <memory>
#include <variant>

// Linear layers whose products have fp8 operands.
//
// Each of the three operands, x, w and the gradient of y, has a range: its largest magnitude in the previous
// step, averaged over the microbatches. The operand is scaled by a power of two that brings the range to half
// of the format's maximum (delayed scaling, Micikevicius et al. 2022). Ranges are parameters of
// Role::kStatistic that keep the latest value: they are reduced over ranks like gradients, are saved in
// checkpoints, and are the same for any number of ranks. The first step is in bf16 and only measures ranges.
//
// On a CPU, operands are rounded to fp8 and multiplied in bf16, which represents them exactly: the arithmetic
// is the same, but not faster than bf16.
namespace tutti {

/// The first step whose products are in fp8, as earlier there are no ranges. It precedes the capture of a
/// step as a graph, so that its algorithms are autotuned.
inline constexpr uint64_t kFirstFp8Step = 1;
/// A product whose extents are not multiples of this is in bf16. Source: cuBLASLt, section "FP8".
inline constexpr int64_t kFp8Multiple = 16;

/// Throws Error if the stream's device is a GPU without fp8. The ops call it in training; a program may call
/// it before.
void require_fp8(const Stream& stream);

/// Ranges of a linear layer, (1) bf16 each; if undefined, the layer computes in the compute dtype.
struct Fp8Ranges {
  Var x, w, dy;
  [[nodiscard]] bool defined() const noexcept { return x.value.defined(); }
};

/// A deferred norm: its values are never in memory. The fp8 layer that uses it, which must be the only one,
/// normalises in the pass that rounds its operand.
class DeferredNorm {
 public:
  /// Its inputs, for kernels.
  struct Parts;
  explicit DeferredNorm(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  [[nodiscard]] const Parts& parts() const noexcept { return *parts_; }

 private:
  std::shared_ptr<const Parts> parts_;
};

/// Whether the fp8 layer with weight w (outputs, inputs) supports deferred norms of x in this step: on CUDA,
/// in training, if its products are in fp8.
bool takes_deferred_norm(const Tape& tape, const Var& x, const Var& w);
/// layer_norm and rms_norm for such a layer, with the same shapes and errors.
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

/// linear() with fp8 products. Throws Error as linear() does, and for dtypes other than bf16.
Var fp8_linear(Tape& tape, const Fp8Input& x, const Var& w, const Var& bias, Activation activation,
               const Fp8Ranges& ranges);

/// Ranges of the two layers of fp8_mlp().
struct Fp8MlpRanges {
  Fp8Ranges up, down;
};
/// mlp() with fp8 products; on CUDA, the activation is applied in the pass that rounds its result.
Var fp8_mlp(Tape& tape, const Fp8Input& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
            Activation activation, const Fp8MlpRanges& ranges);

/// linear_cross_entropy() with fp8 products; ranges.dy is the range of the gradient of the logits.
Var fp8_linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                             const LinearCrossEntropyOptions& options, const Fp8Ranges& ranges);

}  // namespace tutti
