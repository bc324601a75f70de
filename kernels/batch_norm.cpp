#include <tutti/kernels/norm.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gradient.h"
#include "kernels/row/batch_norm.h"
#include "kernels/sums.h"

#include <array>
#include <cmath>
#include <limits>

namespace tutti {
namespace {

constexpr int64_t kMaxChunks = 64;
constexpr int64_t kBlockElements = 8192;  // read twice: a block fits the L1 cache

/// x as runs of adjacent elements: rows of all channels (kNhwc) or planes of one channel (kNchw).
struct Layout {
  bool channels_last = true;
  int64_t channels = 0;
  int64_t runs = 0;
  int64_t width = 0;  // elements of a run
  [[nodiscard]] int64_t count() const {
    return channels_last ? runs : runs / std::max<int64_t>(1, channels) * width;
  }
  /// Runs of one chunk: whole images in kNchw.
  [[nodiscard]] int64_t chunk() const {
    const int64_t group = channels_last ? 1 : channels;
    const int64_t groups = runs / std::max<int64_t>(1, group);
    const int64_t least = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width * group));
    return group * std::max(least, (groups + kMaxChunks - 1) / kMaxChunks);
  }
  [[nodiscard]] int64_t chunks() const { return (runs + chunk() - 1) / chunk(); }
};

Layout layout_of(const Tensor& x, ImageLayout order) {
  require(x.dims() >= 2, "batch_norm: x has shape {}, expected at least (N, C)", to_string(x.shape()));
  Layout l{.channels_last = order == ImageLayout::kNhwc || x.dims() == 2};
  l.channels = x.size(l.channels_last ? -1 : 1);
  if (l.channels_last) {
    l.width = l.channels;
    l.runs = l.channels == 0 ? 0 : x.numel() / l.channels;
  } else {
    l.runs = x.size(0) * l.channels;
    l.width = l.runs == 0 ? 0 : x.numel() / l.runs;
  }
  return l;
}

/// Calls f(std::true_type) if each element of a run has its own channel, else f(std::false_type).
template <class F>
void by_layout(const Layout& l, F&& f) {
  if (l.channels_last)
    f(std::true_type{});
  else
    f(std::false_type{});
}

/// Mean and biased variance of each channel.
template <class T>
struct Statistics {
  using A = Accumulate<T>;
  std::vector<A> mean, variance;
};

/// Reduces chunks of runs in parallel and merges them in their order, in fp64.
template <class T>
Statistics<T> batch_statistics(const Tensor& x, const Layout& l, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t chunk = l.chunk();
  const int64_t c = l.channels;
  const Tensor partials = Tensor::zeros({l.chunks(), 4 * c}, dtype_of<A>(), stream);
  const T* from = x.data<T>();
  A* out = partials.data<A>();
  for_ranges(stream, l.runs, chunk, [=](int64_t begin, int64_t end) {
    SerialTeam team;
    A* mean = out + begin / chunk * 4 * c;
    A* squares = mean + c;
    if (l.channels_last) {
      const int64_t block = std::max<int64_t>(1, kBlockElements / c);
      for (int64_t r = begin; r < end; r += block) {
        row::merge_column_spread(team, from + r * c, std::min(block, end - r), c, r - begin, mean, squares,
                                 squares + c);
      }
    } else {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t channel = r % c;
        const int64_t rows_before = (r - begin) / c;
        const A before = A(rows_before * l.width);
        const auto all = row::merge(row::RowVariance<A>{before, mean[channel], squares[channel]},
                                    row::row_variance(team, from + r * l.width, l.width));
        mean[channel] = all.mean;
        squares[channel] = all.squares;
      }
    }
  });
  Statistics<T> result;
  for (int64_t channel = 0; channel < c; ++channel) {
    row::RowVariance<double> all{0, 0, 0};
    for (int64_t k = 0; k < l.chunks(); ++k) {
      const int64_t runs = std::min(chunk, l.runs - k * chunk);
      const A* p = out + k * 4 * c + channel;
      all = row::merge(
          all, row::RowVariance<double>{static_cast<double>(l.channels_last ? runs : runs / c * l.width),
                                        static_cast<double>(p[0]), static_cast<double>(p[c])});
    }
    result.mean.push_back(A(all.mean));
    result.variance.push_back(A(all.squares / all.count));
  }
  return result;
}

