#include "kernels/cuda/batch_norm.h"

#include "kernels/cuda/batch_norm.cuh"

namespace tutti::cuda {
namespace {

/// How the gradient of y is masked by ReLU.
enum class Mask : uint8_t {
  kNone,
  kByOutput,  // where y > 0; the masked gradient is written
  kByInput,   // where y, computed again from x, is > 0
};

/// Whether y = (x - mean) scale + bias, rounded as y is, is positive.
template <class T, class A>
__device__ bool is_active(A x, A mean, A scale, A bias) {
  return A(T((x - mean) * scale + bias)) > A(0);
}

/// Sums of g and of g (x - mean).
template <class T, int kCount, Mask mask, class A = Accumulate<T>>
struct GradientSums {
  static constexpr int kAtOnce = 2;
  using Pack = row::Pack<T, kCount>;
  using Kept = KeptChannels<A, kCount>;
  struct Loaded {
    Pack dy, x, y;
  };
  const T* dy;
  const T* y;
  T* g;
  const T* x;
  row::ChannelParameters<A> p;
  __device__ Kept keep(int64_t, int64_t column) const { return Kept(p, column); }
  __device__ Loaded load(int64_t, int64_t at) const {
    Loaded in;
    in.dy = *reinterpret_cast<const Pack*>(dy + at);
    in.x = *reinterpret_cast<const Pack*>(x + at);
    if constexpr (mask == Mask::kByOutput) in.y = *reinterpret_cast<const Pack*>(y + at);
    return in;
  }
  __device__ void add(const Kept& kept, const Loaded& in, int64_t at, A (&sum)[kCount],
                      A (&dot)[kCount]) const {
    Pack masked;
    for (int i = 0; i < kCount; ++i) {
      A d = A(in.dy.at[i]);
      const A v = A(in.x.at[i]);
      if constexpr (mask == Mask::kByOutput) d = A(in.y.at[i]) > A(0) ? d : A(0);
      if constexpr (mask == Mask::kByInput)
        d = is_active<T>(v, kept.mean[i], kept.scale[i], kept.bias[i]) ? d : A(0);
      if constexpr (mask == Mask::kByOutput) masked.at[i] = T(d);
      sum[i] += d;
      dot[i] += d * (v - kept.mean[i]);
    }
    if constexpr (mask == Mask::kByOutput) *reinterpret_cast<Pack*>(g + at) = masked;
  }
  __device__ void finish(const Kept&, int, int64_t, A&, A&) const {}
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

/// Where the gradient of a parameter goes; null if it is not needed.
struct Destination {
  void* to = nullptr;
  DType dtype = DType::kFloat32;
  bool accumulate = false;

