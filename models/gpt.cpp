#include <tutti/models/gpt.h>

#include <tutti/kernels/activation.h>
#include <tutti/kernels/attention.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/rotary.h>
#include <tutti/kernels/shape.h>

#include <cmath>

namespace tutti {
namespace {

Norm::Kind norm_kind(const GptConfig& config) {
  return config.norm == "rms" ? Norm::Kind::kRms : Norm::Kind::kLayer;
}

/// The activation that the first linear layer applies itself; SwiGLU comes after it.
Activation fused_activation(const std::string& name) {
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  if (name == "relu") return Activation::kRelu;
  if (name == "silu") return Activation::kSilu;
  require(name == "swiglu", "gpt: unknown activation '{}'", name);
  return Activation::kNone;
}

LinearOptions projection(const GptConfig& c, int64_t inputs, int64_t outputs) {
  return {.inputs = inputs,
          .outputs = outputs,
          .bias = c.bias,
          .init = Init::normal(c.init_deviation),
          .fp8 = c.fp8 != "none"};
}

LinearOptions residual_projection(const GptConfig& c, int64_t inputs) {
  LinearOptions options = projection(c, inputs, c.width);
  options.init = Init::normal(c.init_deviation / std::sqrt(2.0 * static_cast<double>(c.layers)));
  return options;
}

LinearOptions up_projection(const GptConfig& c) {
  LinearOptions options = projection(c, c.width, c.activation == "swiglu" ? 2 * c.hidden : c.hidden);
  options.activation = fused_activation(c.activation);
  return options;
}

}  // namespace

/// x + attention(norm(x)), then x + feed_forward(norm(x)): (B, T, width) -> the same.
class Gpt::Block final : public Module {
 public:
  explicit Block(const GptConfig& c)
      : config_(c),
        attention_{.heads = c.heads, .kv_heads = c.kv_heads},
        norm1_(norm_kind(c), c.width, c.norm_eps, c.bias),
        qkv_(projection(c, c.width, (c.heads + 2 * c.kv_heads) * (c.width / c.heads))),
        output_(residual_projection(c, c.width)),
        norm2_(norm_kind(c), c.width, c.norm_eps, c.bias),
        up_(up_projection(c)),
        down_(residual_projection(c, c.hidden)) {
    register_module("norm1", norm1_);
    register_module("attention.qkv", qkv_);
    register_module("attention.output", output_);
    register_module("norm2", norm2_);
    register_module("mlp.up", up_);
    register_module("mlp.down", down_);
  }

  [[nodiscard]] int64_t multiply_adds() const {
    return qkv_.multiply_adds() + output_.multiply_adds() + up_.multiply_adds() + down_.multiply_adds();
  }

  /// The block for positions that follow those of the cache; stores their keys and values there.
  Var decode(Tape& tape, const Var& x, KvCache& cache, size_t layer) {
    Var qkv = call(tape, qkv_, norm1_.input_of(tape, qkv_, x));
    qkv = rotate(tape, qkv, cache.used);
    const Var y(attention_with_cache(tape.stream(), qkv.value, cache.keys[layer], cache.values[layer],
                                     cache.used, attention_));
    return feed_forward(tape, x, output_(tape, y));
  }

 protected:
  Var forward(Tape& tape, const Var& x) override {
    const Var qkv = call(tape, qkv_, norm1_.input_of(tape, qkv_, x));
    const Var y = attention(tape, rotate(tape, qkv, 0), attention_);
    return feed_forward(tape, x, dropout(tape, output_(tape, y), config_.dropout, output_.random_stream()));
  }

 private:
  Var rotate(Tape& tape, const Var& qkv, int64_t first_position) {
    if (config_.positions != "rotary") return qkv;
    return rotary(tape, qkv,
                  {.heads = config_.heads,
                   .kv_heads = config_.kv_heads,
                   .base = config_.rotary_base,
                   .first_position = first_position});
  }