template <class A>
std::vector<A> wide_values(const Tensor& x, const Stream& stream) {
  const Tensor wide = x.to(dtype_of<A>(), stream).to_contiguous(stream);
  const auto values = wide.span<A>();
  return {values.begin(), values.end()};
}

/// Saved for backward besides x and y.
template <class T>
struct Saved {
  using A = Accumulate<T>;
  std::vector<A> mean, variance, rstd, scale;
};

template <class T>
Saved<T> forward(const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& running_mean,
                 const Tensor& running_var, const Tensor& residual, const Tensor& y, const Layout& l,
                 const BatchNormOptions& options, bool training, const Stream& stream) {
  using A = Accumulate<T>;
  Saved<T> saved;
  if (training) {
    Statistics<T> statistics = batch_statistics<T>(x, l, stream);
    saved.mean = std::move(statistics.mean);
    saved.variance = std::move(statistics.variance);
  } else {
    saved.mean = wide_values<A>(running_mean, stream);
    saved.variance = wide_values<A>(running_var, stream);
  }
  const std::vector<A> weight = wide_values<A>(w, stream);
  const std::vector<A> shift = wide_values<A>(b, stream);
  for (size_t c = 0; c < weight.size(); ++c) {
    saved.rstd.push_back(A(1) / std::sqrt(saved.variance[c] + A(options.eps)));
    saved.scale.push_back(weight[c] * saved.rstd[c]);
  }
  const A floor = options.relu ? A(0) : -std::numeric_limits<A>::infinity();
  const row::ChannelParameters<A> p{saved.mean.data(), saved.scale.data(), shift.data(), nullptr};
  const T* from = x.data<T>();
  const T* add = residual.defined() ? residual.data<T>() : nullptr;
  T* to = y.data<T>();
  by_layout(l, [&](auto channels_last) {
    for_ranges(stream, l.runs, rows_per_task(l.width), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t c = channels_last ? 0 : r % l.channels;
        const int64_t at = r * l.width;
        row::batch_norm<channels_last.value>(
            team, from + at, add == nullptr ? nullptr : add + at, to + at, l.width,
            row::ChannelParameters<A>{p.mean + c, p.scale + c, p.shift + c, nullptr}, floor);
      }
    });
  });
  return saved;
}

/// (2, C): the sums of g and of g (x - mean) over each channel. If `y` is defined, first writes g = dy where
/// y > 0, else 0.
template <class T>
Tensor backward_sums(const Tensor& dy, const Tensor& y, const Tensor& g, const Tensor& x,
                     const Saved<T>& saved, const Layout& l, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t chunk = l.chunk();
  const Tensor partials =
      Tensor::zeros({std::max<int64_t>(1, l.chunks()), 2 * l.channels}, dtype_of<A>(), stream);
  const T* d = dy.data<T>();
  const T* output = y.defined() ? y.data<T>() : nullptr;
  T* masked = g.data<T>();
  const T* from = x.data<T>();
  A* out = partials.data<A>();
  const A* mean = saved.mean.data();
  by_layout(l, [&](auto channels_last) {
    for_ranges(stream, l.runs, chunk, [=](int64_t begin, int64_t end) {
      SerialTeam team;
      A* sums = out + begin / chunk * 2 * l.channels;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t c = channels_last ? 0 : r % l.channels;
        const int64_t at = r * l.width;
        if (output != nullptr) row::mask_by_output(team, d + at, output + at, masked + at, l.width);
        row::batch_norm_sums<channels_last.value>(team, masked + at, from + at, l.width, mean + c, sums + c,
                                                  sums + l.channels + c);
      }
    });
  });
  add_chunks(partials, stream);
  return partials.select(0, 0).view({2, l.channels});
}

