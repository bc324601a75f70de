#include <tutti/kernels/matmul.h>

#include <tutti/kernels/reduce.h>
#include "kernels/cpu/blas.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/on_cuda.h"

namespace tutti {
namespace {

/// An operand of a batched product c (..., m, n) = a (..., m, k) b (..., k, n): contiguous, its matrices
/// stored transposed or not.
struct Operand {
  Tensor tensor;
  bool transposed = false;

  [[nodiscard]] int64_t rows() const { return tensor.size(transposed ? -1 : -2); }
  [[nodiscard]] int64_t columns() const { return tensor.size(transposed ? -2 : -1); }
  [[nodiscard]] Shape batch() const { return {tensor.shape().begin(), tensor.shape().end() - 2}; }
  [[nodiscard]] Operand flipped() const { return {tensor, !transposed}; }
};

/// The index of an operand's matrix for each index of `batch`; broadcast dims repeat matrices.
class BatchIndex {
 public:
  BatchIndex(const Shape& own, const Shape& batch) : batch_(batch), strides_(batch.size(), 0) {
    const Shape dense = contiguous_strides(own);
    const size_t missing = batch.size() - own.size();
    for (size_t d = 0; d < own.size(); ++d) strides_[missing + d] = own[d] == 1 ? 0 : dense[d];
  }
  [[nodiscard]] int64_t operator()(int64_t index) const {
    int64_t at = 0;
    for (size_t d = batch_.size(); d-- > 0;) {
      at += index % batch_[d] * strides_[d];
      index /= batch_[d];
    }
    return at;
  }

 private:
  Shape batch_, strides_;
};

constexpr int64_t kTileRows = 128;

/// The product of the first matrices of a and b, written to the first matrix of c.
Gemm first_product(const Operand& a, const Operand& b, const Tensor& c) {
  const int64_t m = a.rows();
  const int64_t k = a.columns();
  const int64_t n = b.columns();
  return {.m = m,
          .n = n,
          .k = k,
          .dtype = c.dtype(),
          .a = {a.tensor.raw(), a.transposed ? m : k, a.transposed},
          .b = {b.tensor.raw(), b.transposed ? k : n, b.transposed},
          .c = c.raw(),
          .ldc = n,
          .c_dtype = c.dtype()};
}

/// On CUDA: as few batched products as broadcasting allows.
[[maybe_unused]] void multiply_on_cuda(const Operand& a, const Operand& b, const Shape& batch,
                                       const Tensor& c, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (c.numel() == 0) return;
    const Gemm first = first_product(a, b, c);
    const int64_t bytes = size_of(c.dtype());
    const BatchSplit split = split_batch(a.batch(), b.batch(), batch);
    const BatchIndex a_index(a.batch(), batch);
    const BatchIndex b_index(b.batch(), batch);
    const GemmBatch strides{.count = split.inner,
                            .a = split.a_repeats ? 0 : first.m * first.k,
                            .b = split.b_repeats ? 0 : first.k * first.n,
                            .c = first.m * first.n};
    for (int64_t i = 0; i < split.outer; ++i) {
      const int64_t index = i * split.inner;
      Gemm product = first;
      product.a.data =
          static_cast<const std::byte*>(first.a.data) + a_index(index) * first.m * first.k * bytes;
      product.b.data =
          static_cast<const std::byte*>(first.b.data) + b_index(index) * first.k * first.n * bytes;
      product.c = static_cast<std::byte*>(first.c) + index * strides.c * bytes;
      cuda::gemm(product, stream, strides);
    }
  }
}

Tensor multiply(const Operand& a, const Operand& b, const Shape& batch, const Stream& stream) {
  const int64_t m = a.rows();
  const int64_t k = a.columns();
  const int64_t n = b.columns();
  Shape shape = batch;
  shape.push_back(m);
  shape.push_back(n);
  const Tensor c = Tensor::empty(shape, a.tensor.dtype(), stream);
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      multiply_on_cuda(a, b, batch, c, stream);
      return c;
    }
  }
  const BatchIndex a_index(a.batch(), batch);
  const BatchIndex b_index(b.batch(), batch);
  const int64_t bytes = size_of(c.dtype());
  const auto* const a_data = static_cast<const std::byte*>(a.tensor.raw());
  const auto* const b_data = static_cast<const std::byte*>(b.tensor.raw());
  auto* const c_data = static_cast<std::byte*>(c.raw());
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;
  stream.pool().parallel_for(numel(batch) * tiles, [&](int64_t task) {
    const int64_t index = task / tiles;
    const int64_t row = task % tiles * kTileRows;
    cpu::gemm_tile({.m = std::min(kTileRows, m - row),
                    .n = n,
                    .k = k,
                    .dtype = c.dtype(),
                    .a = {a_data + (a_index(index) * m * k + row * (a.transposed ? 1 : k)) * bytes,
                          a.transposed ? m : k, a.transposed},
                    .b = {b_data + b_index(index) * k * n * bytes, b.transposed ? k : n, b.transposed},
                    .c = c_data + (index * m + row) * n * bytes,
                    .ldc = n,
                    .c_dtype = c.dtype()});
  });
  return c;
}

}  // namespace

Var matmul(Tape& tape, const Var& a, const Var& b, const MatmulOptions& options) {
  const Stream& stream = tape.stream();
  require(a.value.defined() && b.value.defined(), "matmul: undefined input");
  require(a.value.dims() >= 2 && b.value.dims() >= 2, "matmul: needs matrices, got {} and {}",
          to_string(a.shape()), to_string(b.shape()));
  require(a.dtype() == b.dtype(), "matmul: a is {}, b is {}", name(a.dtype()), name(b.dtype()));
  dispatch_compute(a.dtype(), "matmul", [](auto) {});
  const Operand x{a.value.to_contiguous(stream), options.transpose_a};
  const Operand y{b.value.to_contiguous(stream), options.transpose_b};
  require(x.columns() == y.rows(), "matmul: inner sizes of {}{} and {}{} differ", to_string(a.shape()),
          options.transpose_a ? " transposed" : "", to_string(b.shape()),
          options.transpose_b ? " transposed" : "");
  const Shape batch = broadcast_shape("matmul", x.batch(), y.batch());
  return tape.record("matmul", multiply(x, y, batch, stream), {a, b},
                     [x, y, batch, stream](const Tensor& dy, const Gradients& gradients) {
                       const Operand d{dy, false};
                       // d(op(a)) = dy op(b)^T, transposed if a is stored transposed; likewise for b.
                       const auto add_gradient = [&](size_t i, const Tensor& full) {
                         const auto [slot, mode] = gradients.slot(i);
                         sum_to(full, slot, mode, stream);
                       };
                       if (gradients.needs(0)) {
                         add_gradient(0, x.transposed ? multiply(y, d.flipped(), batch, stream)
                                                      : multiply(d, y.flipped(), batch, stream));
                       }
                       if (gradients.needs(1)) {
                         add_gradient(1, y.transposed ? multiply(d.flipped(), x, batch, stream)
                                                      : multiply(x.flipped(), d, batch, stream));
                       }
                     });
}

}  // namespace tutti
