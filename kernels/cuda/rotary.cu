#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotary.h"

#include <cmath>

namespace tutti::cuda {
namespace {

/// Cosines and sines of all positions, (T, 2, head_dim / 2), computed in fp64 as on the CPU: angles reach
/// thousands of radians, for which fp32 is not accurate enough. The table has the size of one head of one
/// sample, so its time is small.
template <class A>
struct Angles {
  A* table;
  int64_t half;
  Rotation r;
  __device__ void operator()(int64_t i) const {
    const int64_t position = i / half;
    const int64_t k = i % half;
    const double angle = static_cast<double>(r.first_position + position) *
                         row::rotary_frequency(r.scaling, r.base, k, 2 * half);
    const double amplitude = r.scaling.amplitude();
    double sine = 0;
    double cosine = 0;
    ::sincos(angle, &sine, &cosine);
    table[(2 * position) * half + k] = static_cast<A>(amplitude * cosine);
    table[(2 * position + 1) * half + k] = static_cast<A>(amplitude * r.direction * sine);
  }
};

/// Thread (row, head, k) rotates kCount elements of each half of the head, from element k, or copies them if
/// the head is not rotated. Memory traffic: 2 rows width sizeof(T), less for heads that are not rotated in
/// place.
template <class T, int kCount>
struct Turn {
  using A = Accumulate<T>;
  const T* x;
  T* y;
  const A* table;
  int64_t positions;
  int64_t heads;  // heads of a row, rotated or not
  int64_t rotated;
  int64_t half;
  __device__ void operator()(int64_t i) const {
    using Part = row::Pack<T, kCount>;
    const int64_t parts = half / kCount;
    const int64_t k = i % parts * kCount;
    const int64_t head = i / parts % heads;
    const int64_t row = i / parts / heads;
    const int64_t at = (row * heads + head) * 2 * half + k;
    const Part p = *reinterpret_cast<const Part*>(x + at);
    const Part q = *reinterpret_cast<const Part*>(x + at + half);
    Part first = p;
    Part second = q;
    if (head < rotated) {
      const A* cosine = table + row % positions * 2 * half + k;
      const A* sine = cosine + half;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const A a = A(p.at[j]);
        const A b = A(q.at[j]);
        first.at[j] = T(a * cosine[j] - b * sine[j]);
        second.at[j] = T(b * cosine[j] + a * sine[j]);
      }
    } else if (x == y) {
      return;
    }
    *reinterpret_cast<Part*>(y + at) = first;
    *reinterpret_cast<Part*>(y + at + half) = second;
  }
};

}  // namespace

void rotate(const Tensor& x, const Tensor& y, const Rotation& rotation, const Stream& stream) {
  for (const Tensor* t : {&x, &y}) require_here("rotary", *t, stream);
  if (x.numel() == 0) return;
  const int64_t positions = x.size(1);
  const int64_t half = rotation.head_dim / 2;
  dispatch_compute(x.dtype(), "rotary", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const Tensor table = Tensor::empty({positions, 2, half}, dtype_of<A>(), stream);
    for_elements("rotary angles", positions * half, stream, Angles<A>{table.data<A>(), half, rotation});
    const auto launch = [&]<int kCount>(std::integral_constant<int, kCount>) {
      for_elements("rotary", x.numel() / 2 / kCount, stream,
                   Turn<T, kCount>{.x = x.data<T>(),
                                   .y = y.data<T>(),
                                   .table = table.data<A>(),
                                   .positions = positions,
                                   .heads = x.size(2) / rotation.head_dim,
                                   .rotated = rotation.rotated,
                                   .half = half});
    };
    if (half % row::kWide<T> == 0 && aligned16(x.raw(), y.raw()))
      launch(std::integral_constant<int, row::kWide<T>>{});
    else
      launch(std::integral_constant<int, 1>{});
  });
}

}  // namespace tutti::cuda
