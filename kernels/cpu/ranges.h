#pragma once

#include <tutti/core/stream.h>
#include "kernels/cpu/isa.h"
#include "kernels/row/team.h"

#include <algorithm>

// Launches of row programs on the CPU.
namespace tutti {

/// Elements of one task of elementwise work: 128 KiB of fp32, so that the operands of a task fit the L2
/// cache.
inline constexpr int64_t kElementsPerTask = int64_t{1} << 15;

/// Cuts [0, n) into ranges of `grain` and calls `body(begin, end)`, compiled for the best instruction set,
/// for each on the stream's threads. All functions that the body calls must be inlinable.
template <class Body>
void for_ranges(const Stream& stream, int64_t n, int64_t grain, const Body& body) {
  require(stream.device().type == DeviceType::kCpu, "this operation has no kernel for {}",
          name(stream.device()));
  stream.pool().parallel_ranges(n, grain,
                                [&](int64_t begin, int64_t end) { run_best_isa([&] { body(begin, end); }); });
}

/// Rows of one task when a row has `width` elements.
inline int64_t rows_per_task(int64_t width) {
  return std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width));
}

}  // namespace tutti
