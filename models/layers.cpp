#include <tutti/models/layers.h>

#include <tutti/core/memory/owner.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/models/fp8.h>

namespace tutti {
namespace {

Parameter describe_parameter(Shape shape, Init init, Role role) {
  Parameter parameter;
  parameter.shape = std::move(shape);
  parameter.init = init;
  parameter.role = role;
  return parameter;
}

}  // namespace

Linear::Linear(const LinearOptions& options)
    : weight(describe_parameter({options.outputs, options.inputs}, options.init, options.role)),
      bias(describe_parameter({options.outputs}, options.bias_init, Role::kBias)),
      has_bias_(options.bias),
      activation_(options.activation) {
  weight.packed = options.packed;
  register_parameter("weight", weight);
  if (has_bias_) register_parameter("bias", bias);
}

Linear::~Linear() = default;

void Linear::attach(std::unique_ptr<Fp8State> fp8) {
  require(fp8_ == nullptr, "module '{}': already uses fp8", path());
  fp8_ = std::move(fp8);
  register_parameter("input_range", fp8_->input);
  register_parameter("weight_range", fp8_->weight);
  register_parameter("gradient_range", fp8_->gradient);
}

Var Linear::forward(Tape& tape, const Var& x) {
  if (fp8_) return fp8_linear(tape, x, tape.leaf(weight), bias_on(tape), activation_, fp8_->on(tape));
  return linear(tape, x, tape.leaf(weight), bias_on(tape), activation_);
}

namespace {

/// layer(x).
Var apply(Tape& tape, Linear& layer, const Fp8Input& x) {
  if (const auto* values = std::get_if<Var>(&x)) return layer(tape, *values);
  const MemoryOwner owner(layer.path());
  return fp8_linear(tape, x, tape.leaf(layer.weight), layer.bias_on(tape), layer.activation(),
                    layer.fp8()->on(tape));
}

Fp8Ranges ranges_on(Tape& tape, const Linear& layer) {
  return layer.fp8() != nullptr ? layer.fp8()->on(tape) : Fp8Ranges{};
}

/// second(first(x)).
Var apply_pair(Tape& tape, Linear& first, Linear& second, const Fp8Input& x) {
  if (first.has_hooks() || second.has_hooks() || second.activation() != Activation::kNone)
    return second(tape, apply(tape, first, x));
  const MemoryOwner owner(first.path());
  const Var w1 = tape.leaf(first.weight), b1 = first.bias_on(tape);
  const Var w2 = tape.leaf(second.weight), b2 = second.bias_on(tape);
  if (first.fp8() == nullptr && second.fp8() == nullptr)
    return mlp(tape, std::get<Var>(x), w1, b1, w2, b2, first.activation());
  return fp8_mlp(tape, x, w1, b1, w2, b2, first.activation(),
                 {.up = ranges_on(tape, first), .down = ranges_on(tape, second)});
}

/// Whether the layer computes the norm of x. Not if it has hooks, which need its input.
bool takes_norm(const Tape& tape, const Linear& layer, const Var& x) {
  return layer.fp8() != nullptr && !layer.has_hooks() &&
         takes_deferred_norm(tape, x, Var(layer.weight.value));
}

AddNorm plain_add_norm(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, const Var& factors) {
  const auto& [x, residual] = terms;
  if (norm.kind() == Norm::Kind::kRms) return add_rms_norm(tape, x, residual, factors, norm.eps());
  return add_layer_norm(tape, x, residual, factors, norm.bias_on(tape), norm.eps());
}

struct SumAndInput {
  Var sum;
  Fp8Input input;
};

SumAndInput add_norm(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, const Linear& reader) {
  const auto& [x, residual] = terms;
  const Var w = norm.factors_on(tape);
  const bool rms = norm.kind() == Norm::Kind::kRms;
  if (takes_norm(tape, reader, x)) {
    AddDeferredNorm both =
        rms ? add_deferred_rms_norm(tape, x, residual, w, norm.eps())
            : add_deferred_layer_norm(tape, x, residual, w, norm.bias_on(tape), norm.eps());
    return {std::move(both.sum), std::move(both.norm)};
  }
  AddNorm both = plain_add_norm(tape, terms, norm, w);
  return {std::move(both.sum), std::move(both.y)};
}

DeferredNorm defer(Tape& tape, Norm& norm, const Var& x) {
  const MemoryOwner owner(norm.path());
  if (norm.kind() == Norm::Kind::kRms) return deferred_rms_norm(tape, x, norm.factors_on(tape), norm.eps());
  return deferred_layer_norm(tape, x, norm.factors_on(tape), norm.bias_on(tape), norm.eps());
}

}  // namespace

Var call_pair(Tape& tape, Linear& first, Linear& second, const Var& x) {
  return apply_pair(tape, first, second, x);
}

Var add_norm(Tape& tape, const std::array<Var, 2>& terms, Norm& norm) {
  const MemoryOwner owner(norm.path());
  return plain_add_norm(tape, terms, norm, norm.factors_on(tape)).y;
}

Var norm_linear(Tape& tape, Norm& norm, Linear& layer, const Var& x) {
  if (norm.has_hooks() || !takes_norm(tape, layer, x)) return layer(tape, norm(tape, x));
  return apply(tape, layer, defer(tape, norm, x));
}

SumAndOutput add_norm_linear(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, Linear& layer) {
  auto [sum, input] = add_norm(tape, terms, norm, layer);
  Var y = apply(tape, layer, input);
  return {std::move(sum), std::move(y)};
}

SumAndOutput add_norm_pair(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, Linear& first,
                           Linear& second) {
  auto [sum, input] = add_norm(tape, terms, norm, first);
  Var y = apply_pair(tape, first, second, input);
  return {std::move(sum), std::move(y)};
}

Embedding::Embedding(int64_t rows, int64_t width, Init init)
    : weight(describe_parameter({rows, width}, init, Role::kEmbedding)) {
  register_parameter("weight", weight);
}

Var Embedding::forward(Tape& tape, const Var& tokens) {
  Var table = tape.leaf(weight);
  table.value = weight.value;  // padding is no token
  return embedding(tape, table, tokens.value);
}

Norm::Norm(Kind kind, int64_t width, double eps, bool has_bias, bool offset)
    : weight(describe_parameter({width}, Init::constant(offset ? 0 : 1), Role::kNorm)),
      bias(describe_parameter({width}, Init::constant(0), Role::kNorm)),
      kind_(kind),
      eps_(eps),
      has_bias_(has_bias && kind == Kind::kLayer),
      offset_(offset) {
  register_parameter("weight", weight);
  if (has_bias_) register_parameter("bias", bias);
}

Var Norm::factors_on(Tape& tape) {
  return offset_ ? add_scalar(tape, tape.leaf(weight), 1) : tape.leaf(weight);
}

Var Norm::forward(Tape& tape, const Var& x) {
  if (kind_ == Kind::kRms) return rms_norm(tape, x, factors_on(tape), eps_);
  return layer_norm(tape, x, factors_on(tape), bias_on(tape), eps_);
}

ImageSize window_output(ImageSize size, int64_t kernel, int64_t stride, int64_t padding) {
  return {(size.height + 2 * padding - kernel) / stride + 1,
          (size.width + 2 * padding - kernel) / stride + 1};
}

Conv::Conv(const ConvOptions& options)
    : weight(describe_parameter({options.outputs, options.inputs, options.kernel, options.kernel},
                                options.init, Role::kWeight)),
      bias(describe_parameter({options.outputs}, Init::constant(0), Role::kBias)),
      options_(options) {
  register_parameter("weight", weight);
  if (options_.bias) register_parameter("bias", bias);
}

int64_t Conv::multiply_adds(ImageSize& size) const {
  size = window_output(size, options_.kernel, options_.stride, options_.padding);
  return size.pixels() * weight.numel();
}

Var Conv::forward(Tape& tape, const Var& x) {
  Conv2dOptions options;
  options.stride = {options_.stride, options_.stride};
  options.padding = {options_.padding, options_.padding};
  return conv2d(tape, x, tape.leaf(weight), options_.bias ? tape.leaf(bias) : Var{}, options);
}

BatchNorm::BatchNorm(int64_t channels, double eps)
    : weight(describe_parameter({channels}, Init::constant(1), Role::kNorm)),
      bias(describe_parameter({channels}, Init::constant(0), Role::kNorm)),
      running_mean(describe_parameter({channels}, Init::constant(0), Role::kStatistic)),
      running_var(describe_parameter({channels}, Init::constant(1), Role::kStatistic)),
      eps_(eps) {
  register_parameter("weight", weight);
  register_parameter("bias", bias);
  register_parameter("running_mean", running_mean);
  register_parameter("running_var", running_var);
}

Var BatchNorm::apply(Tape& tape, const Var& x, const After& after) {
  return batch_norm(tape, x, tape.leaf(weight), tape.leaf(bias), tape.leaf(running_mean),
                    tape.leaf(running_var), {.eps = eps_, .relu = after.relu}, after.residual);
}

Var call(Tape& tape, Module& module, const Var& x, bool again) {
  if (!again) return module(tape, x);
  return recompute(tape, {&x, 1}, module.parameters(),
                   [&module](Tape& inner, std::span<const Var> inputs) { return module(inner, inputs[0]); });
}

DType compute_dtype(Module& module) {
  const std::vector<Parameter*> parameters = module.parameters();
  require(!parameters.empty() && parameters.front()->value.defined(),
          "module '{}': its parameters have no storage", module.path());
  return parameters.front()->value.dtype();
}

ParameterCount count_parameters(Module& module) {
  ParameterCount count;
  for (const Parameter* parameter : module.parameters()) {
    (parameter->role == Role::kStatistic ? count.statistics : count.trainable) += parameter->numel();
  }
  return count;
}

}  // namespace tutti
