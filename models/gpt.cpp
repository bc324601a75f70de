#include <tutti/models/gpt.h>

#include <tutti/core/memory/owner.h>
#include <tutti/kernels/activation.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/shape.h>
#include <tutti/models/fp8.h>

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

Norm::Kind norm_kind(const GptConfig& config) {
  return config.norm == "rms" ? Norm::Kind::kRms : Norm::Kind::kLayer;
}

bool is_gated(const std::string& name) {
  return name == "swiglu" || name == "geglu" || name == "geglu_tanh";
}

/// The activation that the first linear layer applies; gated units follow it.
Activation fused_activation(const std::string& name) {
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  if (name == "relu") return Activation::kRelu;
  if (name == "silu") return Activation::kSilu;
  require(is_gated(name), "gpt: unknown activation '{}'", name);
  return Activation::kNone;
}

Activation gate_activation(const std::string& name) {
  if (name == "geglu") return Activation::kGelu;
  return name == "geglu_tanh" ? Activation::kGeluTanh : Activation::kSilu;
}

Norm make_norm(const GptConfig& c, int64_t width) {
  return {norm_kind(c), width, c.norm_eps, c.bias, c.norm_offset};
}

LinearOptions projection(const GptConfig& c, int64_t inputs, int64_t outputs, std::optional<bool> bias) {
  return {.inputs = inputs,
          .outputs = outputs,
          .bias = bias.value_or(c.bias),
          .init = Init::normal(c.init_deviation)};
}

LinearOptions residual_projection(const GptConfig& c, int64_t inputs, std::optional<bool> bias) {
  LinearOptions options = projection(c, inputs, c.width, bias);
  options.init = Init::normal(c.init_deviation / std::sqrt(2.0 * static_cast<double>(c.layers)));
  return options;
}

LinearOptions qkv_projection(const GptConfig& c) {
  const int64_t queries = c.heads * c.head_dim;
  const int64_t keys = c.kv_heads * c.head_dim;
  LinearOptions options = projection(c, c.width, queries + 2 * keys, c.qkv_bias);
  options.packed = {queries, keys, keys};
  return options;
}

LinearOptions up_projection(const GptConfig& c) {
  const bool gated = is_gated(c.activation);
  LinearOptions options = projection(c, c.width, gated ? 2 * c.hidden : c.hidden, c.mlp_bias);
  if (gated) options.packed = {c.hidden, c.hidden};
  options.activation = fused_activation(c.activation);
  return options;
}

/// Rows of padding of the head's weight. 16 elements are what products in fp8 need; 64 in bf16 are a line of
/// a GPU's memory, and less than 2 % of a large vocabulary.
int64_t vocabulary_padding(int64_t vocabulary) {
  const int64_t multiple = vocabulary >= 4096 ? 64 : 16;
  return (multiple - vocabulary % multiple) % multiple;
}

AttentionConfig attention_of(const GptConfig& c, int64_t layer) {
  AttentionConfig attention{.heads = c.heads,
                            .kv_heads = c.kv_heads,
                            .scale = c.attention.scale,
                            .window = c.has_window(layer) ? c.attention.window : 0,
                            .softcap = c.attention.softcap};
  if (c.attention.scale_by_layer) {
    if (attention.scale == 0) attention.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    attention.scale /= static_cast<double>(layer + 1);
  }
  return attention;
}

RotaryConfig rotary_of(const GptConfig& c, int64_t layer) {
  RotaryConfig rotary{.heads = c.heads,
                      .kv_heads = c.kv_heads,
                      .base = c.rotary_base,
                      .scaling = c.rotary_scaling.resolved()};
  if (c.rotary_local_base > 0 && c.has_window(layer)) {
    rotary.base = c.rotary_local_base;
    rotary.scaling = {};
  }
  return rotary;
}

}  // namespace

/// x + added, the input of a block: the sum is left to the norm that reads it, which computes both in one
/// pass over memory.
struct Gpt::Residual {
  Var x;
  Var added;  ///< undefined: nothing

  [[nodiscard]] bool has_two() const { return added.value.defined(); }
  [[nodiscard]] Var sum(Tape& tape) const { return has_two() ? add(tape, x, added) : x; }
};

