#include "kernels/cuda/batch_norm.h"

#include "kernels/cuda/channel_packs.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sums.h"
#include "kernels/row/batch_norm.h"

#include <limits>

namespace tutti::cuda {
namespace {

constexpr int kColumns = 32;            // columns of a block
constexpr int kRowThreads = 16;         // threads that share the rows of a column
constexpr int64_t kMinChunkRows = 256;  // 16 rows per thread
constexpr int64_t kMaxChunks = 512;

/// Rows of one chunk of a column reduction. Depends on the shape alone.
int64_t chunk_rows(int64_t rows) {
  return std::max(kMinChunkRows, (rows + kMaxChunks - 1) / kMaxChunks);
}

/// Two sums per column over the rows of each chunk, as f.add accumulates them: parts (chunks, 2, columns).
/// Each thread of a column adds every kRowThreads-th row; the sums of the threads are added in a tree.
template <class A, class F>
__global__ void __launch_bounds__(kColumns* kRowThreads)
    column_pairs_kernel(A* parts, int64_t rows, int64_t columns, int64_t chunk, F f) {
  __shared__ A sums[2][kRowThreads][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < rows ? begin + chunk : rows;
  A first = 0;
  A second = 0;
  if (column < columns) {
    const A pivot = f.pivot(begin, column);
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kRowThreads) f.add(r, column, pivot, first, second);
  }
  sums[0][threadIdx.y][threadIdx.x] = first;
  sums[1][threadIdx.y][threadIdx.x] = second;
  for (int half = kRowThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half) {
      sums[0][threadIdx.y][threadIdx.x] += sums[0][threadIdx.y + half][threadIdx.x];
      sums[1][threadIdx.y][threadIdx.x] += sums[1][threadIdx.y + half][threadIdx.x];
    }
  }
  if (threadIdx.y == 0 && column < columns) {
    f.finish(end - begin, f.pivot(begin, column), sums[0][0][threadIdx.x], sums[1][0][threadIdx.x]);
    parts[(int64_t{blockIdx.y} * 2) * columns + column] = sums[0][0][threadIdx.x];
    parts[(int64_t{blockIdx.y} * 2 + 1) * columns + column] = sums[1][0][threadIdx.x];
  }
}

template <class A, class F>
void column_pairs(const char* kernel, const Tensor& parts, int64_t rows, int64_t columns,
                  const Stream& stream, F f) {
  const int64_t chunk = chunk_rows(rows);
  const dim3 grid(static_cast<unsigned>((columns + kColumns - 1) / kColumns),
                  static_cast<unsigned>((rows + chunk - 1) / chunk));
  launch(kernel, stream, {grid, dim3(kColumns, kRowThreads)}, column_pairs_kernel<A, F>, parts.data<A>(),
         rows, columns, chunk, f);
}

/// Mean and sum of squared deviations of the rows of a chunk; deviations are from the first row while
/// summing.
template <class T, class A = Accumulate<T>>
struct Moments {
  const T* x;
  int64_t columns;
  __device__ A pivot(int64_t row, int64_t column) const { return A(x[row * columns + column]); }
  __device__ void add(int64_t row, int64_t column, A pivot, A& sum, A& squares) const {
    const A d = A(x[row * columns + column]) - pivot;
    sum += d;
    squares += d * d;
  }
  __device__ void finish(int64_t rows, A pivot, A& sum, A& squares) const {
    const A mean = sum / A(rows);
    const A spread = squares - sum * mean;
    squares = spread > A(0) ? spread : A(0);
    sum = pivot + mean;
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

template <class A>
struct ChunkMoments {
  const A* parts;                          // (chunks, 2, channels): means and sums of squared deviations
  int64_t channels, chunks, chunk, count;  // each chunk but the last has `chunk` elements of a channel
  A* mean;
  A* variance;
};

/// Merges the chunks of each channel: with the overall mean, the sums of the chunks' deviations and of their
/// means' are those of all elements. Threads of a channel take every kRowThreads-th chunk.
template <class A>
__global__ void __launch_bounds__(kColumns* kRowThreads) merge_chunks_kernel(ChunkMoments<A> m) {
  __shared__ double sums[kRowThreads][kColumns];
  const int64_t channel = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const auto elements = [&](int64_t k) {
    const int64_t left = m.count - k * m.chunk;
    return static_cast<double>(left < m.chunk ? left : m.chunk);
  };
  // The sum of f(k, part of chunk k) over all chunks of the channel, on each of its threads.
  const auto total = [&](auto f) {
    double sum = 0;
    if (channel < m.channels) {
      for (int64_t k = threadIdx.y; k < m.chunks; k += kRowThreads)
        sum += f(k, m.parts + k * 2 * m.channels + channel);
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    for (int half = kRowThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (static_cast<int>(threadIdx.y) < half)
        sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
    }
    __syncthreads();
    sum = sums[0][threadIdx.x];
    __syncthreads();  // all have read it before the next sum
    return sum;
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
}

template <class A>
struct ScaleOf {
  const A* variance;
  const A* w;
  A* rstd;
  A* scale;
  A eps;
  __device__ void operator()(int64_t c) const {
    rstd[c] = A(1) / A(sqrt(variance[c] + eps));
    scale[c] = w[c] * rstd[c];
  }
};

/// kCount adjacent elements, all in one row of channels.
template <class T, int kCount>
using Elements = row::Pack<T, kCount>;

template <int kCount, class T>
__device__ Elements<T, kCount> load(const T* from) {
  return *reinterpret_cast<const Elements<T, kCount>*>(from);
}

/// A team of one thread, for the elements that the thread has loaded.
struct OwnTeam {
  __device__ static constexpr int64_t lane() { return 0; }
  __device__ static constexpr int64_t lanes() { return 1; }
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

template <class T, class A = Accumulate<T>>
struct GradientPairs {
  const T* dy;
  const T* y;  // null: no mask
  T* g;
  const T* x;
  const A* mean;
  int64_t columns;
  __device__ A pivot(int64_t, int64_t column) const { return mean[column]; }
  __device__ void add(int64_t row, int64_t column, A centre, A& sum, A& dot) const {
    const int64_t at = row * columns + column;
    A d = A(dy[at]);
    if (y != nullptr) {
      d = A(y[at]) > A(0) ? d : A(0);
      g[at] = T(d);
    }
    sum += d;
    dot += d * (A(x[at]) - centre);
  }
  __device__ void finish(int64_t, A, A&, A&) const {}
};

template <class T, class A = Accumulate<T>>
struct GradientPlane {
  const T* dy;
  const T* y;
  T* g;
  const T* x;
  const A* mean;
  A* parts;  // (images, 2, C), zeros
  int64_t channels, width;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t c = r % channels;
    const int64_t at = r * width;
    const T* masked = dy + at;
    if (y != nullptr) {
      // No barrier: each lane reads only elements of g that it has written itself.
      row::mask_by_output(team, dy + at, y + at, g + at, width);
      masked = g + at;
    }
    A* sums = parts + r / channels * 2 * channels + c;
    row::batch_norm_sums<false>(team, masked, x + at, width, mean + c, sums, sums + channels);
  }
};

template <class A>
struct ParameterGradients {
  const A* sums;
  const A* rstd;
  const A* mean;
  const A* variance;
  A* out;
  int64_t channels;
  double share, unbiased;
  __device__ void operator()(int64_t c) const {
    out[c] = sums[channels + c] * rstd[c];
    out[channels + c] = sums[c];
    out[2 * channels + c] = A(share * static_cast<double>(mean[c]));
    out[3 * channels + c] = A(share * unbiased * static_cast<double>(variance[c]));
  }
};

/// The terms `shift` and `slope` of row::ChannelParameters in backward.
template <class A>
struct InputTerms {
  const A* sums;
  const A* rstd;
  A* shift;
  A* slope;
  int64_t channels;
  A each;  // 0: the statistics are constants
  __device__ void operator()(int64_t c) const {
    shift[c] = sums[c] * each;
    slope[c] = sums[channels + c] * each * rstd[c] * rstd[c];
  }
};

template <class T, int kCount, class A = Accumulate<T>>
struct InputElements {
  const T* g;
  const T* x;
  T* dx;
  bool accumulate;
  __device__ void operator()(const KeptChannels<A, kCount>& kept, int64_t i) const {
    const int64_t at = i * kCount;
    const auto gradient = load<kCount>(g + at);
    const auto in = load<kCount>(x + at);
    Elements<T, kCount> out{};
    if (accumulate) out = load<kCount>(dx + at);
    OwnTeam team;
    row::batch_norm_backward<true>(team, gradient.at, in.at, out.at, accumulate, int64_t{kCount},
                                   kept.view());
    *reinterpret_cast<Elements<T, kCount>*>(dx + at) = out;
  }
};

template <class T, class A = Accumulate<T>>
struct InputPlane {
  const T* g;
  const T* x;
  T* dx;
  row::ChannelParameters<A> p;
  int64_t channels, width;
  bool accumulate;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t c = r % channels;
    const int64_t at = r * width;
    row::batch_norm_backward<false>(
        team, g + at, x + at, dx + at, accumulate, width,
        row::ChannelParameters<A>{p.mean + c, p.scale + c, p.shift + c, p.slope + c});
  }
};

template <class T>
const T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

template <class T>
Tensor new_parts(int64_t chunks, const BatchNormLayout& l, const Stream& stream) {
  return Tensor::zeros({chunks, 2 * l.channels}, dtype_of<Accumulate<T>>(), stream);
}

/// Calls f(TypeTag<A>) with the dtype of a tensor of channels.
template <class F>
void by_wide(const Tensor& channels, F&& f) {
  if (channels.dtype() == DType::kFloat64)
    f(TypeTag<double>{});
  else
    f(TypeTag<float>{});
}

int64_t chunks_of(const BatchNormLayout& l) {
  if (!l.channels_last) return l.runs / l.channels;
  const int64_t chunk = chunk_rows(l.runs);
  return (l.runs + chunk - 1) / chunk;
}

}  // namespace

void batch_norm_statistics(const Tensor& x, const BatchNormLayout& l, const BatchNormChannels& channels,
                           const Stream& stream) {
  require_here("batch_norm", x, stream);
  dispatch_compute(x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const int64_t chunks = chunks_of(l);
    const Tensor parts = Tensor::empty({chunks, 2 * l.channels}, dtype_of<A>(), stream);
    if (l.channels_last) {
      column_pairs<A>("batch_norm_statistics", parts, l.runs, l.channels, stream,
                      Moments<T>{x.data<T>(), l.channels});
    } else {
      for_rows("batch_norm_statistics", l.runs, l.width, stream,
               PlaneMoments<T>{x.data<T>(), parts.data<A>(), l.channels, l.width});
    }
    if (l.channels == 0) return;
    const auto blocks = static_cast<unsigned>((l.channels + kColumns - 1) / kColumns);
    launch(
        "batch_norm_merge", stream, {blocks, dim3(kColumns, kRowThreads)}, merge_chunks_kernel<A>,
        ChunkMoments<A>{parts.data<A>(), l.channels, chunks, l.channels_last ? chunk_rows(l.runs) : l.width,
                        l.count, channels.mean.data<A>(), channels.variance.data<A>()});
  });
}

void batch_norm_scale(const BatchNormChannels& channels, const Tensor& w, double eps, const Stream& stream) {
  require_here("batch_norm", w, stream);
  by_wide(w, [&]<class A>(TypeTag<A>) {
    for_elements("batch_norm_scale", w.numel(), stream,
                 ScaleOf<A>{channels.variance.data<A>(), w.data<A>(), channels.rstd.data<A>(),
                            channels.scale.data<A>(), A(eps)});
  });
}

void batch_norm(const BatchNormApply& p, const BatchNormLayout& l, const BatchNormChannels& channels,
                const Stream& stream) {
  for (const Tensor* t : {&p.x, &p.residual, &p.y}) require_here("batch_norm", *t, stream);
  dispatch_compute(p.x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    constexpr int kCount = row::kWide<T>;
    const A floor = p.relu ? A(0) : -std::numeric_limits<A>::infinity();
    const row::ChannelParameters<A> parameters{channels.mean.data<A>(), channels.scale.data<A>(),
                                               p.shift.data<A>(), nullptr};
    const T* x = p.x.data<T>();
    const T* residual = data_or_null<T>(p.residual);
    T* y = p.y.data<T>();
    if (!l.channels_last) {
      for_rows("batch_norm", l.runs, l.width, stream,
               ApplyPlane<T>{x, residual, y, parameters, l.channels, l.width, floor});
    } else if (l.channels % kCount == 0 && aligned16(x, residual, y)) {
      for_channel_packs<kCount>("batch_norm", p.x.numel(), l.channels, parameters, stream,
                                ApplyElements<T, kCount>{x, residual, y, floor});
    } else {
      for_channel_packs<1>("batch_norm", p.x.numel(), l.channels, parameters, stream,
                           ApplyElements<T, 1>{x, residual, y, floor});
    }
  });
}

Tensor batch_norm_sums(const Tensor& dy, const Tensor& y, const Tensor& g, const Tensor& x,
                       const BatchNormLayout& l, const BatchNormChannels& channels, const Stream& stream) {
  for (const Tensor* t : {&dy, &y, &g, &x}) require_here("batch_norm_backward", *t, stream);
  return dispatch_compute(x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) -> Tensor {
    using A = Accumulate<T>;
    const Tensor parts = new_parts<T>(chunks_of(l), l, stream);
    if (l.channels_last) {
      column_pairs<A>("batch_norm_sums", parts, l.runs, l.channels, stream,
                      GradientPairs<T>{dy.data<T>(), data_or_null<T>(y), g.data<T>(), x.data<T>(),
                                       channels.mean.data<A>(), l.channels});
    } else {
      for_rows("batch_norm_sums", l.runs, l.width, stream,
               GradientPlane<T>{dy.data<T>(), data_or_null<T>(y), g.data<T>(), x.data<T>(),
                                channels.mean.data<A>(), parts.data<A>(), l.channels, l.width});
    }
    add_chunks(parts, stream);
    return parts.select(0, 0).view({2, l.channels});
  });
}

