#pragma once

#include <tutti/core/tensor.h>

// batch_norm (kernels/norm.h) on CUDA. Tensors are contiguous and on the stream's device; those of channels
// are (C) in the accumulate dtype.
namespace tutti::cuda {

/// x as runs of adjacent elements: rows of all channels, or planes of one channel.
struct BatchNormLayout {
  bool channels_last;
  int64_t channels;
  int64_t runs;
  int64_t width;  ///< elements of a run
  int64_t count;  ///< elements of a channel
};

/// The results of forward for each channel.
struct BatchNormChannels {
  Tensor mean, variance;  ///< biased
  Tensor rstd;            ///< 1 / sqrt(variance + eps)
  Tensor scale;           ///< w rstd
};

/// Writes mean and variance of the channels of x: in one pass, from deviations from one element of each
/// chunk; chunks are merged in fp64 in their order. Memory traffic: x once (planes twice if they do not fit
/// the caches).
void batch_norm_statistics(const Tensor& x, const BatchNormLayout& layout, const BatchNormChannels& channels,
                           const Stream& stream);

/// Writes rstd and scale from variance and w (C).
void batch_norm_scale(const BatchNormChannels& channels, const Tensor& w, double eps, const Stream& stream);

struct BatchNormApply {
  Tensor x, residual, y;  ///< residual may be undefined
  Tensor shift;           ///< b
  bool relu;
};
/// y = (x - mean) scale + shift + residual, and ReLU. Memory traffic: the bytes of x 2 or 3 times.
void batch_norm(const BatchNormApply& p, const BatchNormLayout& layout, const BatchNormChannels& channels,
                const Stream& stream);

/// (2, C): sums of g and of g (x - mean). g is dy if `y` is undefined; otherwise it is dy where y > 0 and
/// else 0, and is written to `g`, which may be dy. Memory traffic: x and dy, and y and g if `y` is defined,
/// once.
Tensor batch_norm_sums(const Tensor& dy, const Tensor& y, const Tensor& g, const Tensor& x,
                       const BatchNormLayout& layout, const BatchNormChannels& channels,
                       const Stream& stream);

/// (4, C): the gradients of w and b, and `share` times mean and unbiased variance, which are the "gradients"
/// of the running statistics.
Tensor batch_norm_parameter_gradients(const Tensor& sums, const BatchNormLayout& layout,
                                      const BatchNormChannels& channels, double share, const Stream& stream);

/// dx = or += scale (g - mean of g - (x - mean) slope), or scale g without `training`. dx may be g. Memory
/// traffic: the bytes of x 3 times, 4 times with `accumulate`.
struct BatchNormInputGradient {
  Tensor g, x, dx;
  Tensor sums;
  bool accumulate;
  bool training;
};
void batch_norm_input_gradient(const BatchNormInputGradient& p, const BatchNormLayout& layout,
                               const BatchNormChannels& channels, const Stream& stream);

}  // namespace tutti::cuda
