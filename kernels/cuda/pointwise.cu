// Binary operations with broadcasting.
#include "kernels/broadcast_plan.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pointwise.h"
#include "kernels/row/pointwise.h"

#include <optional>
#include <tuple>

namespace tutti::cuda {
namespace {

template <class Op>
struct Value {
  Op op;
  template <class A>
  __device__ A operator()(A, A a, A b) const {
    return op.value(a, b);
  }
};

template <class Op, int kWhich>
struct Derivative {
  Op op;
  template <class A>
  __device__ A operator()(A dy, A a, A b) const {
    return dy * (kWhich == 0 ? op.first(a, b) : op.second(a, b));
  }
};

template <class T>
struct Pointers {
  const T* dy;  // null in forward
  const T* a;
  const T* b;
  T* out;
};

/// All tensors have one shape; 16 bytes at a time. Memory traffic: n sizeof(T) for each pointer.
template <class T, class F>
__global__ void same_shape_kernel(int64_t n, Pointers<T> p, F f) {
  using A = Accumulate<T>;
  constexpr int kCount = row::kWide<T>;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t packs = n / kCount;
  for (int64_t i = first; i < packs; i += step) {
    const auto a = row::load_pack(p.a + i * kCount);
    const auto b = row::load_pack(p.b + i * kCount);
    const auto dy = p.dy == nullptr ? a : row::load_pack(p.dy + i * kCount);
    row::WidePack<T> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.at[k] = T(f(A(dy.at[k]), A(a.at[k]), A(b.at[k])));
    row::store_pack(p.out + i * kCount, out);
  }
  for (int64_t i = packs * kCount + first; i < n; i += step) {
    p.out[i] = T(f(A(p.dy == nullptr ? p.a[i] : p.dy[i]), A(p.a[i]), A(p.b[i])));
  }
}

/// Merged dims, innermost first, and the strides of a and b.
struct Dims {
  int count = 0;
  int64_t size[kMaxDims];
  int64_t a[kMaxDims];
  int64_t b[kMaxDims];
};

template <class Index>
struct Offsets {
  Index a, b;
};

/// Where the operands of element i of the result are.
template <class Index>
__device__ Offsets<Index> offsets(Index i, const Dims& dims) {
  Offsets<Index> at{0, 0};
  for (int d = 0; d < dims.count; ++d) {
    const Index size = static_cast<Index>(dims.size[d]);
    const Index next = i / size;
    const Index index = i - next * size;
    i = next;
    at.a += index * static_cast<Index>(dims.a[d]);
    at.b += index * static_cast<Index>(dims.b[d]);
  }
  return at;
}

/// Memory traffic: n sizeof(T) for each of out and dy, and a and b once if repeated elements stay in the
/// caches. `Index` has 32 bits if the sizes allow it: 64-bit divisions take more time than the memory
/// accesses.
template <class Index, class T, class F>
__global__ void broadcast_kernel(Index n, Dims dims, Pointers<T> p, F f) {
  using A = Accumulate<T>;
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const auto [a, b] = offsets(i, dims);
    p.out[i] = T(f(A(p.dy == nullptr ? p.a[a] : p.dy[i]), A(p.a[a]), A(p.b[b])));
  }
}

/// kCount elements of an operand from `at` on, or element `at` for all of them.
template <class T>
__device__ row::WidePack<T> operand(const T* x, int64_t at, bool repeats) {
  if (!repeats) return row::load_pack(x + at);
  row::WidePack<T> pack;
  for (int k = 0; k < row::kWide<T>; ++k) pack.at[k] = x[at];
  return pack;
}

/// The same 16 bytes at a time: sizes and strides of the innermost dim are of packs, or the stride is 0 and
/// the operand repeats within a pack.
template <class Index, class T, class F>
__global__ void broadcast_packs_kernel(Index packs, Dims dims, Pointers<T> p, F f) {
  using A = Accumulate<T>;
  constexpr int kCount = row::kWide<T>;
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const auto [at_a, at_b] = offsets(i, dims);
    const auto a = operand(p.a, at_a, dims.a[0] == 0);
    const auto b = operand(p.b, at_b, dims.b[0] == 0);
    const int64_t at = int64_t{i} * kCount;
    const auto dy = p.dy == nullptr ? a : row::load_pack(p.dy + at);
    row::WidePack<T> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.at[k] = T(f(A(dy.at[k]), A(a.at[k]), A(b.at[k])));
    row::store_pack(p.out + at, out);
  }
}

