#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/image_layout.h>

// Normalisations. fp32, bf16 and fp64; bf16 is computed in fp32. Statistics are fp32 (fp64 for fp64).
namespace tutti {

/// Normalises over the last dim to mean 0 and variance 1, then scales and shifts.
/// Shapes: x (..., C), w (C), b (C) or Var{} -> y like x. Saves mean and 1/deviation of each row for
/// backward. `eps` is added to the (biased) variance. Throws Error if w or b is not (C) or has another dtype
/// than x. Source: Ba, Kiros & Hinton 2016, "Layer normalization".
Var layer_norm(Tape& tape, const Var& x, const Var& w, const Var& b, double eps = 1e-5);

/// Root-mean-square normalisation over the last dim.
/// Shapes: x (..., C), w (C) -> y like x. Saves 1/rms of each row for backward.
/// `eps` is added to the mean square. Throws Error if w is not (C) or has another dtype than x.
/// Source: Zhang & Sennrich 2019, eq. 4.
Var rms_norm(Tape& tape, const Var& x, const Var& w, double eps = 1e-5);

/// The input of a block of a residual network: the residual stream, and its normalised value.
struct AddNorm {
  Var sum;  ///< x + residual
  Var y;    ///< the normalised sum
};

/// x + residual and its layer_norm or rms_norm, in one pass over memory; on CUDA, the same pass of backward
/// adds the sum's other gradients. Shapes: x, residual (..., C) of one dtype, w (C), b (C) or Var{} -> sum, y
/// like x. Throws Error as the norms do, and if x and residual differ in shape or dtype.
AddNorm add_layer_norm(Tape& tape, const Var& x, const Var& residual, const Var& w, const Var& b,
                       double eps = 1e-5);
AddNorm add_rms_norm(Tape& tape, const Var& x, const Var& residual, const Var& w, double eps = 1e-5);

struct BatchNormOptions {
  double eps = 1e-5;  ///< added to the biased variance
  /// The dim of the channels: the last (kNhwc; also (N, C) without image dims) or dim 1 (kNchw).
  ImageLayout layout = ImageLayout::kNhwc;
  bool relu = false;  ///< y = max(0, ...) in the same pass, after the residual
};

/// Normalises each channel over all other dims, then scales and shifts, and optionally adds `residual` and
/// applies ReLU: y = relu(w * (x - mean) / sqrt(var + eps) + b + residual). Shapes: x (N, ..., C) or (N, C,
/// ...), w, b, running_mean, running_var (C), residual like x or Var{} -> y like x.
///
/// In training (tape.context().training) mean and variance are those of this microbatch, computed by merging
/// fixed chunks (Chan, Golub & LeVeque 1983). running_mean and running_var are leaves of parameters with
/// Role::kStatistic; their "gradients" are context.batch_share times the batch's mean and unbiased variance,
/// so that sums over microbatches and shards are averages over the global batch. Otherwise the running values
/// are used. Throws Error for shapes or dtypes that do not fit. Source: Ioffe & Szegedy 2015, "Batch
/// normalization".
Var batch_norm(Tape& tape, const Var& x, const Var& w, const Var& b, const Var& running_mean,
               const Var& running_var, const BatchNormOptions& options = {}, const Var& residual = {});

}  // namespace tutti
