// fill, convert and add_in_place on one CUDA device.
#include "core/cuda/launch.h"
#include "core/cuda/tensor_ops.h"

#include <algorithm>

namespace tutti::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 20;

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>(std::clamp<int64_t>((threads + kThreads - 1) / kThreads, 1, kMaxBlocks));
}

template <class D, class S>
__device__ D converted(S value) {
  if constexpr (std::is_same_v<D, S>)
    return value;
  else if constexpr (std::is_same_v<D, BFloat16> || std::is_same_v<D, Float16>)
    return D(static_cast<float>(value));
  else if constexpr (std::is_same_v<S, BFloat16> || std::is_same_v<S, Float16>)
    return static_cast<D>(static_cast<float>(value));
  else
    return static_cast<D>(value);
}

/// Strides of two tensors of the same shape, innermost dim first; dims are merged where both allow it.
struct Walk {
  int dims = 0;
  int64_t size[kMaxDims];
  int64_t to[kMaxDims];
  int64_t from[kMaxDims];
};

Walk walk(const Tensor& destination, const Tensor& source) {
  Walk w;
  for (int d = destination.dims() - 1; d >= 0; --d) {
    const int64_t size = destination.size(d);
    if (size == 1) continue;
    const int64_t to = destination.stride(d);
    const int64_t from = source.stride(d);
    if (w.dims > 0) {
      const int last = w.dims - 1;
      if (to == w.to[last] * w.size[last] && from == w.from[last] * w.size[last]) {
        w.size[last] *= size;
        continue;
      }
    }
    w.size[w.dims] = size;
    w.to[w.dims] = to;
    w.from[w.dims] = from;
    ++w.dims;
  }
  return w;
}

template <bool kAdd, class D, class S>
__device__ void store_one(D* to, S value) {
  using A = std::conditional_t<std::is_same_v<D, double> || std::is_same_v<S, double>, double, float>;
  if constexpr (kAdd)
    *to = converted<D>(converted<A>(*to) + converted<A>(value));
  else
    *to = converted<D>(value);
}

template <bool kAdd, class D, class S>
__global__ void walk_kernel(Walk w, int64_t n, D* destination, const S* source) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    int64_t rest = i;
    int64_t to = 0;
    int64_t from = 0;
    for (int d = 0; d < w.dims; ++d) {
      const int64_t next = rest / w.size[d];
      const int64_t index = rest - next * w.size[d];
      rest = next;
      to += index * w.to[d];
      from += index * w.from[d];
    }
    store_one<kAdd>(destination + to, source[from]);
  }
}

/// Elements per thread and iteration for contiguous tensors: 16 bytes of the wider of the two types.
template <class D, class S>
constexpr int kPack = 16 / std::max(sizeof(D), sizeof(S));

template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
  T at[n];
};

/// Memory traffic in bytes: n (sizeof(S) + sizeof(D)), and n sizeof(D) more with kAdd. Pointers are aligned
/// to their packs.
template <bool kAdd, class D, class S>
__global__ void contiguous_kernel(int64_t n, D* destination, const S* source) {
  constexpr int kWide = kPack<D, S>;
  const int64_t packs = n / kWide;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  auto* to = reinterpret_cast<Pack<D, kWide>*>(destination);
  const auto* from = reinterpret_cast<const Pack<S, kWide>*>(source);
  for (int64_t i = first; i < packs; i += step) {
    const Pack<S, kWide> in = from[i];
    Pack<D, kWide> out;
    if constexpr (kAdd) out = to[i];
#pragma unroll
    for (int k = 0; k < kWide; ++k) store_one<kAdd>(&out.at[k], in.at[k]);
    to[i] = out;
  }
  for (int64_t i = packs * kWide + first; i < n; i += step) store_one<kAdd>(destination + i, source[i]);
}

