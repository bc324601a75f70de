#pragma once

#include <tutti/core/tensor.h>

// attention and attention_with_cache (kernels/attention.h) on CUDA: by cuDNN for bf16 where it has a plan,
// else by matrix products and softmax over blocks of queries, with O(T) scores per head in memory.
namespace tutti::cuda {

struct AttentionHeads {
  int64_t heads, kv_heads, head_dim;
  bool causal;
  double scale;
};

/// Rows of heads: q (B, Q, heads * D), k and v (B, K, kv_heads * D), views whose last dim is contiguous; the
/// last query has the position of the last key. out (B, Q, heads * D) contiguous; lse (B, heads, Q) fp32
/// (fp64 for fp64), needed by backward, or undefined.
struct AttentionTensors {
  Tensor q, k, v, out, lse;
};

/// From packed qkv (B, T, (heads + 2 kv_heads) * D), contiguous.
void attention(const AttentionHeads& heads, const Tensor& qkv, const Tensor& out, const Tensor& lse,
               const Stream& stream);
/// dqkv from the results of the forward pass of the same qkv. cuDNN's is deterministic if the stream's
/// algorithm_selection() is kHeuristic; the other always is.
void attention_backward(const AttentionHeads& heads, const Tensor& qkv, const Tensor& out, const Tensor& lse,
                        const Tensor& dout, const Tensor& dqkv, const Stream& stream);

/// By matrix products and softmax over blocks of queries.
void attention_by_blocks(const AttentionHeads& heads, const AttentionTensors& t, const Stream& stream);
void attention_by_blocks_backward(const AttentionHeads& heads, const AttentionTensors& t, const Tensor& dout,
                                  const Tensor& dqkv, const Stream& stream);

}  // namespace tutti::cuda
