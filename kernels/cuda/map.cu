// Unary operations and swiglu.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pointwise.h"
#include "kernels/row/pointwise.h"

#include <tuple>

namespace tutti::cuda {
namespace {

/// y = op(x), or y = x * op.derivative(saved) with kBackward. Reads and writes 16 bytes at a time if
/// `packed`; the pointers must then be aligned. Memory traffic: n sizeof(T) for each of x, y and, if it is
/// read, saved.
template <bool kBackward, class T, class Op>
__global__ void map_kernel(int64_t n, bool packed, const T* x, const T* saved, T* y, Op op) {
  using A = Accumulate<T>;
  constexpr int kCount = row::kWide<T>;
  constexpr bool kReads = kBackward && Op::kSaves != row::Saves::kNothing;
  const auto one = [&](T in, T with) {
    if constexpr (kBackward)
      return T(A(in) * op.derivative(A(with)));
    else
      return T(op.value(A(in)));
  };
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t packs = packed ? n / kCount : 0;
  for (int64_t p = first; p < packs; p += step) {
    const row::WidePack<T> in = row::load_pack(x + p * kCount);
    row::WidePack<T> with = in;
    if constexpr (kReads) with = row::load_pack(saved + p * kCount);
    row::WidePack<T> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.at[k] = one(in.at[k], with.at[k]);
    row::store_pack(y + p * kCount, out);
  }
  for (int64_t i = packs * kCount + first; i < n; i += step) y[i] = one(x[i], kReads ? saved[i] : x[i]);
}

template <bool kBackward, class Op>
void run(const Tensor& x, const Tensor& saved, const Tensor& y, Op op, const Stream& stream) {
  for (const Tensor* t : {&x, &saved, &y}) require_here("map", *t, stream);
  const int64_t n = y.numel();
  if (n == 0) return;
  dispatch_compute(x.dtype(), "map", [&]<class T>(TypeTag<T>) {
    const T* with = saved.defined() ? saved.data<T>() : nullptr;
    const bool packed = aligned16(x.raw(), with, y.raw());
    launch("map", stream, {blocks_for(packed ? n / row::kWide<T> : n), kThreads},
           map_kernel<kBackward, T, Op>, n, packed, x.data<T>(), with, y.data<T>(), op);
  });
}

/// One thread per pack of the output. Memory traffic: 3 rows h sizeof(T) forward, 5 backward.
template <class T>
__global__ void swiglu_kernel(int64_t packs, int64_t h, const T* x, T* y) {
  using A = Accumulate<T>;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t in_row = h / row::kWide<T>;
  for (int64_t p = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; p < packs; p += step) {
    const T* from = x + (p + p / in_row * in_row) * row::kWide<T>;
    const auto gate = row::load_pack(from);
    const auto up = row::load_pack(from + h);
    row::WidePack<T> out;
#pragma unroll
    for (int k = 0; k < row::kWide<T>; ++k) {
      out.at[k] = T(row::Silu().value(A(gate.at[k])) * A(up.at[k]));
    }
    row::store_pack(y + p * row::kWide<T>, out);
  }
}

template <class T>
__global__ void swiglu_backward_kernel(int64_t packs, int64_t h, const T* dy, const T* x, T* dx) {
  SerialTeam team;
  constexpr int kCount = row::kWide<T>;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t in_row = h / kCount;
  for (int64_t p = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; p < packs; p += step) {
    const int64_t at = (p + p / in_row * in_row) * kCount;
    const auto d = row::load_pack(dy + p * kCount);
    const auto gate = row::load_pack(x + at);
    const auto up = row::load_pack(x + at + h);
    row::WidePack<T> dgate;
    row::WidePack<T> dup;
    row::swiglu_backward(team, d.at, gate.at, up.at, dgate.at, dup.at, kCount);
    row::store_pack(dx + at, dgate);
    row::store_pack(dx + at + h, dup);
  }
}

template <class T>
struct SwigluRow {
  const T* x;
  T* y;
  int64_t h;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    row::swiglu(team, x + 2 * r * h, x + (2 * r + 1) * h, y + r * h, h);
  }
};

template <class T>
struct SwigluBackwardRow {
  const T* dy;
  const T* x;
  T* dx;
  int64_t h;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    const int64_t gate = 2 * r * h;
    row::swiglu_backward(team, dy + r * h, x + gate, x + gate + h, dx + gate, dx + gate + h, h);
  }
};

}  // namespace

template <row::Listed<row::UnaryOps> Op>
void map(const Tensor& x, const Tensor& y, Op op, const Stream& stream) {
  run<false>(x, Tensor(), y, op, stream);
}

template <row::Listed<row::UnaryOps> Op>
void map_backward(const Tensor& dy, const Tensor& saved, const Tensor& dx, Op op, const Stream& stream) {
  run<true>(dy, saved, dx, op, stream);
}

void swiglu(const Tensor& x, const Tensor& y, const Stream& stream) {
  for (const Tensor* t : {&x, &y}) require_here("swiglu", *t, stream);
  if (y.numel() == 0) return;
  const int64_t h = y.size(-1);
  dispatch_compute(x.dtype(), "swiglu", [&]<class T>(TypeTag<T>) {
    const int64_t packs = y.numel() / row::kWide<T>;
    if (h % row::kWide<T> == 0 && aligned16(x.raw(), y.raw())) {
      launch("swiglu", stream, {blocks_for(packs), kThreads}, swiglu_kernel<T>, packs, h, x.data<T>(),
             y.data<T>());
    } else {
      for_rows("swiglu", y.numel() / h, h, stream, SwigluRow<T>{x.data<T>(), y.data<T>(), h});
    }
  });
}

void swiglu_backward(const Tensor& dy, const Tensor& x, const Tensor& dx, const Stream& stream) {
  for (const Tensor* t : {&dy, &x, &dx}) require_here("swiglu_backward", *t, stream);
  if (dy.numel() == 0) return;
  const int64_t h = dy.size(-1);
  dispatch_compute(x.dtype(), "swiglu", [&]<class T>(TypeTag<T>) {
    const int64_t packs = dy.numel() / row::kWide<T>;
    if (h % row::kWide<T> == 0 && aligned16(x.raw(), dy.raw(), dx.raw())) {
      launch("swiglu_backward", stream, {blocks_for(packs), kThreads}, swiglu_backward_kernel<T>, packs, h,
             dy.data<T>(), x.data<T>(), dx.data<T>());
    } else {
      for_rows("swiglu_backward", dy.numel() / h, h, stream,
               SwigluBackwardRow<T>{dy.data<T>(), x.data<T>(), dx.data<T>(), h});
    }
  });
}

// An explicit instantiation cannot name a list; taking the addresses instantiates the templates for all of
// it.
template <class... Ops>
auto unary_instances(row::FunctorList<Ops...>) {
  return std::tuple(&map<Ops>..., &map_backward<Ops>...);
}
template auto unary_instances(row::UnaryOps);

}  // namespace tutti::cuda