  template <class G, class A>
  __device__ void write_as(int64_t c, A gradient) const {
    G& at = static_cast<G*>(to)[c];
    using Wide = decltype(Accumulate<G>{} + gradient);
    at = G(Accumulate<G>(accumulate ? Wide(Accumulate<G>(at)) + gradient : gradient));
  }
  template <class A>
  __device__ void write(int64_t c, A gradient) const {
    if (to == nullptr) return;
    if (dtype == DType::kBFloat16) return write_as<BFloat16>(c, gradient);
    if (dtype == DType::kFloat32) return write_as<float>(c, gradient);
    write_as<double>(c, gradient);
  }
};

template <class A>
struct GradientParts {
  const A* parts;  // (chunks, 2, channels): sums of g and of g (x - mean)
  int64_t channels, chunks;
  const A* rstd;
  const A* mean;
  const A* variance;
  Destination w, b, running_mean, running_variance;
  double share, unbiased;
  A* shift;  // terms of row::ChannelParameters in backward
  A* slope;
  A each;  // 0: the statistics are constants
};

/// Adds the chunks of each channel, and derives the gradients of the parameters and the terms of dx.
template <class A>
__global__ void __launch_bounds__(kMergeColumns* kMergeThreads) finish_gradients_kernel(GradientParts<A> p) {
  __shared__ A sums[kMergeThreads][kMergeColumns];
  const int64_t c = int64_t{blockIdx.x} * kMergeColumns + threadIdx.x;
  A first = 0;
  A second = 0;
  if (c < p.channels) {
    for (int64_t k = threadIdx.y; k < p.chunks; k += kMergeThreads) {
      first += p.parts[k * 2 * p.channels + c];
      second += p.parts[(k * 2 + 1) * p.channels + c];
    }
  }
  const A sum = sum_over_threads(sums, first);
  const A dot = sum_over_threads(sums, second);
  if (threadIdx.y != 0 || c >= p.channels) return;
  p.w.write(c, dot * p.rstd[c]);
  p.b.write(c, sum);
  p.running_mean.write(c, A(p.share * static_cast<double>(p.mean[c])));
  p.running_variance.write(c, A(p.share * p.unbiased * static_cast<double>(p.variance[c])));
  p.shift[c] = sum * p.each;
  p.slope[c] = dot * p.each * p.rstd[c] * p.rstd[c];
}

template <class T, int kCount, bool kMasked, class A = Accumulate<T>>
struct InputElements {
  const T* g;  // with kMasked, before the mask
  const T* x;
  T* dx;
  bool accumulate;
  __device__ void operator()(const KeptChannels<A, kCount>& kept, int64_t i) const {
    const int64_t at = i * kCount;
    auto gradient = load<kCount>(g + at);
    const auto in = load<kCount>(x + at);
    if constexpr (kMasked) {
      for (int k = 0; k < kCount; ++k) {
        if (!is_active<T>(A(in.at[k]), kept.mean[k], kept.scale[k], kept.bias[k])) gradient.at[k] = T(A(0));
      }
    }
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

Destination destination(const std::optional<Gradients::Slot>& slot) {
  if (!slot) return {};
  return {slot->tensor.raw(), slot->tensor.dtype(), slot->mode == GradMode::kAccumulate};
}

/// Sums of g and of g (x - mean) of the chunks: (chunks, 2 channels).
template <class T, class A = Accumulate<T>>
Tensor gradient_parts(const BatchNormBackward& p, const BatchNormLayout& l, const BatchNormChannels& channels,
                      const Stream& stream) {
  const T* dy = p.dy.data<T>();
  const T* x = p.x.data<T>();
  const T* y = data_or_null<T>(p.y);
  T* g = p.y.defined() ? p.g.data<T>() : nullptr;
  const int64_t chunks = chunks_of(l);
  if (!l.channels_last) {
    const Tensor parts = Tensor::zeros({chunks, 2 * l.channels}, dtype_of<A>(), stream);
    for_rows("batch_norm_sums", l.runs, l.width, stream,
             GradientPlane<T>{dy, y, g, x, channels.mean.data<A>(), parts.data<A>(), l.channels, l.width});
    return parts;
  }
  const Tensor parts = Tensor::empty({chunks, 2 * l.channels}, dtype_of<A>(), stream);
  const A* shift = channels.shift.data<A>();
  const row::ChannelParameters<A> kept{channels.mean.data<A>(), channels.scale.data<A>(), shift, nullptr,
                                       shift};
  by_pack<T>(l, aligned16(dy, x, y, g), [&]<int kCount>(std::integral_constant<int, kCount>) {
    const auto run = [&]<Mask mask>() {
      channel_sums<kCount>("batch_norm_sums", parts.data<A>(), l.runs, l.channels, chunk_rows(l.runs), stream,
                           GradientSums<T, kCount, mask>{dy, y, g, x, kept});
    };
    if (p.y.defined())
      run.template operator()<Mask::kByOutput>();
    else if (p.mask_by_input)
      run.template operator()<Mask::kByInput>();
    else
      run.template operator()<Mask::kNone>();
  });
  return parts;
}

}  // namespace

BatchNormTerms batch_norm_gradients(const BatchNormBackward& p, const BatchNormLayout& l,
                                    const BatchNormChannels& channels, const BatchNormSlots& slots,
                                    const Stream& stream) {
  for (const Tensor* t : {&p.dy, &p.y, &p.g, &p.x}) require_here("batch_norm_backward", *t, stream);
  require(!p.mask_by_input || (l.channels_last && !p.y.defined()),
          "batch_norm_backward: the mask follows from x only without a residual and with channels last");
  return dispatch_compute(p.x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) -> BatchNormTerms {
    using A = Accumulate<T>;
    const Tensor parts = gradient_parts<T>(p, l, channels, stream);
    BatchNormTerms terms{Tensor::empty({l.channels}, dtype_of<A>(), stream),
                         Tensor::empty({l.channels}, dtype_of<A>(), stream)};
    const auto count = static_cast<double>(l.count);
    launch("batch_norm_gradients", stream, grid_of_channels(l.channels), finish_gradients_kernel<A>,
           GradientParts<A>{.parts = parts.data<A>(),
                            .channels = l.channels,
                            .chunks = parts.size(0),
                            .rstd = channels.rstd.data<A>(),
                            .mean = channels.mean.data<A>(),
                            .variance = channels.variance.data<A>(),
                            .w = destination(slots.w),
                            .b = destination(slots.b),
                            .running_mean = destination(slots.running_mean),
                            .running_variance = destination(slots.running_variance),
                            .share = p.share,
                            .unbiased = count > 1 ? count / (count - 1) : 1,
                            .shift = terms.shift.data<A>(),
                            .slope = terms.slope.data<A>(),
                            .each = p.training ? A(1) / A(l.count) : A(0)});
    return terms;
  });
}

void batch_norm_input_gradient(const BatchNormBackward& p, const BatchNormTerms& terms,
                               const Gradients::Slot& dx, const BatchNormLayout& l,
                               const BatchNormChannels& channels, const Stream& stream) {
  for (const Tensor* t : {&p.g, &p.x, &dx.tensor}) require_here("batch_norm_backward", *t, stream);
  dispatch_compute(p.x.dtype(), "batch_norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const row::ChannelParameters<A> parameters{channels.mean.data<A>(), channels.scale.data<A>(),
                                               terms.shift.data<A>(), terms.slope.data<A>(),
                                               channels.shift.data<A>()};
    const T* g = p.g.data<T>();
    const T* x = p.x.data<T>();
    T* to = dx.tensor.data<T>();
    const bool accumulate = dx.mode == GradMode::kAccumulate;
    if (!l.channels_last)
      return for_rows("batch_norm_backward", l.runs, l.width, stream,
                      InputPlane<T>{g, x, to, parameters, l.channels, l.width, accumulate});
    by_pack<T>(l, aligned16(g, x, to), [&]<int kCount>(std::integral_constant<int, kCount>) {
      if (p.mask_by_input)
        for_channel_packs<kCount>("batch_norm_backward", p.x.numel(), l.channels, parameters, stream,
                                  InputElements<T, kCount, true>{g, x, to, accumulate});
      else
        for_channel_packs<kCount>("batch_norm_backward", p.x.numel(), l.channels, parameters, stream,
                                  InputElements<T, kCount, false>{g, x, to, accumulate});
    });
  });
}

}  // namespace tutti::cuda
