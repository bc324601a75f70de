#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/dtype.h>

namespace tutti {

/// Dtypes of a group. If compute == master, forward reads the master itself and there is no second copy.
struct Precision {
  DType compute = DType::kFloat32;  ///< weights in forward, activations
  DType master = DType::kFloat32;   ///< weights in the optimizer
  DType grad = DType::kFloat32;     ///< accumulation and reduction

  /// The `precision` section of a run file; masters are fp32.
  void describe(Fields& f);
};

}  // namespace tutti
