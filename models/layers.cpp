#include <tutti/models/layers.h>

#include <tutti/core/memory/owner.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>

namespace tutti {
namespace {

Parameter describe_parameter(Shape shape, Init init, Role role) {
  Parameter parameter;
  parameter.shape = std::move(shape);
  parameter.init = init;
  parameter.role = role;
  return parameter;
}

/// Zero says that nothing is known.
Parameter describe_range() {
  Parameter range = describe_parameter({1}, Init::constant(0), Role::kStatistic);
  range.keeps_latest = true;
  return range;
}

}  // namespace

Fp8RangeParameters::Fp8RangeParameters()
    : input(describe_range()), weight(describe_range()), gradient(describe_range()) {}

Fp8Ranges Fp8RangeParameters::on(Tape& tape) {
  return {.x = tape.leaf(input), .w = tape.leaf(weight), .dy = tape.leaf(gradient)};
}

Linear::Linear(const LinearOptions& options)
    : weight(describe_parameter({options.outputs, options.inputs}, options.init, options.role)),
      bias(describe_parameter({options.outputs}, options.bias_init, Role::kBias)),
      has_bias_(options.bias),
      activation_(options.activation) {
  weight.packed = options.packed;
  register_parameter("weight", weight);
  if (has_bias_) register_parameter("bias", bias);
  if (!options.fp8) return;
  ranges_.emplace();
  register_parameter("input_range", ranges_->input);
  register_parameter("weight_range", ranges_->weight);
  register_parameter("gradient_range", ranges_->gradient);
}

bool Linear::fuses(const Tape& tape, const Var& x) const {
  if (!ranges_ || has_hooks() || x.value.dims() == 0 || x.value.size(-1) == 0) return false;
  return Fp8Pass::fuses(tape, {x.value.numel() / x.value.size(-1), weight.shape[1], weight.shape[0]});
}

Var Linear::apply(Tape& tape, const LinearInput& x) {
  return linear(tape, x, tape.leaf(weight), bias_leaf(tape), activation_, ranges(tape));
}

Var call(Tape& tape, Linear& layer, const LinearInput& x) {
  if (!x.source) return layer(tape, x.x);
  const MemoryOwner owner(layer.path());
  return layer.apply(tape, x);
}

Var call_pair(Tape& tape, Linear& first, Linear& second, const LinearInput& x) {
  if (first.has_hooks() || second.has_hooks() || second.activation_ != Activation::kNone)
    return second(tape, call(tape, first, x));
  const MemoryOwner owner(first.path());
  return mlp(tape, x, tape.leaf(first.weight), first.bias_leaf(tape), tape.leaf(second.weight),
             second.bias_leaf(tape), first.activation_,
             {.up = first.ranges(tape), .down = second.ranges(tape)});
}

Embedding::Embedding(int64_t rows, int64_t width, Init init)
    : weight(describe_parameter({rows, width}, init, Role::kEmbedding)) {
  register_parameter("weight", weight);
}

Var Embedding::forward(Tape& tape, const Var& tokens) {
  return embedding(tape, tape.leaf(weight), tokens.value);
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

Var Norm::factors(Tape& tape) {
  return offset_ ? add_scalar(tape, tape.leaf(weight), 1) : tape.leaf(weight);
}

Var Norm::apply(Tape& tape, const Var& x, OperandSource* left) {
  if (kind_ == Kind::kRms) return rms_norm(tape, x, factors(tape), eps_, left);
  return layer_norm(tape, x, factors(tape), has_bias_ ? tape.leaf(bias) : Var{}, eps_, left);
}

LinearInput Norm::input_of(Tape& tape, const Linear& reader, const Var& x) {
  if (has_hooks() || !reader.fuses(tape, x)) return (*this)(tape, x);
  const MemoryOwner owner(path());
  OperandSource left;
  Var y = apply(tape, x, &left);
  return {std::move(y), std::move(left)};
}

Norm::SumAndInput Norm::input_of_sum(Tape& tape, const Linear& reader, const Var& x, const Var& residual) {
  const bool leaves = reader.fuses(tape, x);
  OperandSource left;
  OperandSource* const to = leaves ? &left : nullptr;
  AddNorm both = kind_ == Kind::kRms ? add_rms_norm(tape, x, residual, factors(tape), eps_, to)
                                     : add_layer_norm(tape, x, residual, factors(tape),
                                                      has_bias_ ? tape.leaf(bias) : Var{}, eps_, to);
  LinearInput input(std::move(both.y));
  if (leaves) input.source = std::move(left);
  return {std::move(both.sum), std::move(input)};
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
          "module '{}': its parameters have no storage yet", module.path());
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
