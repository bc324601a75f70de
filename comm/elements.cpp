#include "comm/elements.h"
#include "comm/combine.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

namespace tutti {
namespace {

constexpr int64_t kPartUnit = 64;  // elements
constexpr int64_t kTile = 4096;    // elements; operands and result fit in the L1 cache
constexpr int64_t kTaskElements = int64_t{1} << 16;

template <class T>
void combine_as(const Elements& out, const Elements& lower, const Elements& higher, Reduce op) {
  T* o = reinterpret_cast<T*>(out.data);
  const T* a = reinterpret_cast<const T*>(lower.data);
  const T* b = reinterpret_cast<const T*>(higher.data);
  switch (op) {
    case Reduce::kSum:
      for (int64_t i = 0; i < out.count; ++i) o[i] = combined<Reduce::kSum>(a[i], b[i]);
      return;
    case Reduce::kMax:
      for (int64_t i = 0; i < out.count; ++i) o[i] = combined<Reduce::kMax>(a[i], b[i]);
      return;
    case Reduce::kMin:
      for (int64_t i = 0; i < out.count; ++i) o[i] = combined<Reduce::kMin>(a[i], b[i]);
      return;
  }
}

/// Reduces the same tile of all inputs; intermediate sums are in one scratch tile per level of the tree.
class TileReducer {
 public:
  TileReducer(std::span<const Elements> inputs, Reduce op)
      : inputs_(inputs),
        op_(op),
        levels_(static_cast<size_t>(std::bit_width(inputs.size())) + 1),
        scratch_(std::make_unique_for_overwrite<std::byte[]>(
            levels_ * static_cast<size_t>(kTile * size_of(inputs.front().dtype)))) {}

  Elements reduce(int64_t begin, int64_t end) { return node(0, inputs_.size(), 0, begin, end); }

 private:
  Elements node(size_t low, size_t high, size_t level, int64_t begin, int64_t end) {
    if (high - low == 1) return inputs_[low].part(begin, end);
    const size_t middle = low + std::bit_floor(high - low - 1);
    const Elements left = node(low, middle, level, begin, end);
    const Elements right = node(middle, high, level + 1, begin, end);
    const DType dtype = inputs_[low].dtype;
    const Elements sum{scratch_.get() + static_cast<int64_t>(level) * kTile * size_of(dtype), end - begin,
                       dtype};
    combine(sum, left, right, op_);
    return sum;
  }

  std::span<const Elements> inputs_;
  Reduce op_;
  size_t levels_;
  std::unique_ptr<std::byte[]> scratch_;
};

}  // namespace

int64_t part_begin(int64_t count, int i, int n) {
  if (i >= n) return count;
  const int64_t units = (count + kPartUnit - 1) / kPartUnit;
  // Quotient and remainder separately: units * i cannot overflow for a count that fits in memory, but this
  // has no cost.
  const int64_t unit = units / n * i + units % n * i / n;
  return std::min(count, unit * kPartUnit);
}

void copy_elements(const Elements& out, const Elements& source) {
  if (out.data != source.data && source.count > 0) {
    std::memcpy(out.data, source.data, static_cast<size_t>(source.bytes()));
  }
}

void combine(const Elements& out, const Elements& lower, const Elements& higher, Reduce op) {
  dispatch_all(out.dtype, [&]<class T>(TypeTag<T>) { combine_as<T>(out, lower, higher, op); });
}

void reduce_tree(std::span<const Elements> outputs, std::span<const Elements> inputs, Reduce op,
                 ThreadPool& pool) {
  pool.parallel_ranges(inputs.front().count, kTaskElements, [&](int64_t begin, int64_t end) {
    TileReducer reducer(inputs, op);
    for (int64_t tile = begin; tile < end; tile += kTile) {
      const int64_t tile_end = std::min(end, tile + kTile);
      if (inputs.size() == 2) {  // directly into the first output: one pass less over the memory
        const Elements first = outputs[0].part(tile, tile_end);
        combine(first, inputs[0].part(tile, tile_end), inputs[1].part(tile, tile_end), op);
        for (const Elements& out : outputs.subspan(1)) copy_elements(out.part(tile, tile_end), first);
        continue;
      }
      const Elements sum = reducer.reduce(tile, tile_end);
      for (const Elements& out : outputs) copy_elements(out.part(tile, tile_end), sum);
    }
  });
}

}  // namespace tutti