/// x + attention(norm(x)), then x + feed_forward(norm(x)): (B, T, width) -> the same.
class Gpt::Block final : public Module {
 public:
  Block(const GptConfig& c, int64_t layer)
      : config_(c),
        attention_(attention_of(c, layer)),
        rotary_(rotary_of(c, layer)),
        norm1_(make_norm(c, c.width)),
        qkv_(qkv_projection(c)),
        output_(residual_projection(c, c.heads * c.head_dim, c.output_bias)),
        norm2_(make_norm(c, c.width)),
        up_(up_projection(c)),
        down_(residual_projection(c, c.hidden, c.mlp_bias)) {
    register_module("norm1", norm1_);
    register_module("attention.qkv", qkv_);
    register_module("attention.output", output_);
    register_module("norm2", norm2_);
    register_module("mlp.up", up_);
    register_module("mlp.down", down_);
    if (c.qk_norm) {
      heads_norms_ = std::make_unique<Norms>(c, c.head_dim);
      register_module("attention.q_norm", heads_norms_->first);
      register_module("attention.k_norm", heads_norms_->second);
    }
    if (c.post_norms) {
      post_norms_ = std::make_unique<Norms>(c, c.width);
      register_module("post_norm1", post_norms_->first);
      register_module("post_norm2", post_norms_->second);
    }
  }

  [[nodiscard]] int64_t multiply_adds() const {
    return qkv_.multiply_adds() + output_.multiply_adds() + up_.multiply_adds() + down_.multiply_adds();
  }

  /// Pairs of a query and a key that it attends to, in a sequence of `tokens`.
  [[nodiscard]] int64_t attended_pairs(int64_t tokens) const {
    const int64_t seen = attention_.window == 0 ? tokens : std::min(attention_.window, tokens);
    return seen * (seen + 1) / 2 + (tokens - seen) * seen;
  }

  /// The block for positions that follow those of the cache; stores their keys and values there.
  Var decode(Tape& tape, const Var& x, KvCache& cache, size_t layer) {
    Var qkv = norm_linear(tape, norm1_, qkv_, x);
    qkv = rotate(tape, qkv, cache.used);
    const Var y(attention_with_cache(tape.stream(), qkv.value, cache.keys[layer], cache.values[layer],
                                     cache.used, attention_));
    return feed_forward(tape, x, added(tape, output_(tape, y), 0)).sum(tape);
  }

  /// The block as a function of the terms of its input, without its hooks.
  Residual extend(Tape& tape, const Residual& in) {
    const MemoryOwner owner(path());
    const auto [x, qkv] = attention_input(tape, in);
    const Var y = attention(tape, rotate(tape, qkv, 0), attention_);
    return feed_forward(
        tape, x, dropout(tape, added(tape, output_(tape, y), 0), config_.dropout, output_.random_stream()));
  }

 protected:
  Var forward(Tape& tape, const Var& x) override { return extend(tape, {x, {}}).sum(tape); }

 private:
  /// A pair of norms, which only some models have.
  struct Norms {
    Norms(const GptConfig& c, int64_t width) : first(make_norm(c, width)), second(make_norm(c, width)) {}
    Norm first, second;
  };

  SumAndOutput attention_input(Tape& tape, const Residual& in) {
    if (in.has_two() && !norm1_.has_hooks()) return add_norm_linear(tape, {in.x, in.added}, norm1_, qkv_);
    const Var x = in.sum(tape);
    return {x, norm_linear(tape, norm1_, qkv_, x)};
  }

  Var rotate(Tape& tape, const Var& qkv, int64_t first_position) {
    const Var normed = heads_norms_ ? normalise_heads(tape, qkv) : qkv;
    if (config_.positions != "rotary") return normed;
    RotaryConfig config = rotary_;
    config.first_position = first_position;
    return rotary(tape, normed, config);
  }

  Var normalise_heads(Tape& tape, const Var& qkv) {
    const int64_t width = config_.head_dim;
    const auto part = [&](Norm& norm, int64_t first, int64_t heads) {
      const Var x = slice(tape, qkv, 2, first * width, (first + heads) * width);
      const Shape& shape = x.shape();
      return view(tape, norm(tape, view(tape, x, {shape[0], shape[1], heads, width})), shape);
    };
    const int64_t rotated = config_.heads + config_.kv_heads;
    return concat(tape,
                  {part(heads_norms_->first, 0, config_.heads),
                   part(heads_norms_->second, config_.heads, config_.kv_heads),
                   slice(tape, qkv, 2, rotated * width, qkv.value.size(2))},
                  2);
  }