template <class T>
void input_gradient(const Tensor& g, const Tensor& x, const Tensor& dx, GradMode mode, const Saved<T>& saved,
                    const Tensor& sums, const Layout& l, bool training, const Stream& stream) {
  using A = Accumulate<T>;
  const auto channels = static_cast<size_t>(l.channels);
  std::vector<A> shift(channels, A(0));
  std::vector<A> slope(channels, A(0));
  if (training) {
    const A each = A(1) / A(l.count());
    for (size_t c = 0; c < channels; ++c) {
      shift[c] = sums.data<A>()[c] * each;
      slope[c] = sums.data<A>()[channels + c] * each * saved.rstd[c] * saved.rstd[c];
    }
  }
  const row::ChannelParameters<A> p{saved.mean.data(), saved.scale.data(), shift.data(), slope.data()};
  const T* gradient = g.data<T>();
  const T* from = x.data<T>();
  T* to = dx.data<T>();
  by_layout(l, [&](auto channels_last) {
    for_ranges(stream, l.runs, rows_per_task(l.width), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t c = channels_last ? 0 : r % l.channels;
        const int64_t at = r * l.width;
        row::batch_norm_backward<channels_last.value>(
            team, gradient + at, from + at, to + at, mode == GradMode::kAccumulate, l.width,
            row::ChannelParameters<A>{p.mean + c, p.scale + c, p.shift + c, p.slope + c});
      }
    });
  });
}

template <class A>
void add_gradient(const Gradients& gradients, size_t i, const std::vector<A>& values, const Stream& stream) {
  if (!gradients.needs(i)) return;
  const auto [destination, mode] = gradients.slot(i);
  store(Tensor::from(values, {static_cast<int64_t>(values.size())}, stream), destination, mode, stream);
}

enum Input : size_t { kX, kWeight, kBias, kMean, kVariance, kResidual };

template <class T>
void backward(const Tensor& dy, const Gradients& gradients, const Tensor& x, const Tensor& y,
              const Saved<T>& saved, const Layout& l, bool training, double share, const Stream& stream) {
  using A = Accumulate<T>;
  const Tensor g = y.defined() ? reuse_or_empty(dy, stream) : dy;
  const Tensor sums = backward_sums<T>(dy, y, g, x, saved, l, stream);
  const auto channels = static_cast<size_t>(l.channels);
  const A* sum = sums.data<A>();
  std::vector<A> dw, db, mean, variance;
  const double count = static_cast<double>(l.count());
  const double unbiased = count > 1 ? count / (count - 1) : 1;
  for (size_t c = 0; c < channels; ++c) {
    db.push_back(sum[c]);
    dw.push_back(sum[channels + c] * saved.rstd[c]);
    mean.push_back(A(share * static_cast<double>(saved.mean[c])));
    variance.push_back(A(share * unbiased * static_cast<double>(saved.variance[c])));
  }
  add_gradient(gradients, kWeight, dw, stream);
  add_gradient(gradients, kBias, db, stream);
  if (training) {
    add_gradient(gradients, kMean, mean, stream);
    add_gradient(gradients, kVariance, variance, stream);
  }
  if (gradients.needs(kX)) {
    write_gradient(gradients, kX, g.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
      input_gradient<T>(g, x, dx, mode, saved, sums, l, training, stream);
    });
  }
  gradients.add(kResidual, g);
}

