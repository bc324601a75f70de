#pragma once

#include <tutti/core/tape.h>

// How backward passes hand on gradients.
namespace tutti {

/// Calls `write(destination, mode)` with a contiguous tensor of `dtype` for the gradient of input `i`: the
/// slot itself where it has the dtype, else a temporary that is then converted.
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

/// The gradient's own memory if nobody else needs it, else a new tensor: where to put something of its shape
/// and dtype that is computed from it element by element.
inline Tensor reuse_or_empty(const Tensor& gradient, const Stream& stream) {
  if (gradient.unique() && gradient.contiguous()) return gradient;
  return Tensor::empty(gradient.shape(), gradient.dtype(), stream);
}

}  // namespace tutti