  /// x + attended, and what the feed-forward layer makes of that.
  Var feed_forward(Tape& tape, const Var& x, const Var& attended) {
    const auto [sum, in] = norm2_.input_of_sum(tape, up_, x, attended);
    const Var y = config_.activation == "swiglu" ? down_(tape, swiglu(tape, call(tape, up_, in)))
                                                 : call_pair(tape, up_, down_, in);
    return add(tape, sum, dropout(tape, y, config_.dropout, down_.random_stream()));
  }

  const GptConfig& config_;
  AttentionConfig attention_;
  Norm norm1_;
  Linear qkv_, output_;
  Norm norm2_;
  Linear up_, down_;
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
    blocks_.push_back(std::make_unique<Block>(c));
    register_module(fmt::format("blocks.{}", i), *blocks_.back());
  }
  norm_ = std::make_unique<Norm>(norm_kind(c), c.width, c.norm_eps, c.bias);
  register_module("norm", *norm_);
  if (!c.tied) {
    head_ = std::make_unique<Linear>(LinearOptions{
        .inputs = c.width, .outputs = c.vocabulary, .bias = false, .init = init, .role = Role::kHead});
    register_module("head", *head_);
  }
  if (c.fp8 == "linear_and_head") {
    head_ranges_.emplace();
    register_parameter("head_input_range", head_ranges_->input);
    register_parameter("head_weight_range", head_ranges_->weight);
    register_parameter("head_gradient_range", head_ranges_->gradient);
  }
  name_parameters();
}

Gpt::~Gpt() = default;

double Gpt::flops(int64_t tokens) const {
  int64_t weights = config_.vocabulary * config_.width;
  for (const auto& block : blocks_) weights += block->multiply_adds();
  // A causal mask leaves half of the scores. Forward makes two products of them, backward five: it computes
  // the scores again (Dao et al. 2022).
  const int64_t attended = config_.layers * config_.width * (tokens + 1);
  return (6.0 * static_cast<double>(weights) + 7.0 * static_cast<double>(attended)) *
         static_cast<double>(tokens);
}

Var Gpt::embed(Tape& tape, const Var& tokens, int64_t first_position) {
  require(tokens.value.dims() == 2, "gpt: tokens have shape {}, expected (B, T)", to_string(tokens.shape()));
  const int64_t last = first_position + tokens.value.size(1);
  require(last <= config_.context, "gpt: a sequence of {} tokens does not fit the context of {}", last,
          config_.context);
  const Var x = (*embedding_)(tape, tokens);
  if (!position_) return x;
  return add(tape, x, slice(tape, tape.leaf(position_->weight), 0, first_position, last));
}

Var Gpt::head(Tape& tape, const Var& x) {
  const Var normed = (*norm_)(tape, x);
  if (head_ && !head_ranges_) return (*head_)(tape, normed);
  return linear(tape, normed, tape.leaf(head_weight()), Var{}, Activation::kNone, head_ranges(tape));
}

Var Gpt::blocks(Tape& tape, const Var& tokens) {
  Var x = dropout(tape, embed(tape, tokens, 0), config_.dropout, embedding_->random_stream());
  for (const auto& block : blocks_) x = call(tape, *block, x, config_.recompute);
  return x;
}

Var Gpt::forward(Tape& tape, const Var& tokens) {
  return head(tape, blocks(tape, tokens));
}

Var Gpt::loss(Tape& tape, const Tensor& tokens, const Tensor& targets, const CrossEntropyOptions& options) {
  // The logits are a temporary, so that their gradient may take their memory.
  if (config_.loss_rows == 0) return cross_entropy(tape, (*this)(tape, Var(tokens)), targets, options);
  const Var normed = (*norm_)(tape, blocks(tape, Var(tokens)));
  return linear_cross_entropy(
      tape, normed, tape.leaf(head_weight()), targets,
      {.loss = options, .chunk_rows = config_.loss_rows, .ranges = head_ranges(tape)});
}

KvCache Gpt::make_cache(int64_t sequences, const Stream& stream) const {
  KvCache cache;
  const DType dtype = embedding_->weight.value.dtype();
  const Shape shape{sequences, config_.context, config_.kv_heads * (config_.width / config_.heads)};
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
  return head(tape, last).value;
}

}  // namespace tutti
