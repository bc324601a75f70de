#include "kernels/cuda/softmax.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/logit_rows.cuh"
#include "kernels/cuda/sums.h"
#include "kernels/row/softmax.h"
#include "kernels/row/softmax_packed.h"

namespace tutti::cuda {
namespace {

/// Memory traffic: 2 rows n sizeof(T) if a row stays in the caches, else 3.
template <class T>
struct SoftmaxRow {
  const T* x;
  T* y;
  int64_t n;
  bool log;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const auto lse = row::log_sum_exp(team, x + r * n, n);
    if (log)
      row::log_softmax(team, x + r * n, y + r * n, n, lse);
    else
      row::softmax(team, x + r * n, y + r * n, n, lse);
  }
};

/// Memory traffic: 3 rows n sizeof(T) if a row stays in the caches, else 5.
template <class T>
struct SoftmaxBackwardRow {
  const T* dy;
  const T* y;
  T* dx;
  int64_t n;
  bool log;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    if (log)
      row::log_softmax_backward(team, dy + r * n, y + r * n, dx + r * n, n);
    else
      row::softmax_backward(team, dy + r * n, y + r * n, dx + r * n, n);
  }
};

int64_t rows_of(const Tensor& x) {
  return x.numel() == 0 ? 0 : x.numel() / x.size(-1);
}

/// Memory traffic: rows V sizeof(T), twice that with label smoothing if a row does not stay in the caches.
template <class T, class I>
struct LossRow {
  LogitRows<T, I> rows;
  double* losses;
  bool smooth;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    using A = Accumulate<T>;
    const bool counts = !rows.ignored(r);
    A lse = 0;
    double loss = 0;
    if (counts && rows.is_class(r)) {
      const T* x = rows.row(r);
      lse = row::log_sum_exp_packed(team, x, rows.n);
      loss = static_cast<double>(lse) - static_cast<double>(rows.weights.target * A(x[rows.targets[r]]));
      if (smooth) loss -= static_cast<double>(rows.weights.every * row::row_sum(team, x, rows.n));
    } else if (counts) {
      loss = __builtin_nan("");
      lse = A(loss);
    }
    if (team.lane() == 0) {
      rows.lse[r] = lse;
      losses[r] = loss;
    }
  }
};

template <class A>
struct ScaleTo {
  const double* total;
  A* loss;
  double scale;
  __device__ void operator()(int64_t) const { *loss = A(scale * *total); }
};

/// Memory traffic: 2 rows V sizeof(T).
template <class T, class I>
struct GradientRow {
  LogitRows<T, I> rows;
  T* dx;
  const Accumulate<T>* dy;  // null: 1
  double scale;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    using A = Accumulate<T>;
    const int64_t n = rows.n;
    T* out = dx + r * rows.columns;
    for (int64_t i = n + team.lane(); i < rows.columns; i += team.lanes()) out[i] = T(A(0));
    if (!rows.has_gradient(r)) {
      const T value = T(rows.without_gradient(r));
      for (int64_t i = team.lane(); i < n; i += team.lanes()) out[i] = value;
      return;
    }
    const T* x = rows.row(r);
    const auto target = static_cast<int64_t>(rows.targets[r]);
    const A factor = A(dy == nullptr ? scale : static_cast<double>(*dy) * scale);
    if (reinterpret_cast<uintptr_t>(x) % 16 == reinterpret_cast<uintptr_t>(out) % 16)
      row::cross_entropy_backward_packed(team, x, out, n, target, rows.lse[r], rows.weights, factor);
    else
      row::cross_entropy_backward(team, x, out, n, target, rows.lse[r], rows.weights, factor);
  }
};

/// Memory traffic: 2 rows V sizeof(T), as a row is still in the L2 cache when it is read again.
template <class T, class I>
struct LossAndGradientRow {
  LossRow<T, I> loss;
  GradientRow<T, I> gradient;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    loss(team, r);
    team.barrier();
    gradient(team, r);
  }
};

template <class T>
struct ScaleUnlessOne {
  T* x;
  const Accumulate<T>* factor;
  int64_t n;
  /// Each thread has every `threads`-th element, so that few threads find out that there is nothing to do.
  int64_t threads;
  __device__ void operator()(int64_t first) const {
    const Accumulate<T> f = *factor;
    if (f == Accumulate<T>(1)) return;
    for (int64_t i = first; i < n; i += threads) x[i] = T(Accumulate<T>(x[i]) * f);
  }
};

template <class T, class I>
struct EvaluateRow {
  LogitRows<T, I> rows;
  double* losses;  // (3, rows)
  int64_t count;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    double loss = 0;
    double hit = 0;
    const bool counts = !rows.ignored(r);
    if (counts && rows.is_class(r)) {
      const T* x = rows.row(r);
      const int64_t target = rows.targets[r];
      const auto at_target = Accumulate<T>(x[target]);
      loss = static_cast<double>(row::log_sum_exp_packed(team, x, rows.n)) - static_cast<double>(at_target);
      const auto before = team.max(row::lane_max(team, x, 0, target));
      const auto after = team.max(row::lane_max(team, x, target + 1, rows.n));
      hit = (target == 0 || at_target > before) && at_target >= after ? 1 : 0;
    } else if (counts) {
      loss = __builtin_nan("");
    }
    if (team.lane() == 0) {
      losses[r] = loss;
      losses[count + r] = hit;
      losses[2 * count + r] = counts ? 1 : 0;
    }
  }
};

