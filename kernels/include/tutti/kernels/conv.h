#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/image_layout.h>

#include <array>

namespace tutti {

struct Conv2dOptions {
  std::array<int64_t, 2> stride{1, 1};    ///< rows, columns
  std::array<int64_t, 2> padding{0, 0};   ///< zeros on both sides
  std::array<int64_t, 2> dilation{1, 1};  ///< distance between taps of a filter
  int64_t groups = 1;
  ImageLayout layout = ImageLayout::kNhwc;  ///< of x and y
};

/// Cross-correlation of images with filters, which is called convolution in neural networks.
/// Shapes: x (N, H, W, C) or (N, C, H, W), w (O, C / groups, KH, KW) in both layouts, bias (O) or an
/// undefined Var -> (N, OH, OW, O) or (N, O, OH, OW) with OH = (H + 2 padding - dilation (KH - 1) - 1) /
/// stride + 1. fp32, bf16 (sums in fp32) or fp64. fp32 filters of 3 x 3 on large images may use Winograd's
/// algorithm (Lavin & Gray 2016), which is twice as fast, with errors of some 1e-5 of the result's magnitude.
/// Throws Error on shapes that do not fit or an empty result.
Var conv2d(Tape& tape, const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options = {});

}  // namespace tutti
