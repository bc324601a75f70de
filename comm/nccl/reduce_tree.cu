#include "comm/combine.h"
#include "comm/nccl/reduce_tree.h"
#include "core/cuda/launch.h"

#include <algorithm>

namespace tutti {
namespace {

constexpr int kLeaves = 16;  // operands of one kernel: a power of two, so that they are a subtree
constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1024;  // concurrent with NCCL and backward, on a high-priority stream

template <class T>
struct Leaves {
  const T* at[kLeaves];
};

/// Memory traffic: reads all operands once, writes the output once.
template <class T, Reduce op>
__global__ void reduce_tree_kernel(T* out, Leaves<T> leaves, int count, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    T value[kLeaves];
#pragma unroll
    for (int k = 0; k < kLeaves; ++k) {
      if (k < count) value[k] = leaves.at[k][i];
    }
#pragma unroll
    for (int distance = 1; distance < kLeaves; distance *= 2) {
#pragma unroll
      for (int k = 0; k + distance < kLeaves; k += 2 * distance) {
        if (k + distance < count) value[k] = combined<op>(value[k], value[k + distance]);
      }
    }
    out[i] = value[0];
  }
}

template <class T, Reduce op>
void launch(const Elements& out, std::span<const Elements> operands, const Stream& stream) {
  Leaves<T> leaves{};
  for (size_t k = 0; k < operands.size(); ++k) leaves.at[k] = reinterpret_cast<const T*>(operands[k].data);
  const int64_t blocks = std::clamp<int64_t>((out.count + kThreads - 1) / kThreads, 1, kMostBlocks);
  cuda::launch("reduce_tree", stream, {static_cast<unsigned>(blocks), kThreads}, reduce_tree_kernel<T, op>,
               reinterpret_cast<T*>(out.data), leaves, static_cast<int>(operands.size()), out.count);
}

}  // namespace

void reduce_tree(const Elements& out, std::vector<Elements> operands, Reduce op, const Stream& stream) {
  require(!operands.empty(), "reduce_tree: no operands");
  if (out.count == 0) return;
  const auto reduce = [&](const Elements& to, std::span<const Elements> from) {
    dispatch_all(out.dtype, [&]<class T>(TypeTag<T>) {
      switch (op) {
        case Reduce::kSum:
          return launch<T, Reduce::kSum>(to, from, stream);
        case Reduce::kMax:
          return launch<T, Reduce::kMax>(to, from, stream);
        case Reduce::kMin:
          return launch<T, Reduce::kMin>(to, from, stream);
      }
    });
  };
  // Aligned blocks of leaves are subtrees: their results are the leaves of the next level. Each level has
  // separate memory, as a leaf may be the caller's input. In the last level, one thread reads all operands of
  // an element before it writes the result, so that `out` may be an operand.
  Tensor level;
  while (operands.size() > kLeaves) {
    const size_t blocks = (operands.size() + kLeaves - 1) / kLeaves;
    const Tensor sums = Tensor::empty({static_cast<int64_t>(blocks) * out.count}, out.dtype, stream);
    std::vector<Elements> results;
    results.reserve(blocks);
    for (size_t at = 0; at < operands.size(); at += kLeaves) {
      const size_t n = std::min<size_t>(kLeaves, operands.size() - at);
      results.push_back(
          Elements::of(sums).equal_part(static_cast<int>(at / kLeaves), static_cast<int>(blocks)));
      reduce(results.back(), std::span(operands).subspan(at, n));
    }
    operands = std::move(results);
    level = sums;  // kept while the next level reads it
  }
  reduce(out, operands);
}

}  // namespace tutti