template <class F>
void dispatch(const CrossEntropy& p, F f) {
  dispatch_compute(p.logits.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    dispatch_index(p.targets.dtype(), "cross_entropy",
                   [&]<class I>(TypeTag<I>) { f(TypeTag<T>{}, TypeTag<I>{}); });
  });
}

/// Sums of the rows of x (outer, reduced), fp64.
Tensor sum_rows(const Tensor& x, const Stream& stream) {
  const Tensor parts = sum_middle_parts(x, x.size(0), x.size(1), 1, stream);
  add_chunks(parts, stream);
  return parts.select(0, 0);
}

}  // namespace

void softmax(const Tensor& x, const Tensor& y, bool log, const Stream& stream) {
  for (const Tensor* t : {&x, &y}) require_here("softmax", *t, stream);
  if (x.numel() == 0) return;
  dispatch_compute(x.dtype(), "softmax", [&]<class T>(TypeTag<T>) {
    for_rows("softmax", rows_of(x), x.size(-1), stream,
             SoftmaxRow<T>{x.data<T>(), y.data<T>(), x.size(-1), log});
  });
}

void softmax_backward(const Tensor& dy, const Tensor& y, const Tensor& dx, bool log, const Stream& stream) {
  for (const Tensor* t : {&dy, &y, &dx}) require_here("softmax_backward", *t, stream);
  if (y.numel() == 0) return;
  dispatch_compute(y.dtype(), "softmax_backward", [&]<class T>(TypeTag<T>) {
    for_rows("softmax_backward", rows_of(y), y.size(-1), stream,
             SoftmaxBackwardRow<T>{dy.data<T>(), y.data<T>(), dx.data<T>(), y.size(-1), log});
  });
}

namespace {

/// The loss and, if `gradient`, the gradient over the logits.
void loss_of_rows(const CrossEntropy& p, const Tensor& loss, bool gradient, const Stream& stream) {
  for (const Tensor* t : {&p.logits, &p.targets, &p.lse, &loss}) require_here("cross_entropy", *t, stream);
  const int64_t rows = p.targets.numel();
  if (rows == 0 || p.logits.numel() == 0) return fill(loss, 0, stream);
  const Tensor losses = Tensor::empty({1, rows}, DType::kFloat64, stream);
  dispatch(p, [&]<class T, class I>(TypeTag<T>, TypeTag<I>) {
    using A = Accumulate<T>;
    const LossRow<T, I> each{logit_rows<T, I>(p), losses.data<double>(), p.smoothing > 0};
    if (gradient)
      for_rows("cross_entropy", rows, p.logits.size(-1), stream,
               LossAndGradientRow<T, I>{each, {each.rows, p.logits.data<T>(), nullptr, p.scale}});
    else
      for_rows("cross_entropy", rows, p.logits.size(-1), stream, each);
    const Tensor total = sum_rows(losses, stream);
    for_elements("cross_entropy", 1, stream, ScaleTo<A>{total.data<double>(), loss.data<A>(), p.scale});
  });
}

}  // namespace

void cross_entropy(const CrossEntropy& p, const Tensor& loss, const Stream& stream) {
  loss_of_rows(p, loss, false, stream);
}

void cross_entropy_with_gradient(const CrossEntropy& p, const Tensor& loss, const Stream& stream) {
  loss_of_rows(p, loss, true, stream);
}

void scale_unless_one(const Tensor& x, const Tensor& factor, const Stream& stream) {
  for (const Tensor* t : {&x, &factor}) require_here("cross_entropy", *t, stream);
  constexpr int64_t kMostThreads = 132 * 2048;
  const int64_t threads = std::min(x.numel(), kMostThreads);
  dispatch_compute(x.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    for_elements("cross_entropy_scale", threads, stream,
                 ScaleUnlessOne<T>{x.data<T>(), factor.data<Accumulate<T>>(), x.numel(), threads});
  });
}

void cross_entropy_backward(const CrossEntropy& p, const Tensor& dy, const Tensor& dx, const Stream& stream) {
  for (const Tensor* t : {&p.logits, &p.targets, &p.lse, &dy, &dx})
    require_here("cross_entropy_backward", *t, stream);
  if (p.logits.numel() == 0) return;
  dispatch(p, [&]<class T, class I>(TypeTag<T>, TypeTag<I>) {
    for_rows("cross_entropy_backward", p.targets.numel(), p.logits.size(-1), stream,
             GradientRow<T, I>{logit_rows<T, I>(p), dx.data<T>(), dy.data<Accumulate<T>>(), p.scale});
  });
}

Tensor cross_entropy_evaluate(const CrossEntropy& p, const Stream& stream) {
  for (const Tensor* t : {&p.logits, &p.targets, &p.lse}) require_here("cross_entropy", *t, stream);
  const int64_t rows = p.targets.numel();
  if (p.logits.numel() == 0) return Tensor::zeros({3}, DType::kFloat64, stream);
  const Tensor values = Tensor::empty({3, rows}, DType::kFloat64, stream);
  dispatch(p, [&]<class T, class I>(TypeTag<T>, TypeTag<I>) {
    for_rows("cross_entropy_evaluate", rows, p.logits.size(-1), stream,
             EvaluateRow<T, I>{logit_rows<T, I>(p), values.data<double>(), rows});
  });
  return sum_rows(values, stream);
}

}  // namespace tutti::cuda
