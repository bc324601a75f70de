#include <tutti/kernels/norm.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gradient.h"
#include "kernels/linear_parts.h"
#include "kernels/row/norm.h"
#include "kernels/sums.h"

#include <array>

namespace tutti {
namespace {

struct NormInputs {
  Tensor x, w, b;  // b may be undefined
  int64_t rows = 0;
  int64_t width = 0;
};

NormInputs checked(std::string_view op, const Var& x, const Var& w, const Var& b, const Stream& stream) {
  require(x.value.dims() >= 1, "{}: x has no dims", op);
  NormInputs in{.x = x.value.to_contiguous(stream), .w = w.value.to_contiguous(stream), .b = {}};
  in.width = x.value.size(-1);
  in.rows = in.width == 0 ? 0 : x.value.numel() / in.width;
  if (b.value.defined()) in.b = b.value.to_contiguous(stream);
  for (const Tensor& p : {in.w, in.b}) {
    if (!p.defined()) continue;
    require(p.shape() == Shape{in.width} && p.dtype() == x.dtype(),
            "{}: parameter of shape {} in {}, expected ({}) in {}", op, to_string(p.shape()), name(p.dtype()),
            in.width, name(x.dtype()));
  }
  return in;
}

/// Writes dx, or adds to it, unless it is undefined. Returns partial sums of the parameters' gradients,
/// (chunks, 2 n).
template <bool kCentred, class T>
Tensor backward_rows(const NormInputs& in, const Tensor& moments, const Tensor& dy, const Tensor& dx,
                     bool accumulate, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t n = in.width;
  // Chunks depend on the shape alone; each writes its partial sums to a row of `partials`.
  const int64_t chunk = std::max(rows_per_task(n), (in.rows + 63) / 64);
  const int64_t chunks = (in.rows + chunk - 1) / chunk;
  const Tensor partials = Tensor::empty({std::max<int64_t>(1, chunks), 2 * n}, dtype_of<A>(), stream);
  if (chunks == 0) fill(partials, 0, stream);
  const T* x = in.x.data<T>();
  const T* w = in.w.data<T>();
  const T* d = dy.data<T>();
  const A* m = moments.data<A>();
  T* to = dx.defined() ? dx.data<T>() : nullptr;
  A* sums = partials.data<A>();
  for_ranges(stream, in.rows, chunk, [=](int64_t begin, int64_t end) {
    SerialTeam team;
    A* dw = sums + begin / chunk * 2 * n;
    A* db = dw + n;
    for (int64_t i = 0; i < 2 * n; ++i) dw[i] = 0;
    for (int64_t r = begin; r < end; ++r) {
      row::norm_backward<kCentred>(team, d + r * n, x + r * n, w, row::Moments<A>{m[2 * r], m[2 * r + 1]},
                                   to == nullptr ? nullptr : to + r * n, accumulate, dw, db, n);
    }
  });
  return partials;
}

/// Gradients of x, w and (if kCentred) b. `moments` has the mean (0 if not centred) and rstd of each row.
template <bool kCentred>
void backward(const NormInputs& in, const Tensor& moments, const Tensor& dy, const Gradients& gradients,
              bool has_bias, const Stream& stream) {
  const int64_t n = in.width;
  Tensor partials;
  const auto run = [&](const Tensor& dx, bool accumulate) {
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        partials = cuda::norm_backward({.centred = kCentred,
                                        .dy = dy,
                                        .x = in.x,
                                        .w = in.w,
                                        .moments = moments,
                                        .dx = dx,
                                        .accumulate = accumulate},
                                       stream);
        return;
      }
    }
    dispatch_compute(dy.dtype(), "norm", [&]<class T>(TypeTag<T>) {
      partials = backward_rows<kCentred, T>(in, moments, dy, dx, accumulate, stream);
    });
  };
  if (gradients.needs(0)) {
    write_gradient(gradients, 0, dy.dtype(), stream,
                   [&](const Tensor& dx, GradMode mode) { run(dx, mode == GradMode::kAccumulate); });
  } else {
    run(Tensor(), false);
  }
  if (!gradients.needs(1) && !(has_bias && gradients.needs(2))) return;
  add_chunks(partials, stream);
  for (size_t i = 1; i < (has_bias ? size_t{3} : size_t{2}); ++i) {
    if (!gradients.needs(i)) continue;
    const auto [destination, mode] = gradients.slot(i);
    const int64_t at = i == 1 ? 0 : n;
    store(partials.select(0, 0).slice(0, at, at + n), destination, mode, stream);
  }
}