/// `dims` in packs of `pack` elements; nothing if a pack would cross a row or not be aligned.
std::optional<Dims> in_packs(Dims dims, int64_t pack) {
  for (int64_t* strides : {dims.a, dims.b}) {
    for (int d = 1; d < dims.count && strides[0] != 0; ++d) {
      if (strides[d] % pack != 0) return std::nullopt;
    }
    strides[0] *= pack;
  }
  if (dims.size[0] % pack != 0) return std::nullopt;
  dims.size[0] /= pack;
  return dims;
}

/// Calls f(TypeTag<uint32_t>) if numbers up to `n` fit.
template <class F>
void by_index(int64_t n, F f) {
  if (n < (int64_t{1} << 31))
    f(TypeTag<uint32_t>{});
  else
    f(TypeTag<int64_t>{});
}

template <class F>
void run(const Tensor& dy, const Tensor& a, const Tensor& b, const Tensor& out, F f, const Stream& stream) {
  for (const Tensor* t : {&dy, &a, &b, &out}) require_here("pointwise", *t, stream);
  const int64_t n = out.numel();
  if (n == 0) return;
  const BroadcastPlan<2> plan = plan_broadcast<2>(out.shape(), {&a.shape(), &b.shape()});
  Dims dims;
  for (size_t d = plan.sizes.size(); d-- > 0; ++dims.count) {
    dims.size[dims.count] = plan.sizes[d];
    dims.a[dims.count] = plan.strides[0][d];
    dims.b[dims.count] = plan.strides[1][d];
  }
  dispatch_compute(out.dtype(), "pointwise", [&]<class T>(TypeTag<T>) {
    const Pointers<T> p{.dy = dy.defined() ? dy.data<T>() : nullptr,
                        .a = a.data<T>(),
                        .b = b.data<T>(),
                        .out = out.data<T>()};
    const bool same = a.shape() == out.shape() && b.shape() == out.shape();
    const bool aligned = aligned16(p.dy, p.a, p.b, p.out);
    if (same && aligned) {
      launch("pointwise", stream, {blocks_for(n / row::kWide<T>), kThreads}, same_shape_kernel<T, F>, n, p,
             f);
      return;
    }
    const std::optional<Dims> packs = aligned ? in_packs(dims, row::kWide<T>) : std::nullopt;
    by_index(n, [&]<class Index>(TypeTag<Index>) {
      if (packs) {
        const int64_t count = n / row::kWide<T>;
        launch("pointwise", stream, {blocks_for(count), kThreads}, broadcast_packs_kernel<Index, T, F>,
               static_cast<Index>(count), *packs, p, f);
      } else {
        launch("pointwise", stream, {blocks_for(n), kThreads}, broadcast_kernel<Index, T, F>,
               static_cast<Index>(n), dims, p, f);
      }
    });
  });
}

}  // namespace

template <row::Listed<row::BinaryOps> Op>
void binary(const Tensor& a, const Tensor& b, const Tensor& out, Op op, const Stream& stream) {
  run(Tensor(), a, b, out, Value<Op>{op}, stream);
}

template <row::Listed<row::BinaryOps> Op>
void binary_backward(const Tensor& dy, const std::array<Tensor, 2>& operands, int which, const Tensor& out,
                     Op op, const Stream& stream) {
  if (which == 0)
    run(dy, operands[0], operands[1], out, Derivative<Op, 0>{op}, stream);
  else
    run(dy, operands[0], operands[1], out, Derivative<Op, 1>{op}, stream);
}

// An explicit instantiation cannot name a list; taking the addresses instantiates the templates for all of
// it. The gradients of linear operations need no kernel of their own.
template <class Op>
constexpr auto backward_instance() {
  if constexpr (Op::kLinear)
    return nullptr;
  else
    return &binary_backward<Op>;
}
template <class... Ops>
auto binary_instances(row::FunctorList<Ops...>) {
  return std::tuple(&binary<Ops>..., backward_instance<Ops>()...);
}
template auto binary_instances(row::BinaryOps);

}  // namespace tutti::cuda
