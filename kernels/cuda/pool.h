#pragma once

#include <tutti/core/tensor.h>
#include "kernels/row/pool.h"

// Pooling (kernels/pool.h) on CUDA. Tensors are contiguous and on the stream's device; images are (H, W, C).
namespace tutti::cuda {

/// `winners` (elements of y) uint16: the winning position in each window.
void max_pool(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& winners,
              const Stream& stream);
void avg_pool(const row::PoolGeometry& g, const Tensor& x, const Tensor& y, const Stream& stream);

struct PoolBackward {
  Tensor dy;
  Tensor winners;  ///< of max_pool; undefined for avg_pool
  Tensor dx;
  bool accumulate;  ///< adds to dx
};
void pool_backward(const row::PoolGeometry& g, const PoolBackward& p, const Stream& stream);

}  // namespace tutti::cuda
