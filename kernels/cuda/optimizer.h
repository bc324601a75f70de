#pragma once

#include <tutti/core/param_group.h>
#include "kernels/row/optimizer.h"

#include <span>
#include <vector>

// Optimizer steps (kernels/optimizer.h) on CUDA: one launch for all parameters of the same dtypes.
namespace tutti::cuda {

/// One piece of a parameter. Pointers to fp32 or bf16 gradients and weights and fp32 masters and states, or
/// to fp64 throughout.
struct UpdatePiece {
  const void* grad;
  void* master;
  void* weight;     ///< null if the master is the weight
  void* states[2];  ///< the algorithm's states; null if it has fewer
  int64_t n;
  int32_t rule;  ///< index of its entry of `numbers`
};

/// Pieces of one combination of dtypes, in device memory.
struct UpdateTable {
  Precision precision;
  Tensor pieces;  ///< (count * sizeof(UpdatePiece)) uint8
  int64_t count;
};
UpdateTable make_update_table(const Precision& precision, std::span<const UpdatePiece> pieces,
                              const Stream& stream);

/// Updates all pieces: reads gradient, master and states once, writes master, states and weight once.
/// `numbers` has one entry per rule, at most kMaxRules, of one of row::UpdateRules in the masters' type.
inline constexpr size_t kMaxRules = 8;
template <row::Listed<row::UpdateRules> Rule>
void update(const UpdateTable& table, std::span<const Rule> numbers, const Stream& stream);

/// The same for graph capture: `numbers` has kMaxRules objects of type Rule in device memory, uint8, and
/// `control` is that of clip_control. Its factor replaces the grad_scale of the numbers, and nothing is
/// written unless the norm is finite.
template <row::Listed<row::UpdateRules> Rule>
void controlled_update(const UpdateTable& table, const Tensor& numbers, const Tensor& control,
                       const Stream& stream);

/// Writes control (3) fp64: the factor on gradients that limits their norm to `clip_norm` (1 if that is 0); 1
/// if the norm is finite, else 0; and the norm, the square root of `squares` () fp64.
void clip_control(const Tensor& squares, double clip_norm, const Tensor& control, const Stream& stream);

/// The sum of squares of the gradients of all pieces, () fp64: one partial sum per piece in fp64, added in an
/// order that depends on the sizes alone.
Tensor sum_of_squares(const UpdateTable& table, const Stream& stream);

}  // namespace tutti::cuda
