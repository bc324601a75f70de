#include "kernels/cuda/batch_norm.h"

#include "kernels/cuda/batch_norm.cuh"

#include <limits>

namespace tutti::cuda {
namespace {

/// Element i of a bf16, fp32 or fp64 tensor.
template <class A>
__device__ A value(const void* from, DType dtype, int64_t i) {
  if (dtype == DType::kBFloat16) return A(float(static_cast<const BFloat16*>(from)[i]));
  if (dtype == DType::kFloat32) return A(static_cast<const float*>(from)[i]);
  return A(static_cast<const double*>(from)[i]);
}

/// Mean and sum of squared deviations of the rows of a chunk; deviations are from the first row while
/// summing.
template <class T, int kCount, class A = Accumulate<T>>
struct ChunkMoments {
  static constexpr int kAtOnce = 4;
  using Loaded = row::Pack<T, kCount>;
  struct Kept {
    A pivot[kCount];
  };
  const T* x;
  int64_t columns;
  __device__ Kept keep(int64_t row, int64_t column) const {
    const Loaded first = load(row, row * columns + column);
    Kept kept;
    for (int i = 0; i < kCount; ++i) kept.pivot[i] = A(first.at[i]);
    return kept;
  }
  __device__ Loaded load(int64_t, int64_t at) const { return *reinterpret_cast<const Loaded*>(x + at); }
  __device__ void add(const Kept& kept, const Loaded& in, int64_t, A (&sum)[kCount],
                      A (&squares)[kCount]) const {
    for (int i = 0; i < kCount; ++i) {
      const A d = A(in.at[i]) - kept.pivot[i];
      sum[i] += d;
      squares[i] += d * d;
    }
  }
  __device__ void finish(const Kept& kept, int i, int64_t rows, A& sum, A& squares) const {
    const A mean = sum / A(rows);
    const A spread = squares - sum * mean;
    squares = spread > A(0) ? spread : A(0);
    sum = kept.pivot[i] + mean;
    // The maximum above would discard NaN.
    if (!(spread == spread)) squares = spread;
  }
};

/// Mean and sum of squared deviations of one plane.
template <class T, class A = Accumulate<T>>
struct PlaneMoments {
  const T* x;
  A* parts;
  int64_t channels, width;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const auto all = row::row_variance(team, x + r * width, width);
    if (team.lane() != 0) return;
    A* out = parts + r / channels * 2 * channels + r % channels;
    out[0] = all.mean;
    out[channels] = all.squares;
  }
};

/// Writes what forward and backward need of channel c besides its mean and variance.
template <class A>
struct ScaleOf {
  const void* w;
  const void* b;
  DType w_dtype, b_dtype;
  A* rstd;
  A* scale;
  A* shift;
  A eps;
  __device__ void write(int64_t c, A variance) const {
    rstd[c] = A(1) / A(sqrt(variance + eps));
    scale[c] = value<A>(w, w_dtype, c) * rstd[c];
    shift[c] = value<A>(b, b_dtype, c);
  }
};

template <class A>
struct MergedChunks {
  const A* parts;                          // (chunks, 2, channels): means and sums of squared deviations
  int64_t channels, chunks, chunk, count;  // each chunk but the last has `chunk` elements of a channel
  A* mean;
  A* variance;
  ScaleOf<A> scale;
};

/// Merges the chunks of each channel: with the overall mean, the sums of the chunks' deviations and of their
/// means' are those of all elements. Threads of a channel take every kMergeThreads-th chunk.
template <class A>
__global__ void __launch_bounds__(kMergeColumns* kMergeThreads) merge_chunks_kernel(MergedChunks<A> m) {
  __shared__ double sums[kMergeThreads][kMergeColumns];
  const int64_t channel = int64_t{blockIdx.x} * kMergeColumns + threadIdx.x;
  const auto elements = [&](int64_t k) {
    const int64_t left = m.count - k * m.chunk;
    return static_cast<double>(left < m.chunk ? left : m.chunk);
  };
  const auto total = [&](auto f) {
    double sum = 0;
    if (channel < m.channels) {
      for (int64_t k = threadIdx.y; k < m.chunks; k += kMergeThreads)
        sum += f(k, m.parts + k * 2 * m.channels + channel);
    }
    return sum_over_threads(sums, sum);
  };
  const auto n = static_cast<double>(m.count);
  const double mean =
      total([&](int64_t k, const A* part) { return elements(k) * static_cast<double>(part[0]); }) / n;
  const double squares = total([&](int64_t k, const A* part) {
    const double d = static_cast<double>(part[0]) - mean;
    return static_cast<double>(part[m.channels]) + elements(k) * d * d;
  });
  if (threadIdx.y != 0 || channel >= m.channels) return;
  m.mean[channel] = A(mean);
  m.variance[channel] = A(squares / n);
  m.scale.write(channel, A(squares / n));
}

template <class A>
struct WriteScale {
  const A* variance;
  ScaleOf<A> scale;
  __device__ void operator()(int64_t c) const { scale.write(c, variance[c]); }
};

template <class T, int kCount, class A = Accumulate<T>>
struct ApplyElements {
  const T* x;
  const T* residual;
  T* y;
  A floor;
  __device__ void operator()(const KeptChannels<A, kCount>& kept, int64_t i) const {
    const int64_t at = i * kCount;
    const auto in = load<kCount>(x + at);
    Elements<T, kCount> more{};
    if (residual != nullptr) more = load<kCount>(residual + at);
    Elements<T, kCount> out;
    OwnTeam team;
    row::batch_norm<true>(team, in.at, residual == nullptr ? nullptr : more.at, out.at, int64_t{kCount},
                          kept.view(), floor);
    *reinterpret_cast<Elements<T, kCount>*>(y + at) = out;
  }
};

template <class T, class A = Accumulate<T>>
struct ApplyPlane {
  const T* x;
  const T* residual;
  T* y;
  row::ChannelParameters<A> p;
  int64_t channels, width;
  A floor;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t c = r % channels;
    const int64_t at = r * width;
    row::batch_norm<false>(team, x + at, residual == nullptr ? nullptr : residual + at, y + at, width,
                           row::ChannelParameters<A>{p.mean + c, p.scale + c, p.shift + c, nullptr}, floor);
  }
};

