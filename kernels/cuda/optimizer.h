#pragma once

#include <tutti/core/param_group.h>
#include "kernels/row/optimizer.h"

#include <span>
#include <vector>

// Optimizer steps (kernels/optimizer.h) on CUDA: one kernel for all parameters of the same dtypes.
namespace tutti::cuda {

/// One piece of a parameter. Pointers to fp32 or bf16 gradients and weights and fp32 masters and states, or
/// to fp64 throughout.
struct UpdatePiece {
  const void* grad;
  void* master;
  void* weight;     ///< null where the master is the weight
  void* states[2];  ///< of the algorithm; null where it has fewer
  int64_t n;
  int32_t rule;  ///< which of the numbers are its own
};

/// Pieces of one combination of dtypes, in memory of the device.
struct UpdateTable {
  Precision precision;
  Tensor pieces;  ///< (count * sizeof(UpdatePiece)) uint8
  int64_t count;
};
UpdateTable make_update_table(const Precision& precision, std::span<const UpdatePiece> pieces,
                              const Stream& stream);

/// Updates all pieces: reads gradient, master and states once, writes master, states and weight once.
/// `numbers` has one entry a rule, at most kMaxRules: one of row::UpdateRules in the masters' type.
inline constexpr size_t kMaxRules = 8;
template <row::Listed<row::UpdateRules> Rule>
void update(const UpdateTable& table, std::span<const Rule> numbers, const Stream& stream);

/// The same for captured work: `numbers` holds kMaxRules of Rule in memory of the device, uint8, and
/// `control` what clip_control wrote. Its factor takes the place of the numbers' own, and nothing is written
/// unless the norm is finite.
template <row::Listed<row::UpdateRules> Rule>
void controlled_update(const UpdateTable& table, const Tensor& numbers, const Tensor& control,
                       const Stream& stream);

/// control (3) fp64 = the factor on gradients that brings their norm within `clip_norm` (1 where that is 0),
/// 1 or 0 for whether the norm is finite, and the norm, the root of squares () fp64.
void clip_control(const Tensor& squares, double clip_norm, const Tensor& control, const Stream& stream);

/// The sum of squares of the gradients of all pieces as () fp64: partial sums in fp64, a piece each, in an
/// order that follows from the sizes alone.
Tensor sum_of_squares(const UpdateTable& table, const Stream& stream);

}  // namespace tutti::cuda
