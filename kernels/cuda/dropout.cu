#include "core/cuda/graph.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/launch.cuh"

namespace tutti::cuda {
namespace {

/// Thread i computes the elements of kBlocks blocks of four random words of a sample (fewer at its end).
/// Memory traffic: 2 n sizeof(T). Bound by integer arithmetic, not by memory: ten rounds of Philox per four
/// elements.
template <class T, int kBlocks>
struct Drop {
  const T* x;
  T* y;
  RandomKey first;
  const uint64_t* step;  // null: first.step is used
  int64_t per_sample;
  int64_t threads_a_sample;
  row::DropoutRule rule;
  bool packed;  // all packs of kBlocks * 4 elements are full and aligned
  __device__ T dropped(T value, uint32_t word) const {
    using A = Accumulate<T>;
    return T((word >> 8) >= rule.threshold ? A(value) * A(rule.scale) : A(0));
  }
  __device__ void operator()(int64_t i) const {
    constexpr int kCount = 4 * kBlocks;
    using Part = row::Pack<T, kCount>;
    // A division of 32 bits is a third of one of 64.
    const int64_t sample = (i >> 32) == 0 && (threads_a_sample >> 32) == 0
                               ? static_cast<uint32_t>(i) / static_cast<uint32_t>(threads_a_sample)
                               : i / threads_a_sample;
    const int64_t block = (i - sample * threads_a_sample) * kBlocks;
    RandomKey key = first;
    key.sample += static_cast<uint64_t>(sample);
    if (step != nullptr) key.step = *step;
    const T* from = x + sample * per_sample + 4 * block;
    T* to = y + sample * per_sample + 4 * block;
    uint32_t words[kCount];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const auto four = key.words(static_cast<uint64_t>(block + b));
#pragma unroll
      for (int j = 0; j < 4; ++j) words[4 * b + j] = four[j];
    }
    if (packed) {
      const Part in = *reinterpret_cast<const Part*>(from);
      Part out;
#pragma unroll
      for (int j = 0; j < kCount; ++j) out.at[j] = dropped(in.at[j], words[j]);
      *reinterpret_cast<Part*>(to) = out;
    } else {
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (4 * block + j < per_sample) to[j] = dropped(from[j], words[j]);
      }
    }
  }
};

}  // namespace

void dropout(const Tensor& x, const Tensor& y, const RandomKey& first, int64_t samples, row::DropoutRule rule,
             const Stream& stream) {
  for (const Tensor* t : {&x, &y}) require_here("dropout", *t, stream);
  if (x.numel() == 0) return;
  const int64_t per_sample = x.numel() / samples;
  dispatch_compute(x.dtype(), "dropout", [&]<class T>(TypeTag<T>) {
    // 8 bf16 or 4 fp32 elements are one load of 16 bytes; 4 fp64 elements are two.
    constexpr int kBlocks = sizeof(T) == 2 ? 2 : 1;
    constexpr int64_t kCount = 4 * kBlocks;
    constexpr size_t kAlignment = alignof(row::Pack<T, 4 * kBlocks>);
    const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % kAlignment == 0; };
    const int64_t threads = (per_sample + kCount - 1) / kCount;
    for_elements(
        "dropout", samples * threads, stream,
        Drop<T, kBlocks>{.x = x.data<T>(),
                         .y = y.data<T>(),
                         .first = first,
                         .step = UseStepCounter::current(),
                         .per_sample = per_sample,
                         .threads_a_sample = threads,
                         .rule = rule,
                         .packed = per_sample % kCount == 0 && aligned(x.raw()) && aligned(y.raw())});
  });
}

}  // namespace tutti::cuda