/// Calls f(TypeTag<A>) with the dtype of a tensor of channels.
template <class F>
void by_wide(const Tensor& channels, F&& f) {
  if (channels.dtype() == DType::kFloat64)
    f(TypeTag<double>{});
  else
    f(TypeTag<float>{});
}

template <class A>
ScaleOf<A> scale_of(const BatchNormParameters& p, const BatchNormChannels& channels) {
  return {.w = p.w.raw(),
          .b = p.b.raw(),
          .w_dtype = p.w.dtype(),
          .b_dtype = p.b.dtype(),
          .rstd = channels.rstd.data<A>(),
          .scale = channels.scale.data<A>(),
          .shift = channels.shift.data<A>(),
          .eps = A(p.eps)};
}

}  // namespace

void batch_norm_statistics(const Tensor& x, const BatchNormLayout& l, const BatchNormParameters& p,
                           const BatchNormChannels& channels, const Stream& stream) {
  for (const Tensor* t : {&x, &p.w, &p.b}) require_here("batch_norm", *t, stream);
  dispatch_compute(x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const int64_t chunks = chunks_of(l);
    const Tensor parts = Tensor::empty({chunks, 2 * l.channels}, dtype_of<A>(), stream);
    if (l.channels_last) {
      by_pack<T>(l, aligned16(x.raw()), [&]<int kCount>(std::integral_constant<int, kCount>) {
        channel_sums<kCount>("batch_norm_statistics", parts.data<A>(), l.runs, l.channels, chunk_rows(l.runs),
                             stream, ChunkMoments<T, kCount>{x.data<T>(), l.channels});
      });
    } else {
      for_rows("batch_norm_statistics", l.runs, l.width, stream,
               PlaneMoments<T>{x.data<T>(), parts.data<A>(), l.channels, l.width});
    }
    launch("batch_norm_merge", stream, grid_of_channels(l.channels), merge_chunks_kernel<A>,
           MergedChunks<A>{parts.data<A>(), l.channels, chunks,
                           l.channels_last ? chunk_rows(l.runs) : l.width, l.count, channels.mean.data<A>(),
                           channels.variance.data<A>(), scale_of<A>(p, channels)});
  });
}

void batch_norm_scale(const BatchNormParameters& p, const BatchNormChannels& channels, const Stream& stream) {
  for (const Tensor* t : {&p.w, &p.b}) require_here("batch_norm", *t, stream);
  by_wide(channels.variance, [&]<class A>(TypeTag<A>) {
    for_elements("batch_norm_scale", p.w.numel(), stream,
                 WriteScale<A>{channels.variance.data<A>(), scale_of<A>(p, channels)});
  });
}

void batch_norm(const BatchNormApply& p, const BatchNormLayout& l, const BatchNormChannels& channels,
                const Stream& stream) {
  for (const Tensor* t : {&p.x, &p.residual, &p.y}) require_here("batch_norm", *t, stream);
  dispatch_compute(p.x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const A floor = p.relu ? A(0) : -std::numeric_limits<A>::infinity();
    const row::ChannelParameters<A> parameters{channels.mean.data<A>(), channels.scale.data<A>(),
                                               channels.shift.data<A>(), nullptr};
    const T* x = p.x.data<T>();
    const T* residual = data_or_null<T>(p.residual);
    T* y = p.y.data<T>();
    if (!l.channels_last)
      return for_rows("batch_norm", l.runs, l.width, stream,
                      ApplyPlane<T>{x, residual, y, parameters, l.channels, l.width, floor});
    by_pack<T>(l, aligned16(x, residual, y), [&]<int kCount>(std::integral_constant<int, kCount>) {
      for_channel_packs<kCount>("batch_norm", p.x.numel(), l.channels, parameters, stream,
                                ApplyElements<T, kCount>{x, residual, y, floor});
    });
  });
}

}  // namespace tutti::cuda
