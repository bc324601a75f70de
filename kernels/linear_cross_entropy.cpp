#include <tutti/kernels/linear_cross_entropy.h>

#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>
#include "kernels/cross_entropy_parts.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gemm.h"
#include "kernels/linear_parts.h"
#include "kernels/sums.h"

#include <algorithm>

namespace tutti {
namespace {

/// Logits of a chunk. Each chunk reads and writes the gradient of w, which a GPU with its large memory does
/// less often.
int64_t chunk_bytes(const Stream& stream) {
  return int64_t{on_cuda(stream) ? 1024 : 64} << 20;
}

struct LossSizes {
  int64_t rows, inputs, columns;  // columns of the logits, padding included
  int64_t chunk;                  // rows
  DType dtype, wide;
};

LossSizes check_sizes(const Tensor& x, const Tensor& w, const Tensor& targets,
                      const LinearCrossEntropyOptions& options, const Stream& stream) {
  require(x.defined() && w.defined() && x.dims() >= 1 && w.dims() == 2 && x.size(-1) == w.size(1),
          "linear_cross_entropy: x {} does not fit w {}, which is (classes, inputs)", to_string(x.shape()),
          to_string(w.shape()));
  require(x.dtype() == w.dtype(), "linear_cross_entropy: x is {}, w is {}", name(x.dtype()), name(w.dtype()));
  require(targets.shape() == Shape(x.shape().begin(), x.shape().end() - 1),
          "linear_cross_entropy: targets of shape {} for x of shape {}", to_string(targets.shape()),
          to_string(x.shape()));
  require(w.numel() > 0, "linear_cross_entropy: w of shape {} is empty", to_string(w.shape()));
  require(options.chunk_rows >= 0, "linear_cross_entropy: a chunk of {} rows", options.chunk_rows);
  LossSizes s{.rows = targets.numel(),
              .inputs = w.size(1),
              .columns = w.size(0),
              .chunk = options.chunk_rows,
              .dtype = x.dtype(),
              .wide = x.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32};
  if (s.chunk == 0) {
    const int64_t rows = chunk_bytes(stream) / (s.columns * size_of(s.dtype));
    s.chunk = std::max(kFp8Multiple, rows - rows % kFp8Multiple);
  }
  return s;
}

/// Gradients for a loss gradient of 1; undefined if not needed.
struct SavedGradients {
  Tensor dx;  // (rows, inputs)
  Tensor dw;  // (columns, inputs), in LossSizes::wide
};

/// Writes product() to contiguous c, or adds it.
void multiply_into(Gemm product, const Tensor& c, bool accumulate, const Stream& stream) {
  product.c = c.raw();
  product.ldc = product.n;
  product.c_dtype = c.dtype();
  product.accumulate = accumulate;
  gemm(product, stream);
}

/// The loss of a chunk and, if `gradient`, the source of the gradient of its logits.
struct ChunkLoss {
  Tensor loss;
  OperandSource d;
};

/// For fp8 on CUDA: the gradient is computed in the pass that rounds it.
ChunkLoss fused_loss(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                     const Stream& stream) {
  auto [loss, saved] = loss_of_logits(logits, targets, options, stream);
  return {std::move(loss), LogitGradient{std::move(saved)}};
}

ChunkLoss loss_of(Tensor logits, const Tensor& targets, const LinearCrossEntropyOptions& options,
                  bool gradient, const Stream& stream) {
  Tape inner(stream, {}, gradient ? Tape::Mode::kRecord : Tape::Mode::kInference);
  Var x = inner.variable(std::move(logits));
  const Var of_x(Tensor(), x.node);  // without its value, which the gradient may overwrite
  Var capped = options.soft_cap > 0 ? soft_cap(inner, x, options.soft_cap) : std::move(x);
  x = Var();
  const Var loss = cross_entropy(inner, std::move(capped), targets, options.loss);
  if (!gradient) return {loss.value, {}};
  capped = Var();
  inner.backward(loss);
  return {loss.value, inner.gradient(of_x)};
}

/// How the loss of a chunk and its products are computed.
struct Chunks {
  const Fp8Pass& fp8;
  bool fuses;
  const LinearCrossEntropyOptions& options;
};

/// The loss of rows [first, first + rows). Writes their gradients to `saved`.
Tensor chunk_loss(const LossSizes& s, const Chunks& chunks, const Tensor& x, const ProductOperand& w,
                  const Tensor& targets, int64_t first, const SavedGradients& saved, const Stream& stream) {
  const int64_t rows = x.size(0);
  const bool gradient = saved.dx.defined() || saved.dw.defined();
  const ProductOperand x_operand = chunks.fp8.operand(Fp8Pass::kX, x, stream);
  Tensor logits = Tensor::empty({rows, s.columns}, s.dtype, stream);
  multiply_into(product(x_operand, false, w, true), logits, false, stream);
  auto [loss, d] = chunks.fuses ? fused_loss(logits, targets, chunks.options.loss, stream)
                                : loss_of(std::move(logits), targets, chunks.options, gradient, stream);
  if (!gradient) return loss;
  const ProductOperand d_operand = chunks.fp8.operand(Fp8Pass::kDy, d, stream);
  if (saved.dx.defined())
    multiply_into(product(d_operand, false, w, false), saved.dx.slice(0, first, first + rows), false, stream);
  if (saved.dw.defined())
    multiply_into(product(d_operand, true, x_operand, false), saved.dw, first > 0, stream);
  return loss;
}

/// tensor * factor (), in the dtype of the factor, which the host does not read.
Tensor scaled(const Tensor& tensor, const Tensor& factor, const Stream& stream) {
  Tape inner(stream, {}, Tape::Mode::kInference);
  return mul(inner, Var(tensor.to(factor.dtype(), stream)), Var(factor)).value;
}

}  // namespace

Var record_linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                                const LinearCrossEntropyOptions& options, const Fp8Ranges& ranges) {
  const Stream& stream = tape.stream();
  const LossSizes s = check_sizes(x.value, w.value, targets, options, stream);
  const Tensor in = x.value.to_contiguous(stream).view({s.rows, s.inputs});
  const Tensor weight = w.value.to_contiguous(stream);
  const Tensor labels = targets.to_contiguous(stream).view({s.rows});
  SavedGradients saved;
  if (tape.recording() && x.needs_grad()) saved.dx = Tensor::empty({s.rows, s.inputs}, s.dtype, stream);
  if (tape.recording() && w.needs_grad()) {
    // If there are no rows, nothing is written to dw below.
    saved.dw = s.rows == 0 ? Tensor::zeros(weight.shape(), s.wide, stream)
                           : Tensor::empty(weight.shape(), s.wide, stream);
  }
  // The extents of all chunks, including the last, must be valid for fp8.
  const std::array<int64_t, 3> extents{s.rows % kFp8Multiple == 0 ? std::min(s.chunk, s.rows) : 0, s.inputs,
                                       s.columns};
  const Fp8Pass fp8(tape, ranges, s.dtype, extents);
  const bool fuses = ranges.defined() && options.soft_cap == 0 && Fp8Pass::fuses(tape, extents);
  const Chunks chunks{fp8, fuses, options};
  const ProductOperand w_operand = fp8.operand(Fp8Pass::kW, weight, stream);
  const Tensor total = Tensor::zeros({}, s.wide, stream);
  for (int64_t first = 0; first < s.rows; first += s.chunk) {
    const int64_t last = std::min(first + s.chunk, s.rows);
    add_in_place(total,
                 chunk_loss(s, chunks, in.slice(0, first, last), w_operand, labels.slice(0, first, last),
                            first, saved, stream),
                 stream);
  }
  return tape.record("linear_cross_entropy", total, {x, w, ranges.x, ranges.w, ranges.dy},
                     [saved = std::move(saved), shape = x.shape(), fp8, stream](const Tensor& dy,
                                                                                const Gradients& gradients) {
                       constexpr size_t kRanges = 2;  // index of the first range among the inputs
                       fp8.record_ranges(gradients, kRanges, stream);
                       if (gradients.needs(0)) gradients.add(0, scaled(saved.dx, dy, stream).view(shape));
                       if (!gradients.needs(1)) return;
                       const auto [slot, mode] = gradients.slot(1);
                       store(scaled(saved.dw, dy, stream), slot, mode, stream);
                     });
}

Var linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                         const LinearCrossEntropyOptions& options) {
  return record_linear_cross_entropy(tape, x, w, targets, options, {});
}

}  // namespace tutti
