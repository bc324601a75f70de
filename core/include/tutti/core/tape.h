#pragma once

#include <tutti/core/parameter.h>
#include <tutti/core/tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tutti {

using NodeId = int32_t;
inline constexpr NodeId kConstant = -1;

/// A tensor and its node on a tape; kConstant if it has no gradient.
struct Var {
  Tensor value;
  NodeId node = kConstant;

  Var() = default;
  /// A constant.
  explicit Var(Tensor tensor, NodeId id = kConstant) : value(std::move(tensor)), node(id) {}
  [[nodiscard]] bool needs_grad() const noexcept { return node != kConstant; }
  [[nodiscard]] const Shape& shape() const noexcept { return value.shape(); }
  [[nodiscard]] DType dtype() const noexcept { return value.dtype(); }
};

/// How a backward function writes to the destination of a gradient.
enum class GradMode : uint8_t {
  kOverwrite,   ///< the destination is uninitialised
  kAccumulate,  ///< the destination contains a sum to add to
};

class Tape;

/// The gradients of one node's inputs, for its backward function.
class Gradients {
 public:
  struct Slot {
    Tensor
        tensor;  ///< shape of the input; for a parameter the group's gradient dtype, else the input's dtype
    GradMode mode;
  };

  /// Whether the gradient of input `i` is needed.
  [[nodiscard]] bool needs(size_t i) const;
  /// The destination to write (or add) the gradient of input `i` to directly; it counts as written.
  [[nodiscard]] Slot slot(size_t i) const;
  /// Adds a gradient of the input's shape in any floating dtype. The first one is kept without a copy if that
  /// is safe, later ones are added.
  void add(size_t i, Tensor gradient) const;

 private:
  friend class Tape;
  Gradients(Tape& tape, NodeId node) : tape_(tape), node_(node) {}
  [[nodiscard]] NodeId input(size_t i) const;
  Tape& tape_;
  NodeId node_;
};

/// Receives the gradient of the node's output (contiguous, the output's dtype) and passes gradients of the
/// inputs to `Gradients`.
using Backward = std::function<void(const Tensor& output_gradient, const Gradients& inputs)>;

/// Parameters of a forward pass besides its inputs; the same for every op of a microbatch.
struct StepContext {
  bool training = true;
  uint64_t seed = 0;
  uint64_t step = 0;
  /// Position of the microbatch's first sample in the global batch, and its number of samples: keys of
  /// dropout.
  int64_t first_sample = 0;
  int64_t samples = 1;
  /// This microbatch's part of the global batch, in (0, 1]: weight of batch statistics.
  double batch_share = 1;
};

/// The eager flat tape: nodes in a vector in order of creation, one tape per microbatch, passed explicitly.
class Tape {
 public:
  enum class Mode : uint8_t { kRecord, kInference };

  explicit Tape(Stream stream, StepContext context = {}, Mode mode = Mode::kRecord);
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  [[nodiscard]] const Stream& stream() const noexcept { return stream_; }
  [[nodiscard]] const StepContext& context() const noexcept { return context_; }
  [[nodiscard]] bool recording() const noexcept { return mode_ == Mode::kRecord; }

  /// Records an op on the tape. `backward` runs at most once, when the gradient of `output` is complete; its
  /// captures are freed after that. If no input needs a gradient, the output is a constant.
  Var record(std::string_view op, Tensor output, std::span<const Var> inputs, Backward backward);
  Var record(std::string_view op, Tensor output, std::initializer_list<Var> inputs, Backward backward) {
    return record(op, std::move(output), std::span(inputs.begin(), inputs.size()), std::move(backward));
  }

  /// A node of an op whose output is never in memory, because the op that reads it is fused with it:
  /// kConstant if record() would return a constant.
  NodeId record_without_output(std::string_view op, const Shape& shape, DType dtype,
                               std::span<const Var> inputs, Backward backward);

  /// A parameter's value as a leaf, with its rows of padding; one node per parameter, for any number of uses.
  /// Its gradient is written to parameter.grad, zeros to the rows of padding: an op that reads them must give
  /// them a gradient of zero.
  Var leaf(Parameter& parameter);
  /// A tensor whose gradient can be read with gradient() after backward.
  Var variable(Tensor value);

  /// Identity that calls `action` in backward, when the gradient of `x` is complete and before the backward
  /// of `x`'s producer.
  Var on_backward(const Var& x, std::function<void()> action);

  /// Called once for each parameter on the tape, as soon as its gradient is complete. The order depends only
  /// on the program and is the same on every rank.
  void on_grad_ready(std::function<void(Parameter&)> action) { grad_ready_ = std::move(action); }

  /// Runs the tape backwards from `loss` with the gradient `seed` (one number for all elements of loss). A
  /// tape runs once. Gradients of parameters on the tape that are not reached become zero unless they contain
  /// a sum. Throws Error if loss is a constant.
  void backward(const Var& loss, double seed = 1);
  /// The same from a given gradient of `output`.
  void backward(const Var& output, Tensor gradient);

  /// The gradient of a variable(); undefined if none reached it.
  [[nodiscard]] Tensor gradient(const Var& variable) const;

  [[nodiscard]] size_t size() const noexcept { return nodes_.size(); }

 private:
  friend class Gradients;
  struct Node {
    std::string_view op;
    Shape shape;
    DType dtype;
    std::vector<NodeId> inputs;  // kConstant if no gradient is needed
    Backward backward;
    Tensor grad;
    Parameter* parameter = nullptr;
    int32_t uses = 0;
    bool keep_grad = false;
  };
  Gradients::Slot slot(NodeId id);
  void add(NodeId id, Tensor gradient);
  void finish_parameter(Node& node);

  Stream stream_;
  StepContext context_;
  Mode mode_;
  bool ran_ = false;
  std::vector<Node> nodes_;
  std::unordered_map<const Parameter*, NodeId> leaves_;
  std::function<void(Parameter&)> grad_ready_;
};

/// Runs `body` without keeping its intermediate tensors and runs it again in backward, which uses less memory
/// and more time. `body` must be a pure function of its inputs and of `parameters`, which must be all that it
/// uses; dropout is reproduced. Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
Var recompute(Tape& tape, std::span<const Var> inputs, std::span<Parameter* const> parameters,
              std::function<Var(Tape&, std::span<const Var>)> body);

}  // namespace tutti
