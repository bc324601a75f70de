#pragma once

#include "kernels/cases/timed_case.h"

#include <string_view>
#include <utility>

// Declarations for the files with the rows.
namespace tutti::cases {

/// A row whose name is the shapes of its inputs.
OpCase make_case(std::string_view op, std::vector<Input> inputs, Apply apply);

using Rows = std::vector<OpCase>;
using TimedRows = std::vector<TimedCase>;

// One function per file.
void add_pointwise_rows(Rows& rows);
void add_activation_rows(Rows& rows);
void add_reduce_rows(Rows& rows);
void add_shape_rows(Rows& rows);
void add_norm_rows(Rows& rows);
void add_batch_norm_rows(Rows& rows);
void add_dense_rows(Rows& rows);
void add_loss_rows(Rows& rows);
void add_sequence_rows(Rows& rows);
void add_image_rows(Rows& rows);

// Rows at the sizes of `tutti bench kernels`; `e` is the size of an element in bytes.
void add_timed_pointwise(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_activations(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_norms(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_batch_norm(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_dense(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_losses(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_dropout(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_lookups(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_attention(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_pools(TimedRows& rows, const KernelSizes& s, double e);
void add_timed_convolutions(TimedRows& rows, const KernelSizes& s, double e);

/// "4096 x 384".
std::string size_text(const Shape& shape);
/// A number of elements as a double, for costs.
inline double count(int64_t n) {
  return static_cast<double>(n);
}

}  // namespace tutti::cases
