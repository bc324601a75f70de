#include "kernels/cpu/sums.h"

#include "kernels/cpu/ranges.h"

namespace tutti::cpu {
namespace {

constexpr int64_t kColumns = 2048;     // columns of one task: its sums fit the L1 cache
constexpr int64_t kMaxChunks = 64;     // chunks of one sum
constexpr int64_t kRowSegment = 8192;  // elements of one row summed by one task

/// sums[c] = sum over rows of x[row * stride + c]. Adds four rows at a time, which saves loads and stores of
/// the sums.
template <class A, class T>
void add_rows(const T* x, int64_t rows, int64_t stride, A* sums, int64_t n) {
  for (int64_t c = 0; c < n; ++c) sums[c] = 0;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* p = x + r * stride;
    INDEPENDENT_LOOP
    for (int64_t c = 0; c < n; ++c) {
      sums[c] += (A(p[c]) + A(p[stride + c])) + (A(p[2 * stride + c]) + A(p[3 * stride + c]));
    }
  }
  for (; r < rows; ++r) {
    const T* p = x + r * stride;
    INDEPENDENT_LOOP
    for (int64_t c = 0; c < n; ++c) sums[c] += A(p[c]);
  }
}

template <class T>
Tensor sum_columns(const Tensor& x, const SumExtents& e, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t chunk_rows = std::max((e.reduced + kMaxChunks - 1) / kMaxChunks,
                                      std::max<int64_t>(16, kElementsPerTask / std::min(e.inner, kColumns)));
  const int64_t chunks = std::max<int64_t>(1, (e.reduced + chunk_rows - 1) / chunk_rows);
  const int64_t blocks = (e.inner + kColumns - 1) / kColumns;
  // Chunks are the outermost dim, so that they are added as rows of one matrix.
  const Tensor partials = Tensor::empty({chunks, e.outer * e.inner}, dtype_of<A>(), stream);
  const T* from = x.data<T>();
  A* to = partials.data<A>();
  // Small sums share a task.
  const int64_t work = std::min(chunk_rows, e.reduced) * std::min(e.inner, kColumns);
  for_ranges(stream, chunks * e.outer * blocks, rows_per_task(work), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks;
      const int64_t outer = task / blocks % e.outer;
      const int64_t chunk = task / blocks / e.outer;
      const int64_t row = chunk * chunk_rows;
      const int64_t column = block * kColumns;
      add_rows(from + (outer * e.reduced + row) * e.inner + column, std::min(chunk_rows, e.reduced - row),
               e.inner, to + (chunk * e.outer + outer) * e.inner + column,
               std::min(kColumns, e.inner - column));
    }
  });
  if (partials.size(0) > 1) cpu::add_chunks(partials, stream);
  return partials.slice(0, 0, 1).view({e.outer, e.inner});
}

template <class T>
Tensor sum_rows(const Tensor& x, const SumExtents& e, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t segments = std::max<int64_t>(1, (e.reduced + kRowSegment - 1) / kRowSegment);
  const Tensor partials = Tensor::empty({segments, e.outer}, dtype_of<A>(), stream);
  const T* from = x.data<T>();
  A* to = partials.data<A>();
  for_ranges(stream, e.outer * segments, rows_per_task(std::min(e.reduced, kRowSegment)),
             [&](int64_t begin, int64_t end) {
               for (int64_t task = begin; task < end; ++task) {
                 const int64_t segment = task % segments;
                 const int64_t outer = task / segments;
                 const int64_t start = segment * kRowSegment;
                 const T* p = from + outer * e.reduced + start;
                 const int64_t n = std::min(kRowSegment, e.reduced - start);
                 A sum = 0;
                 for (int64_t i = 0; i < n; ++i) sum += A(p[i]);
                 to[segment * e.outer + outer] = sum;
               }
             });
  if (partials.size(0) > 1) cpu::add_chunks(partials, stream);
  return partials.slice(0, 0, 1).view({e.outer, 1});
}

}  // namespace

void add_chunks(const Tensor& partials, const Stream& stream) {
  const int64_t chunks = partials.size(0);
  const int64_t width = partials.size(1);
  const auto run = [&]<class A>(TypeTag<A>) {
    A* p = partials.data<A>();
    for_ranges(stream, width, std::max<int64_t>(16, kElementsPerTask / chunks),
               [=](int64_t begin, int64_t end) {
                 for (int64_t step = 1; step < chunks; step *= 2) {
                   for (int64_t chunk = 0; chunk + step < chunks; chunk += 2 * step) {
                     A* sum = p + chunk * width;
                     const A* other = p + (chunk + step) * width;
                     INDEPENDENT_LOOP
                     for (int64_t i = begin; i < end; ++i) sum[i] += other[i];
                   }
                 }
               });
  };
  if (partials.dtype() == DType::kFloat64)
    run(TypeTag<double>{});
  else
    run(TypeTag<float>{});
}

Tensor sum_middle(const Tensor& x, const SumExtents& extents, const Stream& stream) {
  return dispatch_compute(x.dtype(), "sum", [&]<class T>(TypeTag<T>) {
    return extents.inner == 1 ? sum_rows<T>(x, extents, stream) : sum_columns<T>(x, extents, stream);
  });
}

}  // namespace tutti::cpu
