#include "kernels/cuda/sums.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/row/softmax.h"

namespace tutti::cuda {
namespace {

constexpr int kColumns = 32;            // columns of a block
constexpr int kRowThreads = 16;         // threads that share the rows of a column
constexpr int64_t kSegment = 8192;      // elements of one row that one team sums
constexpr int64_t kMinChunkRows = 256;  // of a column sum: 16 rows per thread
constexpr int64_t kMaxChunks = 512;

/// Element (chunk, column) of the parts is the sum of a column of x (rows, inner) over the rows of a chunk;
/// blockIdx.z is the outer index. Each thread of a column adds every kRowThreads-th row; the sums of the
/// threads are added in a tree. Memory traffic: rows inner sizeof(T).
template <class T, class A>
__global__ void column_sums_kernel(const T* x, A* parts, int64_t rows, int64_t inner, int64_t chunk,
                                   int64_t part_stride) {
  __shared__ A sums[kRowThreads][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < rows ? begin + chunk : rows;
  const T* from = x + blockIdx.z * rows * inner + column;
  A sum = 0;
  if (column < inner) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kRowThreads) sum += A(from[r * inner]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  for (int half = kRowThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half)
      sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
  }
  if (threadIdx.y == 0 && column < inner)
    parts[blockIdx.y * part_stride + blockIdx.z * inner + column] = sums[0][threadIdx.x];
}

constexpr int kPackRowThreads = 8;  // threads that share the rows of a pack of columns

/// The same with a pack of 16 bytes of columns a thread, for rows whose packs are aligned.
template <class T, class A>
__global__ void __launch_bounds__(32 * kPackRowThreads)
    column_packs_kernel(const T* x, A* parts, int64_t rows, int64_t inner, int64_t chunk,
                        int64_t part_stride) {
  constexpr int kPack = row::kWide<T>;
  __shared__ A sums[kPackRowThreads][kPack][32];
  const int64_t column = (int64_t{blockIdx.x} * 32 + threadIdx.x) * kPack;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < rows ? begin + chunk : rows;
  const T* from = x + blockIdx.z * rows * inner + column;
  A mine[kPack] = {};
  if (column < inner) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kPackRowThreads) {
      const auto pack = row::load_pack(from + r * inner);
      for (int i = 0; i < kPack; ++i) mine[i] += A(pack.at[i]);
    }
  }
  for (int i = 0; i < kPack; ++i) sums[threadIdx.y][i][threadIdx.x] = mine[i];
  for (int half = kPackRowThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) >= half) continue;
    for (int i = 0; i < kPack; ++i)
      sums[threadIdx.y][i][threadIdx.x] += sums[threadIdx.y + half][i][threadIdx.x];
  }
  if (threadIdx.y != 0 || column >= inner) return;
  A* const to = parts + blockIdx.y * part_stride + blockIdx.z * inner + column;
  for (int i = 0; i < kPack; ++i) to[i] = sums[0][i][threadIdx.x];
}

template <class T>
struct SegmentSum {
  const T* x;
  Accumulate<T>* parts;  // (segments, outer)
  int64_t reduced;
  int64_t segments;
  int64_t outer;
  template <class Team>
  __device__ void operator()(Team& team, int64_t task) const {
    const int64_t segment = task % segments;
    const int64_t row = task / segments;
    const int64_t begin = segment * kSegment;
    const int64_t n = reduced - begin < kSegment ? reduced - begin : kSegment;
    const auto sum = row::row_sum(team, x + row * reduced + begin, n);
    if (team.lane() == 0) parts[segment * outer + row] = sum;
  }
};

template <class T>
Tensor row_parts(const Tensor& x, int64_t outer, int64_t reduced, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t segments = std::max<int64_t>(1, (reduced + kSegment - 1) / kSegment);
  const Tensor parts = Tensor::empty({segments, outer}, dtype_of<A>(), stream);
  for_rows("sum", outer * segments, std::min(reduced, kSegment), stream,
           SegmentSum<T>{x.data<T>(), parts.data<A>(), reduced, segments, outer});
  return parts;
}

template <class T>
Tensor column_parts(const Tensor& x, int64_t outer, int64_t reduced, int64_t inner, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t chunk = std::max(kMinChunkRows, (reduced + kMaxChunks - 1) / kMaxChunks);
  const int64_t chunks = std::max<int64_t>(1, (reduced + chunk - 1) / chunk);
  const Tensor parts = Tensor::empty({chunks, outer * inner}, dtype_of<A>(), stream);
  if (outer * inner == 0) return parts;
  // The z dimension of a grid is at most 65535.
  constexpr int64_t kOuter = 65535;
  const bool packed = inner % row::kWide<T> == 0 && aligned16(x.raw());
  const int64_t columns = packed ? 32 * row::kWide<T> : kColumns;  // of a block
  for (int64_t first = 0; first < outer; first += kOuter) {
    const dim3 grid(static_cast<unsigned>((inner + columns - 1) / columns), static_cast<unsigned>(chunks),
                    static_cast<unsigned>(std::min(kOuter, outer - first)));
    launch("sum", stream, {grid, packed ? dim3(32, kPackRowThreads) : dim3(kColumns, kRowThreads)},
           packed ? column_packs_kernel<T, A> : column_sums_kernel<T, A>,
           x.data<T>() + first * reduced * inner, parts.data<A>() + first * inner, reduced, inner, chunk,
           outer * inner);
  }
  return parts;
}

}  // namespace

Tensor sum_middle_parts(const Tensor& x, int64_t outer, int64_t reduced, int64_t inner,
                        const Stream& stream) {
  require_here("sum", x, stream);
  return dispatch_compute(x.dtype(), "sum", [&]<class T>(TypeTag<T>) {
    return inner == 1 ? row_parts<T>(x, outer, reduced, stream)
                      : column_parts<T>(x, outer, reduced, inner, stream);
  });
}

void add_chunks(const Tensor& partials, const Stream& stream) {
  require_here("sum", partials, stream);
  const int64_t chunks = partials.size(0);
  const int64_t width = partials.size(1);
  if (chunks <= 1 || width == 0) return;
  const auto blocks = static_cast<unsigned>((width + kColumns - 1) / kColumns);
  const auto run = [&]<class A>(TypeTag<A>) {
    // In place: a block reads its columns of all rows before it writes those of row 0.
    launch("sum", stream, {blocks, dim3(kColumns, kRowThreads)}, column_sums_kernel<A, A>, partials.data<A>(),
           partials.data<A>(), chunks, width, chunks, width);
  };
  if (partials.dtype() == DType::kFloat64)
    run(TypeTag<double>{});
  else
    run(TypeTag<float>{});
}

}  // namespace tutti::cuda
