#include <tutti/kernels/cross_entropy.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cross_entropy_parts.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/softmax.h"
#include "kernels/gradient.h"
#include "kernels/row/softmax.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace tutti {
namespace {

constexpr int64_t kIgnored = -1;

void require_shapes(const Tensor& logits, const Tensor& targets) {
  Shape expected = logits.shape();
  require(!expected.empty(), "cross_entropy: the logits have no dims");
  expected.pop_back();
  require(targets.shape() == expected, "cross_entropy: targets of shape {} for logits of shape {}",
          to_string(targets.shape()), to_string(logits.shape()));
}

/// Classes of the logits. Throws Error if they have fewer columns.
int64_t class_count(const Tensor& logits, const CrossEntropyOptions& options) {
  const int64_t columns = logits.size(-1);
  require(options.classes >= 0 && options.classes <= columns,
          "cross_entropy: {} classes in logits of shape {}", options.classes, to_string(logits.shape()));
  return options.classes == 0 ? columns : options.classes;
}

void require_smoothing(const CrossEntropyOptions& options) {
  require(options.label_smoothing >= 0 && options.label_smoothing < 1,
          "cross_entropy: label smoothing {} is outside [0, 1)", options.label_smoothing);
}

/// The targets as int64, with kIgnored for ignored rows.
Tensor checked_targets(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                       const Stream& stream) {
  require_shapes(logits, targets);
  const int64_t classes = class_count(logits, options);
  const int64_t ignore_index = options.ignore_index;
  const Tensor given = targets.to_contiguous(stream);
  const Tensor result = Tensor::empty({given.numel()}, DType::kInt64, stream);
  dispatch_index(given.dtype(), "cross_entropy", [&]<class I>(TypeTag<I>) {
    const I* from = given.data<I>();
    auto* to = result.data<int64_t>();
    for (int64_t r = 0; r < given.numel(); ++r) {
      const int64_t target = from[r];
      require(target == ignore_index || (target >= 0 && target < classes),
              "cross_entropy: target {} of row {} is neither in [0, {}) nor {}, the one to ignore", target, r,
              classes, ignore_index);
      to[r] = target == ignore_index ? kIgnored : target;
    }
  });
  return result;
}

template <class A>
row::TargetWeights<A> target_weights(double smoothing, int64_t classes) {
  return {A(1 - smoothing), A(smoothing / static_cast<double>(classes))};
}

/// The arguments of the CUDA kernels; copies targets to the device.
cuda::CrossEntropy on_device(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                             const Stream& stream) {
  require_shapes(logits, targets);
  const DType wide = logits.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return {.logits = logits.to_contiguous(stream),
          .targets = targets.to(targets.dtype(), stream).to_contiguous(stream),
          .lse = Tensor::empty({targets.numel()}, wide, stream),
          .classes = class_count(logits, options),
          .ignore_index = options.ignore_index,
          .smoothing = options.label_smoothing,
          .scale = options.scale};
}

/// The logits become their gradient for a gradient of 1 of the loss.
[[maybe_unused]] Var fused_cross_entropy(Tape& tape, Var&& logits, const Tensor& targets,
                                         const CrossEntropyOptions& options) {
  if constexpr (kWithCuda) {
    const Stream& stream = tape.stream();
    require_smoothing(options);
    cuda::CrossEntropy work = on_device(logits.value, targets, options, stream);
    logits.value = Tensor();
    const Tensor y = Tensor::empty({}, work.lse.dtype(), stream);
    cuda::cross_entropy_with_gradient(work, y, stream);
    return tape.record(
        "cross_entropy", y, {logits},
        [dx = std::move(work.logits), stream](const Tensor& dy, const Gradients& gradients) mutable {
          cuda::scale_unless_one(dx, dy, stream);
          gradients.add(0, std::exchange(dx, Tensor()));
        });
  } else {
    fail("cross_entropy: this build has no kernel for {}", name(tape.stream().device()));
  }
}

Var cross_entropy_on_cuda(Tape& tape, const Var& logits, const Tensor& targets,
                          const CrossEntropyOptions& options) {
  if constexpr (kWithCuda) {
    const Stream& stream = tape.stream();
    auto [y, work] = loss_of_logits(logits.value, targets, options, stream);
    return tape.record(
        "cross_entropy", std::move(y), {logits},
        [work = std::move(work), stream](const Tensor& dy, const Gradients& gradients) mutable {
          // As on the CPU, the gradient may overwrite the logits.
          const Tensor dx = reuse_or_empty(work.logits, stream);
          cuda::cross_entropy_backward(work, dy, dx, stream);
          work.logits = Tensor();
          gradients.add(0, dx);
        });
  } else {
    fail("cross_entropy: this build has no kernel for {}", name(tape.stream().device()));
  }
}

}  // namespace

LossOfLogits loss_of_logits(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                            const Stream& stream) {
  if constexpr (kWithCuda) {
    require_smoothing(options);
    LossOfLogits result{.loss = {}, .saved = on_device(logits, targets, options, stream)};
    result.loss = Tensor::empty({}, result.saved.lse.dtype(), stream);
    cuda::cross_entropy(result.saved, result.loss, stream);
    return result;
  } else {
    fail("cross_entropy: this build has no kernel for {}", name(stream.device()));
  }
}

