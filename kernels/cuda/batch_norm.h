#pragma once

#include <tutti/core/tape.h>

#include <optional>

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

/// Weights and biases (C), each bf16, fp32 or fp64.
struct BatchNormParameters {
  Tensor w, b;
  double eps;
};

/// The results of forward for each channel.
struct BatchNormChannels {
  Tensor mean, variance;  ///< biased
  Tensor rstd;            ///< 1 / sqrt(variance + eps)
  Tensor scale;           ///< w rstd
  Tensor shift;           ///< b
};

/// Writes all of `channels` from x: in one pass, from deviations from one element of each chunk; chunks are
/// merged in fp64 in their order. Memory traffic: x once (planes twice if they do not fit the caches).
void batch_norm_statistics(const Tensor& x, const BatchNormLayout& layout,
                           const BatchNormParameters& parameters, const BatchNormChannels& channels,
                           const Stream& stream);

/// Writes rstd, scale and shift from mean and variance.
void batch_norm_scale(const BatchNormParameters& parameters, const BatchNormChannels& channels,
                      const Stream& stream);

struct BatchNormApply {
  Tensor x, residual, y;  ///< residual may be undefined
  bool relu;
};
/// y = (x - mean) scale + shift + residual, and ReLU. Memory traffic: the bytes of x 2 or 3 times.
void batch_norm(const BatchNormApply& p, const BatchNormLayout& layout, const BatchNormChannels& channels,
                const Stream& stream);

/// The gradient g of (x - mean) scale + shift is dy where ReLU was active. With a residual, the output y
/// tells where; g is then written in the first pass, and may be dy. Without, and with channels last,
/// `mask_by_input` computes it again from x in both passes, and g is dy.
struct BatchNormBackward {
  Tensor dy, x;
  Tensor y;  ///< undefined: there is no ReLU, or mask_by_input
  Tensor g;
  bool mask_by_input;
  bool training;  ///< otherwise the statistics are constants
  double share;   ///< factor on the "gradients" of the running statistics
};
/// Destinations of the gradients of parameters, and of mean and unbiased variance for the running statistics;
/// those that are not needed are empty.
struct BatchNormSlots {
  std::optional<Gradients::Slot> w, b, running_mean, running_variance;
};
/// Terms of dx for each channel.
struct BatchNormTerms {
  Tensor shift;  ///< mean of g
  Tensor slope;  ///< mean of g xhat, divided by sqrt(variance + eps)
};
/// Writes g and the gradients of parameters. Memory traffic: x and dy, and y and g if `y` is defined, once.
BatchNormTerms batch_norm_gradients(const BatchNormBackward& p, const BatchNormLayout& layout,
                                    const BatchNormChannels& channels, const BatchNormSlots& slots,
                                    const Stream& stream);

/// dx = or += scale (g - mean of g - (x - mean) slope), or scale g without `training`. dx may be g. Memory
/// traffic: the bytes of x 3 times, 4 times to accumulate.
void batch_norm_input_gradient(const BatchNormBackward& p, const BatchNormTerms& terms,
                               const Gradients::Slot& dx, const BatchNormLayout& layout,
                               const BatchNormChannels& channels, const Stream& stream);

}  // namespace tutti::cuda
