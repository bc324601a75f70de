#pragma once

#include <tutti/core/tensor.h>

// batch_norm (kernels/norm.h) on CUDA. Tensors are contiguous and on the stream's device; those of channels
// are (C) in the accumulate dtype.
namespace tutti::cuda {

/// x as runs of neighbouring elements: rows of all channels, or planes of one channel.
struct BatchNormLayout {
  bool channels_last;
  int64_t channels;
  int64_t runs;
  int64_t width;  ///< elements of a run
  int64_t count;  ///< elements of a channel
};

/// What forward finds for each channel.
struct BatchNormChannels {
  Tensor mean, variance;  ///< biased
  Tensor rstd;            ///< 1 / sqrt(variance + eps)
  Tensor scale;           ///< w rstd
};

/// Writes mean and variance of the channels of x: sums around one element of each chunk, in one pass, merged
/// in fp64 in the order of the chunks. Bytes: x once (planes twice where they do not stay in the caches).
void batch_norm_statistics(const Tensor& x, const BatchNormLayout& layout, const BatchNormChannels& channels,
                           const Stream& stream);

/// Writes rstd and scale from variance and w (C), any floating dtype made A before.
void batch_norm_scale(const BatchNormChannels& channels, const Tensor& w, double eps, const Stream& stream);

struct BatchNormApply {
  Tensor x, residual, y;  ///< residual may be undefined
  Tensor shift;           ///< b
  bool relu;
};
/// y = (x - mean) scale + shift + residual, and ReLU. Bytes: 2 or 3 of x.
void batch_norm(const BatchNormApply& p, const BatchNormLayout& layout, const BatchNormChannels& channels,
                const Stream& stream);

/// (2, C): sums of g and of g (x - mean), where g = dy, or dy where y > 0 with `y` defined, which is then
/// written to `g` (may be dy). Bytes: x and dy once, y and g once more with `y`.
Tensor batch_norm_sums(const Tensor& dy, const Tensor& y, const Tensor& g, const Tensor& x,
                       const BatchNormLayout& layout, const BatchNormChannels& channels,
                       const Stream& stream);

/// Per channel, (4, C): gradients of w and b, and `share` times mean and unbiased variance, the "gradients"
/// of the running statistics.
Tensor batch_norm_parameter_gradients(const Tensor& sums, const BatchNormLayout& layout,
                                      const BatchNormChannels& channels, double share, const Stream& stream);

/// dx = or += scale (g - mean of g - (x - mean) slope); without `training` scale g. dx may be g. Bytes: 3 of
/// x, 4 with `accumulate`.
struct BatchNormInputGradient {
  Tensor g, x, dx;
  Tensor sums;
  bool accumulate;
  bool training;
};
void batch_norm_input_gradient(const BatchNormInputGradient& p, const BatchNormLayout& layout,
                               const BatchNormChannels& channels, const Stream& stream);

}  // namespace tutti::cuda
