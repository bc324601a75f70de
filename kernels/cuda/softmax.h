#pragma once

#include <tutti/core/tensor.h>

// softmax, log_softmax and cross_entropy (kernels/softmax.h, kernels/cross_entropy.h) on CUDA. Tensors are
// contiguous and on the stream's device; rows are the last dim.
namespace tutti::cuda {

/// y = softmax(x) or, if `log`, its logarithm; y may be x.
void softmax(const Tensor& x, const Tensor& y, bool log, const Stream& stream);
/// dx may be dy.
void softmax_backward(const Tensor& dy, const Tensor& y, const Tensor& dx, bool log, const Stream& stream);

struct CrossEntropy {
  Tensor logits;    ///< (rows, V or more: columns of padding)
  Tensor targets;   ///< (rows) int32 or int64
  Tensor lse;       ///< (rows) fp32, fp64 for fp64 logits: written in forward, read in backward
  int64_t classes;  ///< V
  int64_t ignore_index;
  double smoothing;
  double scale;
};
/// Writes lse and `loss` (), fp32 or fp64: scale times the sum over rows. A target that is neither a class
/// nor ignore_index makes the loss NaN, so that the step is skipped; an error would require the host to wait
/// for the device.
void cross_entropy(const CrossEntropy& p, const Tensor& loss, const Stream& stream);
/// The same, and writes the gradient for a gradient of 1 of the loss over the logits: they are read a second
/// time while they are in the caches.
void cross_entropy_with_gradient(const CrossEntropy& p, const Tensor& loss, const Stream& stream);
/// x *= factor (), in one pass over x that is left out if the factor is 1.
void scale_unless_one(const Tensor& x, const Tensor& factor, const Stream& stream);
/// dx may be the logits; its columns of padding become 0. `dy` () is the gradient of the loss.
void cross_entropy_backward(const CrossEntropy& p, const Tensor& dy, const Tensor& dx, const Stream& stream);

/// (3) fp64, over the rows that are not ignored: the sum of the loss, the number of rows whose target is the
/// first largest logit, and the number of rows. Smoothing and scale are not applied.
Tensor cross_entropy_evaluate(const CrossEntropy& p, const Stream& stream);

}  // namespace tutti::cuda
