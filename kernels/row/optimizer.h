#pragma once

#include <tutti/core/host_device.h>
#include "kernels/row/functor_list.h"
#include "kernels/row/math.h"

// Updates of one element, for CPU and CUDA. M: type of state and arithmetic, fp32 or fp64. The constants of
// the rules are computed in fp64 and rounded once: 1 - beta in fp32 would have a relative error of up to eps
// / (1 - beta), 6e-5 at 0.999.
namespace tutti::row {

/// Source: Kingma & Ba 2015, algorithm 1, with the decay of Loshchilov & Hutter 2019, algorithm 2.
template <class M>
struct AdamW {
  using Number = M;
  static constexpr int kStates = 2;
  M keep;  ///< 1 - learning rate * decay
  M step_size;
  M rest1;  ///< 1 - beta1
  M beta2;
  M rest2;            ///< 1 - beta2
  M root_correction;  ///< 1 / sqrt(1 - beta2^t)
  M eps;
  M grad_scale;

  /// The new value of master x; `mean` and `square` are the averages of gradient and squared gradient.
  HOST_DEVICE M update(M x, M grad, M& mean, M& square) const {
    const M g = grad * grad_scale;
    const M m = mean + rest1 * (g - mean);
    const M v = beta2 * square + rest2 * (g * g);
    mean = m;
    square = v;
    return x * keep - step_size * m / (math::sqrt(v) * root_correction + eps);
  }
};

/// Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning". In the
/// form velocity <- momentum velocity + gradient, the velocity does not depend on the learning rate, which
/// may change.
template <class M>
struct Sgd {
  using Number = M;
  static constexpr int kStates = 1;
  M learning_rate, momentum, decay, grad_scale;
  bool nesterov;

  HOST_DEVICE M update(M x, M grad, M& velocity, M&) const {
    const M g = grad * grad_scale + decay * x;
    const M v = momentum * velocity + g;
    velocity = v;
    return x - learning_rate * (nesterov ? g + momentum * v : v);
  }
};

/// Running average of batch statistics; the gradient is the statistic of the batch.
template <class M>
struct Statistic {
  using Number = M;
  static constexpr int kStates = 0;
  M keep;  ///< 1 - momentum
  M momentum;

  HOST_DEVICE M update(M x, M grad, M&, M&) const { return keep * x + momentum * grad; }
};

/// All rules; CUDA kernels are instantiated for this list.
using UpdateRules =
    FunctorList<AdamW<float>, AdamW<double>, Sgd<float>, Sgd<double>, Statistic<float>, Statistic<double>>;

}  // namespace tutti::row
