#pragma once

#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/channel_packs.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/row/batch_norm.h"
#include "kernels/row/pack.h"

// What forward and backward of batch_norm share.
namespace tutti::cuda {

inline constexpr int kMergeColumns = 32;  // channels of a block that adds chunks
inline constexpr int kMergeThreads = 16;  // threads that share the chunks of a channel
inline constexpr int64_t kMinChunkRows = 256;
inline constexpr int64_t kMaxChunks = 512;

/// Rows of one chunk of a column reduction. Depends on the shape alone.
inline int64_t chunk_rows(int64_t rows) {
  return std::max(kMinChunkRows, (rows + kMaxChunks - 1) / kMaxChunks);
}

/// The sum of `mine` over threadIdx.y, on each of these threads, added in a tree.
template <class A>
__device__ A sum_over_threads(A (&sums)[kMergeThreads][kMergeColumns], A mine) {
  sums[threadIdx.y][threadIdx.x] = mine;
  for (int half = kMergeThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half)
      sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
  }
  __syncthreads();
  const A sum = sums[0][threadIdx.x];
  __syncthreads();  // all have read it before the next sum
  return sum;
}

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

template <class T>
const T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

/// Calls f(std::integral_constant<int, kCount>) with the number of adjacent channels that a thread reads.
template <class T, class F>
void by_pack(const BatchNormLayout& l, bool aligned, F f) {
  if (l.channels % row::kWide<T> == 0 && aligned)
    f(std::integral_constant<int, row::kWide<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

inline int64_t chunks_of(const BatchNormLayout& l) {
  if (!l.channels_last) return l.runs / l.channels;
  const int64_t chunk = chunk_rows(l.runs);
  return (l.runs + chunk - 1) / chunk;
}

inline Grid grid_of_channels(int64_t channels) {
  return {static_cast<unsigned>((channels + kMergeColumns - 1) / kMergeColumns),
          dim3(kMergeColumns, kMergeThreads)};
}

}  // namespace tutti::cuda
