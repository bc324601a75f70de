#pragma once

#include <tutti/core/tape.h>

namespace tutti::cuda {

/// y (tokens.numel(), C) = rows of the table (V, C) that the tokens name; contiguous, on the stream's device.
/// A token outside the table gives a row of NaN: asking the device would stop the host.
void embedding(const Tensor& table, const Tensor& tokens, const Tensor& y, const Stream& stream);

/// Adds rows of dy to the rows of `gradient` (V, C) that the tokens name, or overwrites all of it.
/// Deterministic: occurrences are sorted by token and position and added in an order that the tokens alone
/// give. Fewer than 2^31 tokens.
void embedding_backward(const Tensor& dy, const Tensor& tokens, const Gradients::Slot& gradient,
                        const Stream& stream);

}  // namespace tutti::cuda
