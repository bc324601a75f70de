#pragma once

#include <tutti/core/tape.h>

namespace tutti::cuda {

/// y[i] = table[tokens[i]]: y (tokens.numel(), C), table (V, C); contiguous, on the stream's device. A token
/// outside [0, V) gives a row of NaN, as an error would require the host to wait for the device.
void embedding(const Tensor& table, const Tensor& tokens, const Tensor& y, const Stream& stream);

/// Adds dy[i] to gradient[tokens[i]] for each i, in the mode of the slot; the gradient is (V, C).
/// Deterministic: occurrences are sorted by token and position and added in an order that depends on the
/// tokens alone. Throws Error for 2^31 - 1 tokens or more.
void embedding_backward(const Tensor& dy, const Tensor& tokens, const Gradients::Slot& gradient,
                        const Stream& stream);

}  // namespace tutti::cuda
