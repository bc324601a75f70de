#include "kernels/sums.h"

#include "kernels/cpu/sums.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/sums.h"

namespace tutti {

Tensor sum_middle(const Tensor& x, const SumExtents& extents, const Stream& stream) {
  if (extents.outer == 0 || extents.inner == 0) {  // the result is empty
    const DType wide = x.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    return Tensor::empty({extents.outer, extents.inner}, wide, stream);
  }
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      const Tensor parts = cuda::sum_middle_parts(x, extents.outer, extents.reduced, extents.inner, stream);
      cuda::add_chunks(parts, stream);
      return parts.slice(0, 0, 1).view({extents.outer, extents.inner});
    }
  }
  return cpu::sum_middle(x, extents, stream);
}

void add_chunks(const Tensor& partials, const Stream& stream) {
  if (partials.size(0) <= 1 || partials.size(1) == 0) return;
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::add_chunks(partials, stream);
  }
  cpu::add_chunks(partials, stream);
}

void store(const Tensor& source, const Tensor& destination, GradMode mode, const Stream& stream) {
  if (mode == GradMode::kOverwrite)
    copy(destination, source, stream);
  else
    add_in_place(destination, source, stream);
}

}  // namespace tutti
