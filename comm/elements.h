#pragma once

#include <tutti/comm/collective.h>

#include <cstddef>
#include <span>

namespace tutti {

/// A non-owning view of consecutive elements of one dtype, which backends copy and add.
struct Elements {
  std::byte* data = nullptr;
  int64_t count = 0;
  DType dtype = DType::kUInt8;

  /// All of a contiguous tensor.
  static Elements of(const Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.raw()), tensor.numel(), tensor.dtype()};
  }
  [[nodiscard]] int64_t bytes() const { return count * size_of(dtype); }
  [[nodiscard]] Elements part(int64_t begin, int64_t end) const {
    return {data + begin * size_of(dtype), end - begin, dtype};
  }
  /// Part `i` of `n` equal ones.
  [[nodiscard]] Elements equal_part(int i, int n) const { return part(count / n * i, count / n * (i + 1)); }
  [[nodiscard]] std::span<std::byte> memory() const { return {data, static_cast<size_t>(bytes())}; }
};

/// First element of part `i` of `n` when `count` elements are divided among ranks: nearly equal parts with
/// boundaries at multiples of 64 elements, so that no two ranks write to one cache line.
int64_t part_begin(int64_t count, int i, int n);

/// out = source. The memory must be the same or must not overlap.
void copy_elements(const Elements& out, const Elements& source);

/// out = lower op higher, element by element. `out` may be one of the operands.
void combine(const Elements& out, const Elements& lower, const Elements& higher, Reduce op);

/// Each of `outputs` = the reduction of `inputs` in the tree of Reduce, element by element. All have the same
/// count and dtype; outputs may be among the inputs. Parallel over fixed ranges.
void reduce_tree(std::span<const Elements> outputs, std::span<const Elements> inputs, Reduce op,
                 ThreadPool& pool);

}  // namespace tutti
