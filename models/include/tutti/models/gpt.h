#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/kernels/attention.h>
#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/rotary.h>
#include <tutti/models/layers.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Variants of a Gpt's attention; the default is softmax(q k^T / sqrt(head_dim)) over all previous positions.
struct GptAttention {
  double scale = 0;                  ///< factor on q k^T; 0: 1 / sqrt(head_dim)
  bool scale_by_layer = false;       ///< divides the scale by the layer's number, from 1 on
  double softcap = 0;                ///< AttentionConfig::softcap
  int64_t window = 0;                ///< AttentionConfig::window
  std::vector<int64_t> full_layers;  ///< layers without the window, counted from 0

  void describe(Fields& f);
};

/// RotaryScaling in a run file.
struct GptRotaryScaling {
  // Not inline: GCC 12 otherwise warns of uninitialised members if a GptConfig is an aggregate.
  GptRotaryScaling();

  std::string kind = "none";
  double factor = 1;
  int64_t original_context = 0;
  double low_frequency = 1;
  double high_frequency = 4;
  double beta_fast = 32;
  double beta_slow = 1;
  double attention_factor = 0;

  void describe(Fields& f);
  [[nodiscard]] RotaryScaling resolved() const;
};

/// Settings of a decoder-only transformer. `recipe` sets the defaults of the keys below it:
///
///               norm    positions  activation  bias   tied    hidden
///     gpt2      layer   learned    gelu_tanh   true   true    4 width
///     llama     rms     rotary     swiglu      false  false   8/3 width, rounded up to 64
///
/// Sources: Radford et al. 2019, "Language models are unsupervised multitask learners"; Touvron et al. 2023,
/// "LLaMA: open and efficient foundation language models".
struct GptConfig {
  std::string recipe = "gpt2";
  int64_t vocabulary = 0;  ///< 0: that of the data
  int64_t context = 0;     ///< longest sequence; 0: that of the data
  int64_t layers = 6;
  int64_t width = 384;
  int64_t heads = 6;
  int64_t kv_heads = 0;  ///< 0: as many as heads
  int64_t head_dim = 0;  ///< width of a head; 0: width / heads
  int64_t hidden = 0;    ///< width inside the feed-forward layer; 0: the recipe's
  std::string norm = "layer";
  double norm_eps = 1e-5;
  bool norm_offset = false;  ///< norms multiply by 1 + weight
  bool post_norms = false;   ///< the outputs of attention and feed-forward are normalised
  bool qk_norm = false;      ///< queries and keys are normalised per head before rotation
  std::string positions = "learned";
  double rotary_base = 10000;
  double rotary_local_base = 0;  ///< for layers with a window, which are then not scaled; 0: rotary_base
  GptRotaryScaling rotary_scaling;
  GptAttention attention;
  std::string activation = "gelu_tanh";
  bool bias = true;
  std::optional<bool> qkv_bias, output_bias, mlp_bias;  ///< of these projections; empty: bias
  bool tied = true;                                     ///< head and embedding share their weights
  double embedding_scale = 1;
  double residual_scale = 1;  ///< factor on the outputs of attention and feed-forward
  double logit_scale = 1;
  double logit_softcap = 0;  ///< soft_cap of the logits; 0: none
  double dropout = 0;
  double init_deviation = 0.02;
  bool recompute = false;
  int64_t loss_rows = 0;  ///< rows of logits that the training loss computes at a time; 0: all

  void describe(Fields& f);
  /// Sets the keys that depend on `recipe`.
  void apply_recipe();
  /// The same with kv_heads, head_dim, hidden and the biases filled in. Throws Error on inconsistent sizes.
  [[nodiscard]] GptConfig resolved() const;
  /// Whether a layer uses the window.
  [[nodiscard]] bool has_window(int64_t layer) const;
};

/// Keys and values of past positions, one pair per layer, (B, context, kv_heads * head_dim) each.
struct KvCache {
  std::vector<Tensor> keys, values;
  int64_t used = 0;  ///< filled positions
};

/// Decoder-only transformer: tokens (B, T) int32 or int64, T <= context -> logits (B, T, vocabulary),
/// which are not contiguous if the vocabulary is padded; loss() and evaluate() read them as they are.
/// Pre-normalised blocks (with post_norms, normalised on both sides); queries, keys and values are one packed
/// projection. Projections onto the residual stream are initialised with deviation init_deviation / sqrt(2
/// layers), as in GPT-2. In memory, the weights of the head and the logits of a loss have rows and columns of
/// zeros up to a multiple of 16 or 64 tokens (Parameter::padding), which GPUs multiply by faster.
class Gpt final : public Module {
 public:
  /// Throws Error on inconsistent sizes.
  explicit Gpt(const GptConfig& config);
  ~Gpt() override;

  /// Enables fp8 for the matrix products of the head: models/fp8.h.
  void attach_to_head(std::unique_ptr<Fp8State> fp8);

  /// The configuration with all automatic values filled in.
  [[nodiscard]] const GptConfig& config() const noexcept { return config_; }

  /// FLOPs of forward and backward for one sequence of `tokens` tokens: 2 for each multiplication and
  /// addition, backward twice forward, so 6 for each weight that multiplies a token (all but embeddings and
  /// positions; the head counts whether tied or not), and 14 * heads * head_dim per layer for each pair of a
  /// query and a key that it attends to (row t attends to t + 1 keys, or to those of the window): two
  /// products forward, and five backward, which recomputes the scores. Norms and activations are not counted.
  [[nodiscard]] double flops(int64_t tokens) const;

  /// cross_entropy of the logits for `tokens` (B, T) and `targets` (B, T), for training, without the hooks of
  /// the root. With loss_rows, logits are computed and consumed that many rows at a time
  /// (linear_cross_entropy).
  Var loss(Tape& tape, const Tensor& tokens, const Tensor& targets, const CrossEntropyOptions& options);

  /// Loss and accuracy of the logits for `tokens` and `targets`, without the hooks of the root.
  [[nodiscard]] RowEvaluation evaluate(Tape& tape, const Tensor& tokens, const Tensor& targets);

  [[nodiscard]] KvCache make_cache(int64_t sequences, const Stream& stream) const;
  /// Logits (B, vocabulary) of the last of `tokens` (B, S), which follow the cached ones; adds them to the
  /// cache. Inference only. Throws Error if they do not fit in the context.
  [[nodiscard]] Tensor decode(const Tensor& tokens, KvCache& cache, const Stream& stream);

 protected:
  Var forward(Tape& tape, const Var& tokens) override;

 private:
  class Block;
  struct Residual;
  Var embed(Tape& tape, const Var& tokens, int64_t first_position);
  Residual blocks(Tape& tape, const Var& tokens);
  /// Logits with the columns of padding, and without, which is a view of them.
  Var padded_head(Tape& tape, const Residual& x);
  Var head(Tape& tape, const Residual& x);
  Var head_product(Tape& tape, const Var& x);
  /// The input of the head's product.
  Var head_input(Tape& tape, const Residual& x);
  Parameter& head_weight() { return head_ ? head_->weight : embedding_->weight; }

  GptConfig config_;
  std::unique_ptr<Embedding> embedding_, position_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<Norm> norm_;
  std::unique_ptr<Linear> head_;  // null if tied
  std::unique_ptr<Fp8State> head_fp8_;
};

}  // namespace tutti