  /// The output of attention (0) or the feed-forward layer (1) for the residual stream.
  Var added(Tape& tape, const Var& y, int which) {
    const Var normed = post_norms_ ? (which == 0 ? post_norms_->first : post_norms_->second)(tape, y) : y;
    return config_.residual_scale == 1 ? normed : scale(tape, normed, config_.residual_scale);
  }

  /// The sum of two terms, and the output of a gated feed-forward layer on its norm.
  SumAndOutput gated_pair(Tape& tape, const std::array<Var, 2>& terms) {
    const auto [sum, up] = add_norm_linear(tape, terms, norm2_, up_);
    return {sum, down_(tape, gated(tape, up, gate_activation(config_.activation)))};
  }

  /// x + attended, and the output of the feed-forward layer on that.
  Residual feed_forward(Tape& tape, const Var& x, const Var& attended) {
    const auto [sum, y] = is_gated(config_.activation)
                              ? gated_pair(tape, {x, attended})
                              : add_norm_pair(tape, {x, attended}, norm2_, up_, down_);
    return {sum, dropout(tape, added(tape, y, 1), config_.dropout, down_.random_stream())};
  }

  const GptConfig& config_;
  AttentionConfig attention_;
  RotaryConfig rotary_;
  Norm norm1_;
  Linear qkv_, output_;
  Norm norm2_;
  Linear up_, down_;
  std::unique_ptr<Norms> heads_norms_, post_norms_;
};

Gpt::Gpt(const GptConfig& config) : config_(config.resolved()) {
  const GptConfig& c = config_;
  const Init init = Init::normal(c.init_deviation);
  embedding_ = std::make_unique<Embedding>(c.vocabulary, c.width, init);
  register_module("embedding", *embedding_);
  if (c.positions == "learned") {
    position_ = std::make_unique<Embedding>(c.context, c.width, init);
    register_module("position", *position_);
  }
  for (int64_t i = 0; i < c.layers; ++i) {
    blocks_.push_back(std::make_unique<Block>(c, i));
    register_module(fmt::format("blocks.{}", i), *blocks_.back());
  }
  norm_ = std::make_unique<Norm>(norm_kind(c), c.width, c.norm_eps, c.bias, c.norm_offset);
  register_module("norm", *norm_);
  if (!c.tied) {
    head_ = std::make_unique<Linear>(LinearOptions{
        .inputs = c.width, .outputs = c.vocabulary, .bias = false, .init = init, .role = Role::kHead});
    register_module("head", *head_);
  }
  head_weight().padding = vocabulary_padding(c.vocabulary);
  name_parameters();
}

Gpt::~Gpt() = default;

void Gpt::attach_to_head(std::unique_ptr<Fp8State> fp8) {
  require(head_fp8_ == nullptr, "gpt: the head already uses fp8");
  head_fp8_ = std::move(fp8);
  register_parameter("head_input_range", head_fp8_->input);
  register_parameter("head_weight_range", head_fp8_->weight);
  register_parameter("head_gradient_range", head_fp8_->gradient);
}

double Gpt::flops(int64_t tokens) const {
  int64_t weights = config_.vocabulary * config_.width;
  int64_t pairs = 0;
  for (const auto& block : blocks_) {
    weights += block->multiply_adds();
    pairs += block->attended_pairs(tokens);
  }
  // Forward has two products of the scores, backward five: it recomputes them (Dao et al. 2022).
  return 6.0 * static_cast<double>(weights) * static_cast<double>(tokens) +
         14.0 * static_cast<double>(pairs) * static_cast<double>(config_.heads * config_.head_dim);
}

Var Gpt::embed(Tape& tape, const Var& tokens, int64_t first_position) {
  require(tokens.value.dims() == 2, "gpt: tokens have shape {}, expected (B, T)", to_string(tokens.shape()));
  const int64_t last = first_position + tokens.value.size(1);
  require(last <= config_.context, "gpt: a sequence of {} tokens does not fit the context of {}", last,
          config_.context);
  Var x = (*embedding_)(tape, tokens);
  if (config_.embedding_scale != 1) x = scale(tape, x, config_.embedding_scale);
  if (!position_) return x;
  return add(tape, x, slice(tape, tape.leaf(position_->weight), 0, first_position, last));
}

