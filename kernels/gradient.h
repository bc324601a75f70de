#pragma once

#include <tutti/core/tape.h>

// Helpers with which backward passes write gradients.
namespace tutti {

/// Calls `write(destination, mode)` with a contiguous tensor of `dtype` for the gradient of input `i`: the
/// slot itself if it has that dtype and is contiguous, else a temporary, which is then converted into the
/// slot.
template <class Write>
void write_gradient(const Gradients& gradients, size_t i, DType dtype, const Stream& stream,
                    const Write& write) {
  const auto [destination, mode] = gradients.slot(i);
  if (destination.dtype() == dtype && destination.contiguous()) {
    write(destination, mode);
    return;
  }
  const Tensor temporary = Tensor::empty(destination.shape(), dtype, stream);
  write(temporary, GradMode::kOverwrite);
  if (mode == GradMode::kOverwrite)
    copy(destination, temporary, stream);
  else
    add_in_place(destination, temporary, stream);
}

/// The destination of a tensor that is computed from `gradient` element by element, in its shape and dtype:
/// `gradient` itself if there is no other reference to it, else a new tensor.
inline Tensor reuse_or_empty(const Tensor& gradient, const Stream& stream) {
  if (gradient.unique() && gradient.contiguous()) return gradient;
  return Tensor::empty(gradient.shape(), gradient.dtype(), stream);
}

}  // namespace tutti
