#pragma once

#include <tutti/kernels/activation.h>
#include <tutti/kernels/fp8.h>
#include "kernels/cuda/softmax.h"
#include "kernels/plan/gemm.h"

#include <array>
#include <variant>

// Operands of the products of linear layers, in the compute dtype or in fp8.
namespace tutti {

/// An operand of a product: a matrix (rows, columns) in the compute dtype, or what stands for it in fp8.
struct ProductOperand {
  Tensor plain;       ///< (rows, columns); on CPUs its fp8 numbers in bf16
  Tensor bytes;       ///< CUDA: (rows, columns) uint8
  Tensor transposed;  ///< CUDA: (columns, rows) uint8
  Tensor unit;        ///< CUDA: () fp32, what a one of the bytes counts
  Fp8Format format = Fp8Format::kNone;
  int64_t rows = 0, columns = 0;

  /// The one of its tensors that is defined for sure.
  [[nodiscard]] const Tensor& any() const noexcept { return plain.defined() ? plain : transposed; }
  /// What products over its rows need: backward's, of x and w.
  [[nodiscard]] ProductOperand by_columns() const {
    ProductOperand kept = *this;
    kept.bytes = Tensor();
    return kept;
  }
};

/// activation(x), for an operand that is x of the next layer.
struct Activated {
  Tensor x;  ///< (rows, columns)
  Activation activation = Activation::kNone;
};
/// (x - mean) rstd w + b, for an operand that is x of the next layer.
struct Normalised {
  Tensor x;        ///< (rows, columns)
  Tensor w, b;     ///< (columns); b may be undefined
  Tensor moments;  ///< (rows, 2) fp32: mean and rstd
};
/// The gradient of logits for a gradient of 1 of their loss.
struct LogitGradient {
  cuda::CrossEntropy loss;  ///< after its forward pass
};
/// What an operand is made of: a contiguous matrix (rows, columns) in the compute dtype, or what an op would
/// write one from. Where Fp8Pass::fuses() says so, it is then rounded to fp8 in that op's pass, and the
/// matrix itself is never in memory.
using OperandSource = std::variant<Tensor, Activated, Normalised, LogitGradient>;

/// How the operands of one linear layer's products are made in one pass.
class Fp8Pass {
 public:
  enum Operand : uint8_t { kX, kW, kDy };

  /// `extents`: rows of x, inputs, outputs. In fp8 if there are ranges, the pass trains, the step is not one
  /// of the first and the extents allow it. Throws Error for ranges with another compute dtype than bf16.
  Fp8Pass(const Tape& tape, const Fp8Ranges& ranges, DType compute, const std::array<int64_t, 3>& extents);

  /// Whether the pass of a layer with ranges takes other sources than matrices: in fp8 on CUDA.
  [[nodiscard]] static bool fuses(const Tape& tape, const std::array<int64_t, 3>& extents);
  [[nodiscard]] ProductOperand operand(Operand which, const OperandSource& source,
                                       const Stream& stream) const;
  /// The same of a matrix, and the sums of its columns (columns) fp32, in the pass that reads it where there
  /// is one.
  [[nodiscard]] ProductOperand operand(Operand which, const Tensor& matrix, Tensor& column_sums,
                                       const Stream& stream) const;
  /// Hands the magnitudes that were met to the ranges, inputs first, first + 1 and first + 2 of a node.
  void record_ranges(const Gradients& gradients, size_t first, const Stream& stream) const;

 private:
  [[nodiscard]] ProductOperand make(Operand which, const OperandSource& source, Tensor* column_sums,
                                    const Stream& stream) const;

  std::array<Tensor, 3> ranges_;
  Tensor largest_;  // (3) fp32: met so far in this pass; undefined without ranges
  double share_;
  bool in_fp8_ = false;
};

/// a b, each transposed if asked, without c: for gemm() and gemm_gradient(). The operands live
/// until then.
Gemm product(const ProductOperand& a, bool a_transposed, const ProductOperand& b, bool b_transposed);

}  // namespace tutti