Var Gpt::head_input(Tape& tape, const Residual& x) {
  const Var normed = x.has_two() && !norm_->has_hooks() ? add_norm(tape, {x.x, x.added}, *norm_)
                                                        : (*norm_)(tape, x.sum(tape));
  return config_.logit_scale == 1 ? normed : scale(tape, normed, config_.logit_scale);
}

Var Gpt::head_product(Tape& tape, const Var& x) {
  if (head_fp8_)
    return fp8_linear(tape, x, tape.leaf(head_weight()), Var{}, Activation::kNone, head_fp8_->on(tape));
  return head_ ? (*head_)(tape, x) : linear(tape, x, tape.leaf(head_weight()), Var{});
}

Var Gpt::padded_head(Tape& tape, const Residual& x) {
  const Var in = head_input(tape, x);
  const Var logits = head_product(tape, in);
  return config_.logit_softcap > 0 ? soft_cap(tape, logits, config_.logit_softcap) : logits;
}

Var Gpt::head(Tape& tape, const Residual& x) {
  const Var logits = padded_head(tape, x);
  if (logits.value.size(-1) == config_.vocabulary) return logits;
  return slice(tape, logits, logits.value.dims() - 1, 0, config_.vocabulary);
}

Gpt::Residual Gpt::blocks(Tape& tape, const Var& tokens) {
  Residual x{dropout(tape, embed(tape, tokens, 0), config_.dropout, embedding_->random_stream()), {}};
  for (const auto& block : blocks_) {
    const bool whole = config_.recompute || block->has_hooks();
    x = whole ? Residual{call(tape, *block, x.sum(tape), config_.recompute), {}} : block->extend(tape, x);
  }
  return x;
}

Var Gpt::forward(Tape& tape, const Var& tokens) {
  return head(tape, blocks(tape, tokens));
}

Var Gpt::loss(Tape& tape, const Tensor& tokens, const Tensor& targets, const CrossEntropyOptions& options) {
  CrossEntropyOptions of_classes = options;
  of_classes.classes = config_.vocabulary;
  // The logits are a temporary, so that their gradient may reuse their memory.
  if (config_.loss_rows == 0)
    return cross_entropy(tape, padded_head(tape, blocks(tape, Var(tokens))), targets, of_classes);
  const Var in = head_input(tape, blocks(tape, Var(tokens)));
  const LinearCrossEntropyOptions head{
      .loss = of_classes, .chunk_rows = config_.loss_rows, .soft_cap = config_.logit_softcap};
  const Var w = tape.leaf(head_weight());
  if (!head_fp8_) return linear_cross_entropy(tape, in, w, targets, head);
  return fp8_linear_cross_entropy(tape, in, w, targets, head, head_fp8_->on(tape));
}

RowEvaluation Gpt::evaluate(Tape& tape, const Tensor& tokens, const Tensor& targets) {
  const Var logits = padded_head(tape, blocks(tape, Var(tokens)));
  return cross_entropy_evaluate(tape.stream(), logits.value, targets, {.classes = config_.vocabulary});
}

KvCache Gpt::make_cache(int64_t sequences, const Stream& stream) const {
  KvCache cache;
  const DType dtype = embedding_->weight.value.dtype();
  const Shape shape{sequences, config_.context, config_.kv_heads * config_.head_dim};
  for (int64_t i = 0; i < config_.layers; ++i) {
    cache.keys.push_back(Tensor::zeros(shape, dtype, stream));
    cache.values.push_back(Tensor::zeros(shape, dtype, stream));
  }
  return cache;
}

Tensor Gpt::decode(const Tensor& tokens, KvCache& cache, const Stream& stream) {
  Tape tape(stream, {.training = false, .samples = tokens.size(0)}, Tape::Mode::kInference);
  Var x = embed(tape, Var(tokens), cache.used);
  for (size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i]->decode(tape, x, cache, i);
  cache.used += tokens.size(1);
  const Var last(x.value.select(1, tokens.size(1) - 1));
  return head(tape, {last, {}}).value;
}

}  // namespace tutti