/// The terms of a sum that is computed and normalised; undefined if x is normalised as it is.
struct Terms {
  Tensor x, residual;
};

template <bool kCentred>
void forward(std::string_view op, const NormInputs& in, const Terms& terms, const Tensor& y,
             const Tensor& moments, double eps, const Stream& stream) {
  const bool adds = terms.x.defined();
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      cuda::norm_forward({.centred = kCentred,
                          .eps = eps,
                          .x = adds ? terms.x : in.x,
                          .residual = terms.residual,
                          .sum = adds ? in.x : Tensor(),
                          .w = in.w,
                          .b = in.b,
                          .y = y,
                          .moments = moments},
                         stream);
      return;
    }
  }
  dispatch_compute(in.x.dtype(), op, [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    T* from = in.x.data<T>();
    const T* first = adds ? terms.x.data<T>() : nullptr;
    const T* second = adds ? terms.residual.data<T>() : nullptr;
    const T* weight = in.w.data<T>();
    const T* bias = in.b.defined() ? in.b.data<T>() : nullptr;
    T* to = y.data<T>();
    A* m = moments.data<A>();
    const int64_t n = in.width;
    for_ranges(stream, in.rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        if (first != nullptr) row::add(team, first + r * n, second + r * n, from + r * n, n);
        if constexpr (kCentred) {
          const auto result = row::layer_norm(team, from + r * n, weight, bias, to + r * n, n, A(eps));
          m[2 * r] = result.mean;
          m[2 * r + 1] = result.rstd;
        } else {
          m[2 * r] = 0;
          m[2 * r + 1] = row::rms_norm(team, from + r * n, weight, to + r * n, n, A(eps));
        }
      }
    });
  });
}

/// Saved for backward.
struct Saved {
  NormInputs in;
  Tensor moments;
};

template <bool kCentred>
Saved run_forward(std::string_view op, NormInputs in, const Terms& terms, const Tensor& y, double eps,
                  const Stream& stream) {
  const bool wide = in.x.dtype() == DType::kFloat64;
  const Tensor moments = Tensor::empty({in.rows, 2}, wide ? DType::kFloat64 : DType::kFloat32, stream);
  forward<kCentred>(op, in, terms, y, moments, eps, stream);
  return {std::move(in), moments};
}

template <bool kCentred>
Backward backward_of(Saved saved, bool has_bias, const Stream& stream) {
  return [saved = std::move(saved), has_bias, stream](const Tensor& dy, const Gradients& gradients) {
    backward<kCentred>(saved.in, saved.moments, dy, gradients, has_bias, stream);
  };
}

/// Scale and shift, and the number added to the variance.
struct Affine {
  Var w, b;
  double eps;
};

template <bool kCentred>
Var normalise(std::string_view op, Tape& tape, const Var& x, const Affine& affine, const Terms& terms = {}) {
  const Stream& stream = tape.stream();
  const auto& [w, b, eps] = affine;
  NormInputs in = checked(op, x, w, b, stream);
  const Tensor y = Tensor::empty(in.x.shape(), in.x.dtype(), stream);
  Saved saved = run_forward<kCentred>(op, std::move(in), terms, y, eps, stream);
  const bool has_bias = b.value.defined();
  return tape.record(op, y, {x, w, has_bias ? b : Var{}},
                     backward_of<kCentred>(std::move(saved), has_bias, stream));
}

