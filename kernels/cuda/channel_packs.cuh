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
  __device__ KeptChannels(const row::ChannelParameters<A>& p, int64_t channel) {
    for (int i = 0; i < kCount; ++i) {
      mean[i] = p.mean[channel + i];
      scale[i] = p.scale[channel + i];
      shift[i] = p.shift[channel + i];
      slope[i] = p.slope == nullptr ? A(0) : p.slope[channel + i];
    }
  }
  __device__ row::ChannelParameters<A> view() const { return {mean, scale, shift, slope}; }
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

}  // namespace tutti::cuda