Tensor batch_norm_parameter_gradients(const Tensor& sums, const BatchNormLayout& l,
                                      const BatchNormChannels& channels, double share, const Stream& stream) {
  const Tensor out = Tensor::empty({4, l.channels}, sums.dtype(), stream);
  const auto count = static_cast<double>(l.count);
  by_wide(sums, [&]<class A>(TypeTag<A>) {
    for_elements("batch_norm_parameters", l.channels, stream,
                 ParameterGradients<A>{sums.data<A>(), channels.rstd.data<A>(), channels.mean.data<A>(),
                                       channels.variance.data<A>(), out.data<A>(), l.channels, share,
                                       count > 1 ? count / (count - 1) : 1});
  });
  return out;
}

void batch_norm_input_gradient(const BatchNormInputGradient& p, const BatchNormLayout& l,
                               const BatchNormChannels& channels, const Stream& stream) {
  for (const Tensor* t : {&p.g, &p.x, &p.dx}) require_here("batch_norm_backward", *t, stream);
  dispatch_compute(p.x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    constexpr int kCount = row::kWide<T>;
    const Tensor terms = Tensor::empty({2, l.channels}, dtype_of<A>(), stream);
    A* shift = terms.data<A>();
    A* slope = shift + l.channels;
    for_elements("batch_norm_terms", l.channels, stream,
                 InputTerms<A>{p.sums.data<A>(), channels.rstd.data<A>(), shift, slope, l.channels,
                               p.training ? A(1) / A(l.count) : A(0)});
    const row::ChannelParameters<A> parameters{channels.mean.data<A>(), channels.scale.data<A>(), shift,
                                               slope};
    const T* g = p.g.data<T>();
    const T* x = p.x.data<T>();
    T* dx = p.dx.data<T>();
    if (!l.channels_last) {
      for_rows("batch_norm_backward", l.runs, l.width, stream,
               InputPlane<T>{g, x, dx, parameters, l.channels, l.width, p.accumulate});
    } else if (l.channels % kCount == 0 && aligned16(g, x, dx)) {
      for_channel_packs<kCount>("batch_norm_backward", p.x.numel(), l.channels, parameters, stream,
                                InputElements<T, kCount>{g, x, dx, p.accumulate});
    } else {
      for_channel_packs<1>("batch_norm_backward", p.x.numel(), l.channels, parameters, stream,
                           InputElements<T, 1>{g, x, dx, p.accumulate});
    }
  });
}

}  // namespace tutti::cuda
