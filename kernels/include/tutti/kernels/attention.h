#pragma once

#include <tutti/core/tape.h>

namespace tutti {

struct AttentionConfig {
  int64_t heads = 1;
  /// Heads of k and v, each shared by heads / kv_heads adjacent query heads. Source: Ainslie et al. 2023.
  int64_t kv_heads = 1;
  bool causal = true;  ///< position t attends to positions 0..t
  double scale = 0;    ///< factor on q k^T; 0 for 1 / sqrt(head dim)
  /// Position t attends only to itself and the window - 1 positions before it; 0: no limit. Needs `causal`.
  /// Blocks of keys outside all windows are not computed. Source: Beltagy et al. 2020, "Longformer".
  int64_t window = 0;
  /// With c > 0, a score s becomes c tanh(s / c) before the softmax. Source: Gemma Team 2024, "Gemma 2".
  double softcap = 0;
};

/// softmax(scale q k^T) v for each head.
/// Shapes: qkv (B, T, (heads + 2 kv_heads) * D), packed q | k | v -> (B, T, heads * D). fp32, bf16 (fp32
/// inside) or fp64. The T x T probabilities are never in memory as a whole: blocks of rows are computed in
/// forward and recomputed in backward, from the saved log-sum-exp of each row. Memory: O(T) per head. On CUDA
/// in bf16, the last bits of gradients may depend on timing unless the stream's algorithm_selection() is
/// kHeuristic. Source: Dao et al. 2022, "FlashAttention". Throws Error if the last dim is not (heads + 2
/// kv_heads) * D, if heads is not a multiple of kv_heads, and, on CUDA, where they are not supported, for a
/// soft cap and for a window shorter than the sequence.
Var attention(Tape& tape, const Var& qkv, const AttentionConfig& config);

/// Inference with a cache: appends k and v of `qkv` (B, S, (heads + 2 kv_heads) * D) to the `used` positions
/// of the caches (B, capacity, kv_heads * D). The new positions attend to all positions or, if causal, to
/// those up to their own. Returns (B, S, heads * D). Throws Error if the caches are full or do not fit.
Tensor attention_with_cache(const Stream& stream, const Tensor& qkv, const Tensor& k_cache,
                            const Tensor& v_cache, int64_t used, const AttentionConfig& config);

}  // namespace tutti
