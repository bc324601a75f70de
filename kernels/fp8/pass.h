#pragma once

#include <tutti/kernels/activation.h>
#include <tutti/kernels/fp8.h>
#include "kernels/cuda/softmax.h"
#include "kernels/plan/gemm.h"

#include <array>
#include <variant>

// Operands of the products of linear layers, in the compute dtype or in fp8.
namespace tutti {

/// An operand of a product: a matrix (rows, columns) in the compute dtype or in fp8.
struct ProductOperand {
  Tensor plain;       ///< (rows, columns) in the compute dtype; for fp8 on CPUs, rounded to fp8's numbers
  Tensor bytes;       ///< CUDA: (rows, columns) uint8
  Tensor transposed;  ///< CUDA: (columns, rows) uint8
  Tensor unit;        ///< CUDA: () fp32, the factor that the fp8 values are multiplied by
  Fp8Format format = Fp8Format::kNone;
  int64_t rows = 0, columns = 0;

  /// A tensor of the operand that is defined.
  [[nodiscard]] const Tensor& any() const noexcept { return plain.defined() ? plain : transposed; }
  /// Without `bytes`, which products that sum over rows do not need: those of x and w in backward.
  [[nodiscard]] ProductOperand by_columns() const {
    ProductOperand kept = *this;
    kept.bytes = Tensor();
    return kept;
  }
};

/// activation(x), as x of the next layer.
struct Activated {
  Tensor x;  ///< (rows, columns)
  Activation activation = Activation::kNone;
};
/// dy times the derivative of the activation, as dy of the layer before it.
struct ActivationGradient {
  Tensor dy, x;  ///< (rows, columns)
  Activation activation = Activation::kNone;
};
/// (x - mean) rstd w + b, as x of the next layer.
struct Normalised {
  Tensor x;        ///< (rows, columns)
  Tensor w, b;     ///< (columns); b may be undefined
  Tensor moments;  ///< (rows, 2) fp32: mean and rstd
};
/// The gradient of logits for a loss gradient of 1.
struct LogitGradient {
  cuda::CrossEntropy loss;  ///< after its forward pass
};
/// The source of an operand: a contiguous matrix (rows, columns) in the compute dtype, or the inputs of the
/// op that computes it. The latter needs Fp8Pass::fuses(): the op is fused with the rounding to fp8, and the
/// matrix is never in memory.
using OperandSource = std::variant<Tensor, Activated, ActivationGradient, Normalised, LogitGradient>;

/// Makes the operands of the products of one linear layer, for one pass.
class Fp8Pass {
 public:
  enum Operand : uint8_t { kX, kW, kDy };

  /// `extents`: rows of x, inputs, outputs. Operands are in fp8 if there are ranges, the pass is a training
  /// pass, the step is kFirstFp8Step or later, and all extents are multiples of kFp8Multiple. Throws Error
  /// for ranges with a compute dtype other than bf16.
  Fp8Pass(const Tape& tape, const Fp8Ranges& ranges, DType compute, const std::array<int64_t, 3>& extents);

  /// Whether a layer with ranges supports sources other than matrices: in fp8 on CUDA.
  [[nodiscard]] static bool fuses(const Tape& tape, const std::array<int64_t, 3>& extents);
  [[nodiscard]] ProductOperand operand(Operand which, const OperandSource& source,
                                       const Stream& stream) const;
  /// The same, and the sums of the columns, (columns) fp32, in the same pass over memory in fp8 on CUDA.
  [[nodiscard]] ProductOperand operand(Operand which, const OperandSource& source, Tensor& column_sums,
                                       const Stream& stream) const;
  /// Adds the largest magnitudes of this pass to the gradients of the ranges, inputs first, first + 1 and
  /// first + 2 of a node.
  void record_ranges(const Gradients& gradients, size_t first, const Stream& stream) const;

 private:
  [[nodiscard]] ProductOperand make(Operand which, const OperandSource& source, Tensor* column_sums,
                                    const Stream& stream) const;

  std::array<Tensor, 3> ranges_;
  Tensor largest_;  // (3) fp32: largest magnitudes so far in this pass; undefined without ranges
  double share_;
  bool in_fp8_ = false;
};

/// a b, each transposed if asked, without c: for gemm() and gemm_gradient(). The operands must outlive the
/// result.
Gemm product(const ProductOperand& a, bool a_transposed, const ProductOperand& b, bool b_transposed);

}  // namespace tutti
