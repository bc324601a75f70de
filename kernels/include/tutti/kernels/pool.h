#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/image_layout.h>

#include <array>

// Pooling over the height and width of images (N, H, W, C) or (N, C, H, W). fp32, bf16 (computed in fp32) or
// fp64; the result has the same dtype.
namespace tutti {

struct Pool2dOptions {
  std::array<int64_t, 2> kernel{2, 2};   ///< height and width of the window
  std::array<int64_t, 2> stride{0, 0};   ///< 0: the kernel's
  std::array<int64_t, 2> padding{0, 0};  ///< on each side, at most half the kernel
  ImageLayout layout = ImageLayout::kNhwc;
  /// avg_pool2d: whether padding counts as zeros in the mean.
  bool count_padding = true;
};

/// The largest element of each window, without padding; NaN counts as the largest; the first of equal
/// elements has the gradient. Output height is floor((H + 2 padding - kernel) / stride) + 1, width likewise.
/// Saves one position per output. Throws Error if no window fits or a window has more than 65535 elements.
Var max_pool2d(Tape& tape, const Var& x, const Pool2dOptions& options = {});

/// The mean of each window. Saves nothing.
Var avg_pool2d(Tape& tape, const Var& x, const Pool2dOptions& options = {});

/// The mean over height and width: (N, C).
Var global_avg_pool(Tape& tape, const Var& x, ImageLayout layout = ImageLayout::kNhwc);

}  // namespace tutti
