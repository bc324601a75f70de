#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/row/batch_norm.h"

// Launches over images whose channels are last, with the parameters of the channels in registers.
namespace tutti::cuda {

/// The parameters of kCount adjacent channels, in registers.
template <class A, int kCount>
struct KeptChannels {
  A mean[kCount];
  A scale[kCount];
  A shift[kCount];
  A slope[kCount];
  A bias[kCount];
  __device__ KeptChannels(const row::ChannelParameters<A>& p, int64_t channel) {
    for (int i = 0; i < kCount; ++i) {
      mean[i] = p.mean[channel + i];
      scale[i] = p.scale[channel + i];
      shift[i] = p.shift[channel + i];
      slope[i] = p.slope == nullptr ? A(0) : p.slope[channel + i];
      bias[i] = p.bias == nullptr ? A(0) : p.bias[channel + i];
    }
  }
  __device__ row::ChannelParameters<A> view() const { return {mean, scale, shift, slope, bias}; }
};

/// Calls f(kept, i) for the packs of kCount adjacent elements of images whose channels are last. A thread's
/// packs are a multiple of a row of channels apart, so that it keeps the parameters of its channels.
template <class A, int kCount, class F>
__global__ void __launch_bounds__(kThreads)
    channel_packs_kernel(int64_t packs, int64_t packs_of_row, row::ChannelParameters<A> p, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x / packs_of_row * packs_of_row;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= step) return;
  const KeptChannels<A, kCount> kept(p, i % packs_of_row * kCount);
  for (; i < packs; i += step) f(kept, i);
}

template <int kCount, class A, class F>
void for_channel_packs(const char* kernel, int64_t elements, int64_t channels,
                       const row::ChannelParameters<A>& p, const Stream& stream, F f) {
  if (elements == 0) return;
  const int64_t packs = elements / kCount;
  const int64_t packs_of_row = channels / kCount;
  constexpr int64_t kBlocks = 2112;  // two waves of the largest GPUs
  const int64_t least = (packs_of_row + kThreads - 1) / kThreads;
  const int64_t blocks = std::max(least, std::min(kBlocks, (packs + 4 * kThreads - 1) / (4 * kThreads)));
  launch(kernel, stream, {static_cast<unsigned>(blocks), kThreads}, channel_packs_kernel<A, kCount, F>, packs,
         packs_of_row, p, f);
}

/// Two sums a channel over the rows of each chunk: parts (chunks, 2, channels). A thread has kCount adjacent
/// channels of some rows: kept = f.keep(first row, channel) and f.add(kept, f.load(row, element), element,
/// first, second), with F::kAtOnce loads in flight; then f.finish(kept, i, rows of the chunk, first sum,
/// second sum) changes the totals of channel i. The sums of threads are added in a tree, and depend on the
/// shape alone.
template <class A, int kCount, class F>
__global__ void __launch_bounds__(kThreads)
    channel_sums_kernel(A* parts, int64_t rows, int64_t channels, int64_t chunk, F f) {
  __shared__ A sums[2][kCount][kThreads];
  const int down = static_cast<int>(blockDim.y);
  const int across = static_cast<int>(blockDim.x);
  const int me = static_cast<int>(threadIdx.y) * across + static_cast<int>(threadIdx.x);
  const int64_t channel = (int64_t{blockIdx.x} * across + threadIdx.x) * kCount;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < rows ? begin + chunk : rows;
  A first[kCount] = {};
  A second[kCount] = {};
  if (channel < channels) {
    const auto kept = f.keep(begin, channel);
    int64_t r = begin + threadIdx.y;
    for (; r + (F::kAtOnce - 1) * down < end; r += F::kAtOnce * down) {
      typename F::Loaded in[F::kAtOnce];
#pragma unroll
      for (int k = 0; k < F::kAtOnce; ++k) in[k] = f.load(r + k * down, (r + k * down) * channels + channel);
#pragma unroll
      for (int k = 0; k < F::kAtOnce; ++k)
        f.add(kept, in[k], (r + k * down) * channels + channel, first, second);
    }
    for (; r < end; r += down)
      f.add(kept, f.load(r, r * channels + channel), r * channels + channel, first, second);
  }
  for (int i = 0; i < kCount; ++i) {
    sums[0][i][me] = first[i];
    sums[1][i][me] = second[i];
  }
  for (int half = down / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) >= half) continue;
    for (int i = 0; i < kCount; ++i) {
      sums[0][i][me] += sums[0][i][me + half * across];
      sums[1][i][me] += sums[1][i][me + half * across];
    }
  }
  if (threadIdx.y != 0 || channel >= channels) return;
  const auto kept = f.keep(begin, channel);
  A* const to = parts + int64_t{blockIdx.y} * 2 * channels + channel;
  for (int i = 0; i < kCount; ++i) {
    A one = sums[0][i][me];
    A two = sums[1][i][me];
    f.finish(kept, i, end - begin, one, two);
    to[i] = one;
    to[channels + i] = two;
  }
}

template <int kCount, class A, class F>
void channel_sums(const char* kernel, A* parts, int64_t rows, int64_t channels, int64_t chunk,
                  const Stream& stream, F f) {
  if (rows == 0 || channels == 0) return;
  const int64_t packs = channels / kCount;
  unsigned across = 1;  // a power of two
  while (across < 32 && across < packs) across *= 2;
  const dim3 grid(static_cast<unsigned>((packs + across - 1) / across),
                  static_cast<unsigned>((rows + chunk - 1) / chunk));
  launch(kernel, stream, {grid, dim3(across, kThreads / across)}, channel_sums_kernel<A, kCount, F>, parts,
         rows, channels, chunk, f);
}

}  // namespace tutti::cuda