template <class T>
__global__ void fill_kernel(Walk w, int64_t n, T* destination, T value) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    int64_t rest = i;
    int64_t to = 0;
    for (int d = 0; d < w.dims; ++d) {
      to += rest % w.size[d] * w.to[d];
      rest /= w.size[d];
    }
    destination[to] = value;
  }
}

bool aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

template <bool kAdd, class D, class S>
void copy_or_add(std::string_view name, const Tensor& destination, const Tensor& source,
                 const Stream& stream) {
  const int64_t n = destination.numel();
  D* to = destination.data<D>();
  const S* from = source.data<S>();
  if (destination.contiguous() && source.contiguous() && aligned(to, kPack<D, S> * sizeof(D)) &&
      aligned(from, kPack<D, S> * sizeof(S))) {
    launch(name, stream, {blocks_for(n / kPack<D, S>), kThreads}, contiguous_kernel<kAdd, D, S>, n, to, from);
  } else {
    launch(name, stream, {blocks_for(n), kThreads}, walk_kernel<kAdd, D, S>, walk(destination, source), n, to,
           from);
  }
}

template <class T>
__global__ void one_if_finite_kernel(const T* value, T* out) {
  *out = isfinite(static_cast<double>(*value)) ? T(1) : static_cast<T>(nan(""));
}

__global__ void empty_kernel() {}

}  // namespace

const void* probe_kernel() {
  return reinterpret_cast<const void*>(&empty_kernel);
}

void fill(const Tensor& destination, double value, const Stream& stream) {
  const int64_t n = destination.numel();
  if (n == 0) return;
  const UseDevice use(destination.device().index);
  if (value == 0 && destination.contiguous()) {
    check(cudaMemsetAsync(destination.raw(), 0, static_cast<size_t>(destination.bytes()), native(stream)),
          "cudaMemsetAsync");
    return;
  }
  dispatch_all(destination.dtype(), [&]<class T>(TypeTag<T>) {
    T v;
    if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>)
      v = T(static_cast<float>(value));
    else
      v = static_cast<T>(value);
    launch("fill", stream, {blocks_for(n), kThreads}, fill_kernel<T>, walk(destination, destination), n,
           destination.data<T>(), v);
  });
}

void convert(const Tensor& destination, const Tensor& source, const Stream& stream) {
  dispatch_all(destination.dtype(), [&]<class D>(TypeTag<D>) {
    dispatch_all(source.dtype(),
                 [&]<class S>(TypeTag<S>) { copy_or_add<false, D, S>("copy", destination, source, stream); });
  });
}

Tensor one_if_finite(const Tensor& value, const Stream& stream) {
  require(value.numel() == 1, "one_if_finite: a tensor of shape {}", to_string(value.shape()));
  const Tensor out = Tensor::empty(value.shape(), value.dtype(), stream);
  const auto launch_for = [&]<class T>(TypeTag<T>) {
    launch("one_if_finite", stream, {1, 1}, one_if_finite_kernel<T>, value.data<T>(), out.data<T>());
  };
  if (value.dtype() == DType::kFloat64)
    launch_for(TypeTag<double>{});
  else
    launch_for(TypeTag<float>{});  // a loss is fp32 or fp64
  return out;
}

void add_in_place(const Tensor& destination, const Tensor& source, const Stream& stream) {
  require(destination.device() == source.device(), "add_in_place: {} += {}", name(destination.device()),
          name(source.device()));
  if (destination.numel() == 0) return;
  const auto dispatch_floating = [](DType dtype, auto&& f) {
    if (dtype == DType::kFloat16)
      f(TypeTag<Float16>{});
    else
      dispatch_compute(dtype, "add_in_place", f);
  };
  dispatch_floating(destination.dtype(), [&]<class D>(TypeTag<D>) {
    dispatch_floating(source.dtype(), [&]<class S>(TypeTag<S>) {
      copy_or_add<true, D, S>("add_in_place", destination, source, stream);
    });
  });
}

}  // namespace tutti::cuda
