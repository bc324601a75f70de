#include "kernels/cuda/attention.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/score_rows.h"

namespace tutti::cuda {
namespace {

constexpr int64_t kQueryBlock = 256;

DType accumulate_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

/// Rows of one sample: element (row, column) is at data + row * ld + column.
struct Matrix {
  std::byte* data;
  int64_t ld;
  DType dtype;
  [[nodiscard]] Matrix at(int64_t row, int64_t column) const {
    return {data + (row * ld + column) * size_of(dtype), ld, dtype};
  }
  [[nodiscard]] MatrixOperand operand(bool transposed = false) const { return {data, ld, transposed}; }
};

Matrix sample(const Tensor& t, int64_t b) {
  return Matrix{static_cast<std::byte*>(t.raw()), t.stride(1), t.dtype()}.at(0, b * t.stride(0));
}

/// The heads of one batched product: all heads if each has its own key head, else those that share one.
struct Part {
  int64_t count;
  int64_t head, kv_head;  // the first of each
  int64_t kv_step;        // from the key head of one head to that of the next: 1, or 0 if shared
};

template <class F>
void for_parts(const AttentionHeads& h, F f) {
  const int64_t group = h.heads / h.kv_heads;
  if (group == 1) return f(Part{h.heads, 0, 0, 1});
  for (int64_t kv = 0; kv < h.kv_heads; ++kv) f(Part{group, kv * group, kv, 0});
}

/// A block of queries, and the number of keys visible to its last query.
struct Block {
  int64_t first, rows, position, keys;
};

/// Calls f for each block, starting from the last one, to which all keys are visible.
template <class F>
void for_blocks(const AttentionHeads& h, int64_t queries, int64_t keys, F f) {
  const int64_t blocks = (queries + kQueryBlock - 1) / kQueryBlock;
  for (int64_t i = blocks - 1; i >= 0; --i) {
    const int64_t first = i * kQueryBlock;
    const int64_t rows = std::min(kQueryBlock, queries - first);
    const int64_t position = keys - queries + first;
    f(Block{first, rows, position, h.causal ? position + rows : keys});
  }
}

/// (count, rows, keys) = queries keys^T for each head of a part.
Tensor products(const Part& part, const Block& b, const AttentionHeads& h, const Matrix& queries,
                const Matrix& keys, const Stream& stream) {
  const DType wide = accumulate_dtype(queries.dtype);
  const Tensor out = Tensor::empty({part.count, b.rows, b.keys}, wide, stream);
  cuda::gemm({.m = b.rows,
              .n = b.keys,
              .k = h.head_dim,
              .dtype = queries.dtype,
              .a = queries.at(b.first, part.head * h.head_dim).operand(),
              .b = keys.at(0, part.kv_head * h.head_dim).operand(true),
              .c = out.raw(),
              .ldc = b.keys,
              .c_dtype = wide},
             stream, {part.count, h.head_dim, part.kv_step * h.head_dim, b.rows * b.keys});
  return out;
}

/// The block's rows of `out` = p keys for each head of a part; p is (count, rows, keys).
void multiply_by_keys(const Part& part, const Block& b, const AttentionHeads& h, const Tensor& p,
                      const Matrix& keys, const Matrix& out, const Stream& stream) {
  const Matrix to = out.at(b.first, part.head * h.head_dim);
  cuda::gemm({.m = b.rows,
              .n = h.head_dim,
              .k = b.keys,
              .dtype = p.dtype(),
              .a = {p.raw(), b.keys},
              .b = keys.at(0, part.kv_head * h.head_dim).operand(),
              .c = to.data,
              .ldc = to.ld,
              .c_dtype = to.dtype},
             stream, {part.count, b.rows * b.keys, part.kv_step * h.head_dim, h.head_dim});
}

/// The rows of `sums`, one per key, = or += p^T queries. Heads that share keys are added one after another.
void multiply_by_queries(const Part& part, const Block& b, const AttentionHeads& h, const Tensor& p,
                         const Matrix& queries, const Matrix& sums, bool adds, const Stream& stream) {
  const Matrix to = sums.at(0, part.kv_head * h.head_dim);
  const int64_t together = part.kv_step == 0 ? 1 : part.count;
  for (int64_t i = 0; i < part.count; i += together) {
    cuda::gemm(
        {.m = b.keys,
         .n = h.head_dim,
         .k = b.rows,
         .dtype = p.dtype(),
         .a = {static_cast<std::byte*>(p.raw()) + i * b.rows * b.keys * size_of(p.dtype()), b.keys, true},
         .b = queries.at(b.first, (part.head + i) * h.head_dim).operand(),
         .c = to.data,
         .ldc = to.ld,
         .c_dtype = to.dtype,
         .accumulate = adds || i > 0},
        stream, {together, b.rows * b.keys, h.head_dim, h.head_dim});
  }
}

ScoreBlock score_block(const AttentionHeads& h, const Part& part, const Block& b, const Tensor& scores,
                       const Tensor& lse, int64_t batch) {
  void* at = nullptr;
  int64_t stride = 0;
  if (lse.defined()) {
    stride = lse.size(2);
    at = static_cast<std::byte*>(lse.raw()) +
         ((batch * h.heads + part.head) * stride + b.first) * size_of(lse.dtype());
  }
  return {scores, b.position, h.causal, h.scale, at, stride};
}

}  // namespace

void attention_by_blocks(const AttentionHeads& h, const AttentionTensors& t, const Stream& stream) {
  if (t.out.numel() == 0) return;
  for (int64_t n = 0; n < t.q.size(0); ++n) {
    for_blocks(h, t.q.size(1), t.k.size(1), [&](const Block& b) {
      for_parts(h, [&](const Part& part) {
        const Tensor scores = products(part, b, h, sample(t.q, n), sample(t.k, n), stream);
        const Tensor p = Tensor::empty(scores.shape(), t.q.dtype(), stream);
        score_rows(score_block(h, part, b, scores, t.lse, n), p, stream);
        multiply_by_keys(part, b, h, p, sample(t.v, n), sample(t.out, n), stream);
      });
    });
  }
}

void attention_by_blocks_backward(const AttentionHeads& h, const AttentionTensors& t, const Tensor& dout,
                                  const Tensor& dqkv, const Stream& stream) {
  if (t.out.numel() == 0) return;
  const int64_t q_width = h.heads * h.head_dim;
  const int64_t kv_width = h.kv_heads * h.head_dim;
  // dk | dv of one sample, in the accumulate dtype.
  const Tensor sums = Tensor::empty({1, t.k.size(1), 2 * kv_width}, accumulate_dtype(t.q.dtype()), stream);
  const Matrix dk = sample(sums, 0);
  const Matrix dv = dk.at(0, kv_width);
  for (int64_t n = 0; n < t.q.size(0); ++n) {
    for_blocks(h, t.q.size(1), t.k.size(1), [&](const Block& b) {
      const bool adds = b.first + b.rows < t.q.size(1);
      for_parts(h, [&](const Part& part) {
        const Tensor scores = products(part, b, h, sample(t.q, n), sample(t.k, n), stream);
        const Tensor dp = products(part, b, h, sample(dout, n), sample(t.v, n), stream);
        const Tensor p = Tensor::empty(scores.shape(), t.q.dtype(), stream);
        const Tensor ds = Tensor::empty(scores.shape(), t.q.dtype(), stream);
        const int64_t column = part.head * h.head_dim;
        score_rows_backward(score_block(h, part, b, scores, t.lse, n), dp,
                            {.out = sample(t.out, n).at(b.first, column).data,
                             .dout = sample(dout, n).at(b.first, column).data,
                             .width = h.head_dim,
                             .ld = q_width},
                            p, ds, stream);
        multiply_by_queries(part, b, h, p, sample(dout, n), dv, adds, stream);
        multiply_by_queries(part, b, h, ds, sample(t.q, n), dk, adds, stream);
        multiply_by_keys(part, b, h, ds, sample(t.k, n), sample(dqkv, n), stream);
      });
    });
    copy(dqkv.select(0, n).slice(1, q_width, q_width + 2 * kv_width), sums.select(0, 0), stream);
  }
}

}  // namespace tutti::cuda
