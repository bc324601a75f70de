#pragma once

#include <tutti/core/tensor.h>

#include <cstdint>

namespace tutti {

/// The interface of an optimizer for the loop; kernels implements it.
class ParameterUpdate {
 public:
  virtual ~ParameterUpdate() = default;
  /// L2 norm of all gradients that are not statistics.
  virtual double grad_norm() = 0;
  /// The factor that scales a gradient of this norm to the clipping bound; 1 if it is not clipped.
  [[nodiscard]] virtual double clip_scale(double norm) const = 0;
  /// The peak, which is multiplied by the schedule's factor.
  [[nodiscard]] virtual double peak_learning_rate() const = 0;
  /// Updates all parameters from gradients * grad_scale. `step` is 0 for the first.
  virtual void step(double learning_rate, double grad_scale, int64_t step) = 0;

  /// Whether the following two functions are implemented: an update whose work a device can replay.
  [[nodiscard]] virtual bool can_prepare() const { return false; }
  /// Copies the values that change from step to step to the device, in the order of its stream.
  virtual void prepare(double learning_rate, int64_t step);
  /// Enqueues norm, clipping and update on the device, which use the numbers that prepare() has copied there
  /// by the time that the work runs. If the norm is not finite, the update does nothing. Returns (3) fp64 on
  /// the device: the factor on gradients, 1 if the norm is finite, else 0, the norm.
  virtual Tensor step_prepared();
};

}  // namespace tutti