template <bool kCentred>
DeferredNorm defer(std::string_view op, Tape& tape, const Var& x, const Affine& affine,
                   const Terms& terms = {}) {
  const Stream& stream = tape.stream();
  require(on_cuda(stream), "{}: deferred norms need a CUDA device, not {}", op, name(stream.device()));
  const auto& [w, b, eps] = affine;
  Saved saved = run_forward<kCentred>(op, checked(op, x, w, b, stream), terms, Tensor(), eps, stream);
  const NormInputs& in = saved.in;
  LinearInput input{.shape = in.x.shape(),
                    .dtype = in.x.dtype(),
                    .source = Normalised{in.x.view({in.rows, in.width}), in.w, in.b, saved.moments}};
  const bool has_bias = b.value.defined();
  const std::array<Var, 3> inputs{x, w, has_bias ? b : Var{}};
  input.node = tape.record_without_output(op, input.shape, input.dtype, inputs,
                                          backward_of<kCentred>(std::move(saved), has_bias, stream));
  return DeferredNorm(std::make_shared<const DeferredNorm::Parts>(std::move(input)));
}

/// x + residual, whose values the norm writes, and its terms.
struct PlannedSum {
  Var sum;
  Terms terms;
};

PlannedSum plan_sum(std::string_view op, Tape& tape, const Var& x, const Var& residual) {
  require(x.shape() == residual.shape() && x.dtype() == residual.dtype(),
          "{}: x {} in {} and residual {} in {} differ", op, to_string(x.shape()), name(x.dtype()),
          to_string(residual.shape()), name(residual.dtype()));
  const Stream& stream = tape.stream();
  Terms terms{x.value.to_contiguous(stream), residual.value.to_contiguous(stream)};
  // Recorded before the norm, which writes its values and is a function of it.
  Var sum = tape.record("add", Tensor::empty(x.shape(), x.dtype(), stream), {x, residual},
                        [](const Tensor& dy, const Gradients& gradients) {
                          for (size_t i = 0; i < 2; ++i) {
                            if (gradients.needs(i)) gradients.add(i, dy);
                          }
                        });
  return {std::move(sum), std::move(terms)};
}

template <bool kCentred>
AddNorm add_and_normalise(std::string_view op, Tape& tape, const Var& x, const Var& residual,
                          const Affine& affine) {
  const auto [sum, terms] = plan_sum(op, tape, x, residual);
  return {sum, normalise<kCentred>(op, tape, sum, affine, terms)};
}

template <bool kCentred>
AddDeferredNorm add_and_defer(std::string_view op, Tape& tape, const Var& x, const Var& residual,
                              const Affine& affine) {
  const auto [sum, terms] = plan_sum(op, tape, x, residual);
  return {sum, defer<kCentred>(op, tape, sum, affine, terms)};
}

}  // namespace

Var layer_norm(Tape& tape, const Var& x, const Var& w, const Var& b, double eps) {
  return normalise<true>("layer_norm", tape, x, {w, b, eps});
}

Var rms_norm(Tape& tape, const Var& x, const Var& w, double eps) {
  return normalise<false>("rms_norm", tape, x, {w, {}, eps});
}

AddNorm add_layer_norm(Tape& tape, const Var& x, const Var& residual, const Var& w, const Var& b,
                       double eps) {
  return add_and_normalise<true>("add_layer_norm", tape, x, residual, {w, b, eps});
}

AddNorm add_rms_norm(Tape& tape, const Var& x, const Var& residual, const Var& w, double eps) {
  return add_and_normalise<false>("add_rms_norm", tape, x, residual, {w, {}, eps});
}

DeferredNorm deferred_layer_norm(Tape& tape, const Var& x, const Var& w, const Var& b, double eps) {
  return defer<true>("layer_norm", tape, x, {w, b, eps});
}

DeferredNorm deferred_rms_norm(Tape& tape, const Var& x, const Var& w, double eps) {
  return defer<false>("rms_norm", tape, x, {w, {}, eps});
}

AddDeferredNorm add_deferred_layer_norm(Tape& tape, const Var& x, const Var& residual, const Var& w,
                                        const Var& b, double eps) {
  return add_and_defer<true>("add_layer_norm", tape, x, residual, {w, b, eps});
}

AddDeferredNorm add_deferred_rms_norm(Tape& tape, const Var& x, const Var& residual, const Var& w,
                                      double eps) {
  return add_and_defer<false>("add_rms_norm", tape, x, residual, {w, {}, eps});
}

}  // namespace tutti