/// The whole op on CUDA, for inputs that were checked.
[[maybe_unused]] Var batch_norm_on_cuda(Tape& tape, const std::array<Var, 6>& inputs, const Tensor& in,
                                        const Tensor& add, const Layout& l, const BatchNormOptions& options) {
  if constexpr (kWithCuda) {
    const Stream& stream = tape.stream();
    const bool training = tape.context().training;
    const double share = tape.context().batch_share;
    const DType wide = in.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    const cuda::BatchNormLayout layout{l.channels_last, l.channels, l.runs, l.width, l.count()};
    const auto as_wide = [&](size_t i) { return inputs[i].value.to(wide, stream).to_contiguous(stream); };
    const auto empty = [&] { return Tensor::empty({l.channels}, wide, stream); };
    const cuda::BatchNormChannels channels{training ? empty() : as_wide(kMean),
                                           training ? empty() : as_wide(kVariance), empty(), empty(),
                                           empty()};
    for (const size_t i : {kWeight, kBias, kMean, kVariance})
      dispatch_compute(inputs[i].dtype(), "batch_norm", [](auto) {});  // refuses others
    const cuda::BatchNormParameters parameters{inputs[kWeight].value.to_contiguous(stream),
                                               inputs[kBias].value.to_contiguous(stream), options.eps};
    if (training)
      cuda::batch_norm_statistics(in, layout, parameters, channels, stream);
    else
      cuda::batch_norm_scale(parameters, channels, stream);
    const Tensor y = Tensor::empty(in.shape(), in.dtype(), stream);
    cuda::batch_norm({in, add, y, options.relu}, layout, channels, stream);
    const bool mask_by_input = options.relu && !add.defined() && l.channels_last;
    return tape.record(
        "batch_norm", y, inputs,
        [=, masked = options.relu && !mask_by_input ? y : Tensor()](const Tensor& dy,
                                                                    const Gradients& gradients) {
          const cuda::BatchNormBackward p{.dy = dy,
                                          .x = in,
                                          .y = masked,
                                          .g = masked.defined() ? reuse_or_empty(dy, stream) : dy,
                                          .mask_by_input = mask_by_input,
                                          .training = training,
                                          .share = share};
          const auto slot = [&](Input i) {
            const bool writes = gradients.needs(i) && (training || i < kMean);
            return writes ? std::optional(gradients.slot(i)) : std::nullopt;
          };
          const cuda::BatchNormSlots slots{slot(kWeight), slot(kBias), slot(kMean), slot(kVariance)};
          const cuda::BatchNormTerms terms = cuda::batch_norm_gradients(p, layout, channels, slots, stream);
          if (gradients.needs(kX)) {
            write_gradient(gradients, kX, p.g.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
              cuda::batch_norm_input_gradient(p, terms, {dx, mode}, layout, channels, stream);
            });
          }
          gradients.add(kResidual, p.g);
        });
  } else {
    fail("batch_norm: this build has no kernel for {}", name(tape.stream().device()));
  }
}

}  // namespace

Var batch_norm(Tape& tape, const Var& x, const Var& w, const Var& b, const Var& running_mean,
               const Var& running_var, const BatchNormOptions& options, const Var& residual) {
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const Layout l = layout_of(in, options.layout);
  require(l.runs > 0 && l.width > 0, "batch_norm: x of shape {} is empty", to_string(in.shape()));
  for (const Var* p : {&w, &b, &running_mean, &running_var}) {
    require(p->value.defined() && p->shape() == Shape{l.channels} && is_floating(p->dtype()),
            "batch_norm: a parameter has shape {}, expected ({})", to_string(p->shape()), l.channels);
  }
  require(!residual.value.defined() || (residual.shape() == in.shape() && residual.dtype() == in.dtype()),
          "batch_norm: the residual of shape {} does not fit x of shape {} in {}",
          to_string(residual.shape()), to_string(in.shape()), name(in.dtype()));
  const Tensor add = residual.value.defined() ? residual.value.to_contiguous(stream) : Tensor();
  if (on_cuda(stream)) {
    return batch_norm_on_cuda(tape, {x, w, b, running_mean, running_var, residual}, in, add, l, options);
  }
  const Tensor y = Tensor::empty(in.shape(), in.dtype(), stream);
  const bool training = tape.context().training;
  const double share = tape.context().batch_share;
  return dispatch_compute(in.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    Saved<T> saved = forward<T>(in, w.value, b.value, running_mean.value, running_var.value, add, y, l,
                                options, training, stream);
    // The mask of ReLU follows from the output; without ReLU the output is not saved.
    return tape.record("batch_norm", y, {x, w, b, running_mean, running_var, residual},
                       [=, saved = std::move(saved), masked = options.relu ? y : Tensor()](
                           const Tensor& dy, const Gradients& gradients) {
                         backward<T>(dy, gradients, in, masked, saved, l, training, share, stream);
                       });
  });
}

}  // namespace tutti
