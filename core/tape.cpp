#include <tutti/core/memory/owner.h>
#include <tutti/core/tape.h>

namespace tutti {

NodeId Gradients::input(size_t i) const {
  const Tape::Node& node = tape_.nodes_[static_cast<size_t>(node_)];
  require(i < node.inputs.size(), "{}: backward requests the gradient of input {}, the op has {} inputs",
          node.op, i, node.inputs.size());
  return node.inputs[i];
}

bool Gradients::needs(size_t i) const {
  return input(i) != kConstant;
}

Gradients::Slot Gradients::slot(size_t i) const {
  return tape_.slot(input(i));
}

void Gradients::add(size_t i, Tensor gradient) const {
  const NodeId id = input(i);
  if (id != kConstant) tape_.add(id, std::move(gradient));
}

Tape::Tape(Stream stream, StepContext context, Mode mode)
    : stream_(std::move(stream)), context_(context), mode_(mode) {}

Var Tape::record(std::string_view op, Tensor output, std::span<const Var> inputs, Backward backward) {
  const NodeId node = record_without_output(op, output.shape(), output.dtype(), inputs, std::move(backward));
  return Var(std::move(output), node);
}

NodeId Tape::record_without_output(std::string_view op, const Shape& shape, DType dtype,
                                   std::span<const Var> inputs, Backward backward) {
  if (mode_ == Mode::kInference) return kConstant;
  bool needed = false;
  for (const Var& input : inputs) needed = needed || input.needs_grad();
  if (!needed) return kConstant;
  require(!ran_, "{}: recorded on a tape that has run backward", op);
  Node node{
      .op = op, .shape = shape, .dtype = dtype, .inputs = {}, .backward = std::move(backward), .grad = {}};
  node.inputs.reserve(inputs.size());
  for (const Var& input : inputs) {
    require(input.node < static_cast<NodeId>(nodes_.size()), "{}: an input comes from another tape", op);
    node.inputs.push_back(input.node);
    if (input.needs_grad()) ++nodes_[static_cast<size_t>(input.node)].uses;
  }
  nodes_.push_back(std::move(node));
  return static_cast<NodeId>(nodes_.size() - 1);
}

Var Tape::leaf(Parameter& parameter) {
  const Tensor& value = parameter.stored_value();
  require(value.defined(), "parameter '{}' has no storage yet", parameter.name);
  if (mode_ == Mode::kInference || !parameter.grad.defined()) return Var(value);
  const auto [found, fresh] = leaves_.try_emplace(&parameter, static_cast<NodeId>(nodes_.size()));
  if (fresh) {
    nodes_.push_back({.op = "parameter",
                      .shape = parameter.padded_shape(),
                      .dtype = parameter.grad.dtype(),
                      .inputs = {},
                      .backward = {},
                      .grad = {},
                      .parameter = &parameter});
  }
  return Var(value, found->second);
}

Var Tape::variable(Tensor value) {
  if (mode_ == Mode::kInference) return Var(std::move(value));
  nodes_.push_back({.op = "variable",
                    .shape = value.shape(),
                    .dtype = value.dtype(),
                    .inputs = {},
                    .backward = {},
                    .grad = {},
                    .keep_grad = true});
  return Var(std::move(value), static_cast<NodeId>(nodes_.size() - 1));
}

Var Tape::on_backward(const Var& x, std::function<void()> action) {
  return record("on_backward", x.value, {x},
                [action = std::move(action)](const Tensor& dy, const Gradients& inputs) {
                  action();
                  inputs.add(0, dy);
                });
}

Gradients::Slot Tape::slot(NodeId id) {
  require(id != kConstant, "backward: the gradient of a constant input is not needed; call needs() first");
  Node& node = nodes_[static_cast<size_t>(id)];
  if (node.parameter != nullptr) {
    Parameter& p = *node.parameter;
    return {p.stored_grad(),
            std::exchange(p.grad_defined, true) ? GradMode::kAccumulate : GradMode::kOverwrite};
  }
  if (!node.grad.defined()) {
    node.grad = Tensor::empty(node.shape, node.dtype, stream_);
    return {node.grad, GradMode::kOverwrite};
  }
  // Another node may share the storage (an addition passes one tensor to both inputs): write to a copy.
  if (!node.grad.unique()) node.grad = node.grad.clone(stream_);
  return {node.grad, GradMode::kAccumulate};
}

void Tape::add(NodeId id, Tensor gradient) {
  Node& node = nodes_[static_cast<size_t>(id)];
  require(gradient.shape() == node.shape,
          "backward: a gradient of shape {} reached the output of '{}' of shape {}",
          to_string(gradient.shape()), node.op, to_string(node.shape));
  if (node.parameter == nullptr && !node.grad.defined()) {
    node.grad = gradient.to(node.dtype, stream_).to_contiguous(stream_);
    return;
  }
  const auto [destination, mode] = slot(id);
  if (mode == GradMode::kOverwrite)
    copy(destination, gradient, stream_);
  else
    add_in_place(destination, gradient, stream_);
}

void Tape::finish_parameter(Node& node) {
  Parameter& p = *node.parameter;
  if (!std::exchange(p.grad_defined, true)) fill(p.stored_grad(), 0, stream_);
  if (grad_ready_) grad_ready_(p);
}

void Tape::backward(const Var& loss, double seed) {
  require(loss.value.defined(), "backward: the loss is undefined");
  backward(loss, Tensor::full(loss.shape(), seed, loss.dtype(), stream_));
}

void Tape::backward(const Var& output, Tensor gradient) {
  require(output.needs_grad(), "backward: no parameter or variable leads to the output");
  require(!std::exchange(ran_, true), "backward: a tape runs once");
  add(output.node, std::move(gradient));
  for (auto id = static_cast<NodeId>(nodes_.size()) - 1; id >= 0; --id) {
    Node& node = nodes_[static_cast<size_t>(id)];
    if (node.parameter != nullptr) {
      if (node.uses == 0) finish_parameter(node);
      continue;
    }
    if (node.keep_grad) continue;
    if (node.grad.defined()) {
      const Tensor dy = std::exchange(node.grad, Tensor());
      const Backward run = std::exchange(node.backward, nullptr);
      const MemoryOwner owner(node.op);
      run(dy, Gradients(*this, id));
    } else {
      node.backward = nullptr;
    }
    for (const NodeId input : node.inputs) {
      if (input == kConstant) continue;
      Node& producer = nodes_[static_cast<size_t>(input)];
      // The last use in reverse order completes a parameter, long before the loop reaches its node.
      if (--producer.uses == 0 && producer.parameter != nullptr) {
        finish_parameter(producer);
        producer.uses = -1;
      }
    }
  }
}

Tensor Tape::gradient(const Var& variable) const {
  require(variable.needs_grad() && nodes_[static_cast<size_t>(variable.node)].keep_grad,
          "gradient: only gradients of variables are kept");
  return nodes_[static_cast<size_t>(variable.node)].grad;
}

Var recompute(Tape& tape, std::span<const Var> inputs, std::span<Parameter* const> parameters,
              std::function<Var(Tape&, std::span<const Var>)> body) {
  if (!tape.recording()) return body(tape, inputs);
  Tape forward(tape.stream(), tape.context(), Tape::Mode::kInference);
  std::vector<Var> constants;
  std::vector<Var> all(inputs.begin(), inputs.end());
  std::vector<Tensor> saved;
  for (const Var& input : inputs) {
    constants.emplace_back(input.value);
    saved.push_back(input.value);
  }
  for (Parameter* parameter : parameters) all.push_back(tape.leaf(*parameter));
  Tensor output = body(forward, constants).value;
  return tape.record("recompute", std::move(output), all,
                     [stream = tape.stream(), context = tape.context(), saved = std::move(saved),
                      body = std::move(body)](const Tensor& dy, const Gradients& gradients) {
                       // The nested tape adds to the gradients of the parameters; the outer tape counts this
                       // node as their use.
                       Tape nested(stream, context);
                       std::vector<Var> again;
                       again.reserve(saved.size());
                       for (size_t i = 0; i < saved.size(); ++i) {
                         again.push_back(gradients.needs(i) ? nested.variable(saved[i]) : Var(saved[i]));
                       }
                       const Var y = body(nested, again);
                       if (!y.needs_grad()) return;
                       nested.backward(y, dy);
                       for (size_t i = 0; i < saved.size(); ++i) {
                         if (!gradients.needs(i)) continue;
                         if (Tensor g = nested.gradient(again[i]); g.defined())
                           gradients.add(i, std::move(g));
                       }
                     });
}

}  // namespace tutti