Var cross_entropy(Tape& tape, const Var& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  require_smoothing(options);
  const Stream& stream = tape.stream();
  if (on_cuda(stream)) return cross_entropy_on_cuda(tape, logits, targets, options);
  const Tensor labels = checked_targets(logits.value, targets, options, stream);
  Tensor in = logits.value.to_contiguous(stream);
  const int64_t n = class_count(in, options);
  const int64_t columns = in.size(-1);
  const int64_t rows = labels.numel();
  const DType wide = in.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const Tensor lse = Tensor::empty({rows}, wide, stream);
  const Tensor losses = Tensor::zeros({rows}, DType::kFloat64, stream);
  dispatch_compute(in.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const T* x = in.data<T>();
    const int64_t* label = labels.data<int64_t>();
    A* saved = lse.data<A>();
    double* loss = losses.data<double>();
    const double smoothing = options.label_smoothing;
    const row::TargetWeights<A> weights = target_weights<A>(smoothing, n);
    for_ranges(stream, rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        saved[r] = 0;
        if (label[r] == kIgnored) continue;
        const T* row = x + r * columns;
        saved[r] = row::log_sum_exp(team, row, n);
        // The weights of all classes sum to one, so that the log-sum-exp has weight one.
        loss[r] = static_cast<double>(saved[r]) - static_cast<double>(weights.target * A(row[label[r]]));
        if (smoothing > 0) loss[r] -= static_cast<double>(weights.every * row::row_sum(team, row, n));
      }
    });
  });
  double total = 0;
  for (const double loss : losses.span<double>()) total += loss;
  const Tensor y = Tensor::full({}, options.scale * total, wide, stream);

  return tape.record("cross_entropy", y, {logits},
                     [in = std::move(in), labels, lse, options, n, columns, rows, stream](
                         const Tensor& dy, const Gradients& gradients) mutable {
                       // Overwrites the logits if this node has the only reference to them.
                       const Tensor dx = reuse_or_empty(in, stream);
                       dispatch_compute(in.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
                         using A = Accumulate<T>;
                         const T* x = in.data<T>();
                         T* to = dx.data<T>();
                         const int64_t* label = labels.data<int64_t>();
                         const A* saved = lse.data<A>();
                         const A factor = A(dy.item() * options.scale);
                         const row::TargetWeights<A> weights = target_weights<A>(options.label_smoothing, n);
                         for_ranges(stream, rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
                           SerialTeam team;
                           for (int64_t r = begin; r < end; ++r) {
                             T* out = to + r * columns;
                             const int64_t computed = label[r] == kIgnored ? 0 : n;
                             std::fill(out + computed, out + columns, T(A(0)));
                             if (computed == 0) continue;
                             row::cross_entropy_backward(team, x + r * columns, out, n, label[r], saved[r],
                                                         weights, factor);
                           }
                         });
                       });
                       in = Tensor();
                       gradients.add(0, dx);
                     });
}

Var cross_entropy(Tape& tape, Var&& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  const bool fuses = on_cuda(tape.stream()) && tape.recording() && logits.needs_grad() &&
                     logits.value.unique() && logits.value.contiguous();
  return fuses ? fused_cross_entropy(tape, std::move(logits), targets, options)
               : cross_entropy(tape, logits, targets, options);
}

RowEvaluation cross_entropy_evaluate(const Stream& stream, const Tensor& logits, const Tensor& targets,
                                     const CrossEntropyOptions& options) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      const Tensor sums = cuda::cross_entropy_evaluate(on_device(logits, targets, options, stream), stream);
      return {.loss = sums.select(0, 0).item(),
              .correct = sums.select(0, 1).item(),
              .count = sums.select(0, 2).item()};
    }
  }
  const Tensor labels = checked_targets(logits, targets, options, stream);
  const Tensor in = logits.to_contiguous(stream);
  const int64_t n = class_count(in, options);
  const int64_t columns = in.size(-1);
  const int64_t rows = labels.numel();
  const Tensor losses = Tensor::zeros({rows}, DType::kFloat64, stream);
  const Tensor hits = Tensor::zeros({rows}, DType::kUInt8, stream);
  dispatch_compute(in.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const T* x = in.data<T>();
    const int64_t* label = labels.data<int64_t>();
    double* loss = losses.data<double>();
    uint8_t* hit = hits.data<uint8_t>();
    for_ranges(stream, rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        if (label[r] == kIgnored) continue;
        const T* row = x + r * columns;
        const A at_target = A(row[label[r]]);
        loss[r] = static_cast<double>(row::log_sum_exp(team, row, n)) - static_cast<double>(at_target);
        const A before = row::lane_max(team, row, 0, label[r]);
        const A after = row::lane_max(team, row, label[r] + 1, n);
        hit[r] = (label[r] == 0 || at_target > before) && at_target >= after ? 1 : 0;
      }
    });
  });
  RowEvaluation result;
  for (int64_t r = 0; r < rows; ++r) {
    if (labels.data<int64_t>()[r] == kIgnored) continue;
    result.loss += losses.data<double>()[r];
    result.correct += hits.data<uint8_t>()[r];
    result.count += 1;
  }
  return result;
}

}  // namespace tutti
