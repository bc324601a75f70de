#pragma once

#include <tutti/core/tape.h>

namespace tutti {

struct AttentionConfig {
  int64_t heads = 1;
  /// Heads of k and v; each serves heads / kv_heads query heads in a row. Source: Ainslie et al. 2023.
  int64_t kv_heads = 1;
  bool causal = true;  ///< position t sees positions 0..t
  double scale = 0;    ///< factor on q k^T; 0 for 1 / sqrt(head dim)
  /// Position t sees only itself and the window - 1 positions before it; 0: all. Needs `causal`. Blocks of
  /// keys outside of all windows are not computed. Source: Beltagy et al. 2020, "Longformer".
  int64_t window = 0;
  /// With c > 0, a score s becomes c tanh(s / c) before the softmax. Source: Gemma Team 2024, "Gemma 2".
  double softcap = 0;
};

/// softmax(scale q k^T) v for each head.
/// Shapes: qkv (B, T, (heads + 2 kv_heads) * D), packed q | k | v -> (B, T, heads * D). fp32, bf16 (fp32
/// inside) or fp64. The T x T probabilities are never held: rows are computed in blocks, forward and again in
/// backward, from the saved log-sum-exp of each row. Memory: O(T) per head. On CUDA in bf16, gradients' last
/// bits may follow the timing unless the stream's algorithm_selection() is kHeuristic. Source: Dao et al.
/// 2022, "FlashAttention". Throws Error if the last dim does not divide as said, heads is no multiple of
/// kv_heads, or, on CUDA, with a soft cap or a window that is shorter than the sequence, for which there are
/// no kernels there.
Var attention(Tape& tape, const Var& qkv, const AttentionConfig& config);

/// Inference with a cache: writes k and v of `qkv` (B, S, (heads + 2 kv_heads) * D) to positions used .. used
/// + S - 1 of the caches (B, capacity, kv_heads * D), and attends from the S new positions to all before and,
/// if causal, up to their own. Returns (B, S, heads * D). Throws Error if the caches are full or do not fit.
Tensor attention_with_cache(const Stream& stream, const Tensor& qkv, const Tensor& k_cache,
                            const Tensor& v_cache, int64_t used, const AttentionConfig& config);

}  // namespace tutti
