#include "kernels/cuda/score_rows.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/row/softmax_block.h"

namespace tutti::cuda {
namespace {

template <class A>
struct Rows {
  const A* scores;
  A* lse;
  int64_t rows, keys, position, lse_stride;
  bool causal;
  A scale;

  __device__ int64_t visible(int64_t r) const {
    const int64_t seen = position + r % rows + 1;
    return causal && seen < keys ? seen : keys;
  }
  __device__ A* lse_at(int64_t r) const { return lse + r / rows * lse_stride + r % rows; }
};

template <class A>
Rows<A> rows_of(const ScoreBlock& b) {
  return {b.scores.data<A>(), static_cast<A*>(b.lse), b.scores.size(1), b.scores.size(2),
          b.position,         b.lse_stride,           b.causal,         static_cast<A>(b.scale)};
}

template <class T, class A = Accumulate<T>>
struct ScoreRow {
  Rows<A> rows;
  T* p;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t n = rows.visible(r);
    T* out = p + r * rows.keys;
    A sum = 0;
    A maximum = 0;
    row::score_row(team, rows.scores + r * rows.keys, out, n, rows.keys, rows.scale, sum, maximum);
    const A inverse = A(1) / sum;
    for (int64_t i = team.lane(); i < n; i += team.lanes()) out[i] = T(A(out[i]) * inverse);
    if (rows.lse != nullptr && team.lane() == 0) *rows.lse_at(r) = maximum + math::log(sum);
  }
};

template <class T, class A = Accumulate<T>>
struct ScoreRowBackward {
  Rows<A> rows;
  const A* dp;
  const T* out;
  const T* dout;
  int64_t width, ld;
  T* p;
  T* ds;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t at = r / rows.rows * width + r % rows.rows * ld;
    A delta = 0;
    for (int64_t i = team.lane(); i < width; i += team.lanes()) delta += A(out[at + i]) * A(dout[at + i]);
    delta = team.sum(delta);
    const int64_t first = r * rows.keys;
    row::score_row_backward(team, rows.scores + first, dp + first, p + first, ds + first, rows.visible(r),
                            rows.keys, rows.scale, *rows.lse_at(r), delta);
  }
};

}  // namespace

void score_rows(const ScoreBlock& b, const Tensor& p, const Stream& stream) {
  require_here("attention", p, stream);
  dispatch_compute(p.dtype(), "attention", [&]<class T>(TypeTag<T>) {
    for_rows("score_rows", b.scores.size(0) * b.scores.size(1), b.scores.size(2), stream,
             ScoreRow<T>{rows_of<Accumulate<T>>(b), p.data<T>()});
  });
}

void score_rows_backward(const ScoreBlock& b, const Tensor& dp, const OutputRows& output, const Tensor& p,
                         const Tensor& ds, const Stream& stream) {
  require_here("attention", p, stream);
  dispatch_compute(p.dtype(), "attention", [&]<class T>(TypeTag<T>) {
    for_rows("score_rows_backward", b.scores.size(0) * b.scores.size(1), b.scores.size(2), stream,
             ScoreRowBackward<T>{rows_of<Accumulate<T>>(b), dp.data<Accumulate<T>>(),
                                 static_cast<const T*>(output.out), static_cast<const T*>(output.dout),
                                 output.width, output.ld, p.data<T>(), ds.data<T>()});
  });
}

}  // namespace tutti::cuda
