#pragma once

#include <tutti/core/module.h>
#include <tutti/kernels/conv.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/norm.h>

#include <array>
#include <memory>

// Layers with parameters, the building blocks of models. Their weights have the shapes of PyTorch's layers of
// the same names.
namespace tutti {

struct LinearOptions {
  int64_t inputs = 0;
  int64_t outputs = 0;
  bool bias = true;
  Activation activation = Activation::kNone;
  Init init;
  Init bias_init;
  Role role = Role::kWeight;
  std::vector<int64_t> packed;  ///< rows of each of several projections in one: Parameter::packed
};

/// Larger widths and numbers of layers are refused as mistakes.
inline constexpr int64_t kMostWidth = int64_t{1} << 20;
inline constexpr int64_t kMostLayers = 10'000;

class Fp8State;

/// activation(x weight^T + bias): x (..., inputs) -> (..., outputs); weight (outputs, inputs).
class Linear final : public Module {
 public:
  explicit Linear(const LinearOptions& options);
  ~Linear() override;

  Parameter weight, bias;
  [[nodiscard]] bool has_bias() const noexcept { return has_bias_; }
  /// Multiplications (with an addition each) for one row of x.
  [[nodiscard]] int64_t multiply_adds() const noexcept { return weight.shape[0] * weight.shape[1]; }
  /// The activation of the layer.
  [[nodiscard]] Activation activation() const noexcept { return activation_; }
  /// The bias on a tape; undefined if there is none.
  [[nodiscard]] Var bias_on(Tape& tape) { return has_bias_ ? tape.leaf(bias) : Var{}; }
  /// Enables fp8 for its matrix products: models/fp8.h.
  void attach(std::unique_ptr<Fp8State> fp8);
  /// Null without fp8.
  [[nodiscard]] Fp8State* fp8() const noexcept { return fp8_.get(); }

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  bool has_bias_;
  Activation activation_;
  std::unique_ptr<Fp8State> fp8_;
};

/// second(first(x)): as one op (mlp() of kernels/mlp.h) if neither has hooks, which need the intermediate
/// result, and the second has no activation.
Var call_pair(Tape& tape, Linear& first, Linear& second, const Var& x);

/// Rows of a table: tokens (...) int32 or int64, a constant -> (..., width); weight (rows, width). Throws
/// Error for a token outside [0, rows).
class Embedding final : public Module {
 public:
  Embedding(int64_t rows, int64_t width, Init init);

  Parameter weight;

 protected:
  Var forward(Tape& tape, const Var& tokens) override;
};

/// Layer or RMS normalisation over the last dim. With `offset`, the factor is the weight plus 1.
class Norm final : public Module {
 public:
  enum class Kind : uint8_t { kLayer, kRms };
  Norm(Kind kind, int64_t width, double eps, bool has_bias, bool offset = false);

  Parameter weight, bias;
  [[nodiscard]] bool has_bias() const noexcept { return has_bias_; }
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] double eps() const noexcept { return eps_; }
  /// The factors and the bias (undefined if there is none) on a tape.
  [[nodiscard]] Var factors_on(Tape& tape);
  [[nodiscard]] Var bias_on(Tape& tape) { return has_bias_ ? tape.leaf(bias) : Var{}; }

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  Kind kind_;
  double eps_;
  bool has_bias_;
  bool offset_;
};

/// norm(x + residual), for terms x and residual: the sum and the norm are one pass over memory, without the
/// hooks of the norm.
Var add_norm(Tape& tape, const std::array<Var, 2>& terms, Norm& norm);
/// layer(norm(x)), if nothing else reads the norm: an fp8 layer may compute it.
Var norm_linear(Tape& tape, Norm& norm, Linear& layer, const Var& x);
/// Outputs of a block of a residual network; the sum is the next residual.
struct SumAndOutput {
  Var sum;  ///< x + residual
  Var y;
};
/// x + residual, and layer(norm(sum)) or second(first(norm(sum))). Sum and norm are one pass over memory,
/// without the hooks of the norm.
SumAndOutput add_norm_linear(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, Linear& layer);
SumAndOutput add_norm_pair(Tape& tape, const std::array<Var, 2>& terms, Norm& norm, Linear& first,
                           Linear& second);

/// Height and width of an image.
struct ImageSize {
  int64_t height = 0;
  int64_t width = 0;
  [[nodiscard]] int64_t pixels() const noexcept { return height * width; }
};

/// The size after a window of `kernel` moved by `stride` over an image with `padding` on all sides.
ImageSize window_output(ImageSize size, int64_t kernel, int64_t stride, int64_t padding);

struct ConvOptions {
  int64_t inputs = 0;
  int64_t outputs = 0;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 1;
  bool bias = false;
  Init init;
};

/// 2-D convolution of images (N, H, W, inputs) -> (N, H', W', outputs); weight (outputs, inputs, K, K).
class Conv final : public Module {
 public:
  explicit Conv(const ConvOptions& options);

  Parameter weight, bias;
  /// Multiplications for one image; sets `size` to that of the output.
  [[nodiscard]] int64_t multiply_adds(ImageSize& size) const;

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  ConvOptions options_;
};

/// Batch normalisation of images (N, H, W, channels), with running statistics of Role::kStatistic.
class BatchNorm final : public Module {
 public:
  explicit BatchNorm(int64_t channels, double eps = 1e-5);

  Parameter weight, bias, running_mean, running_var;

  struct After {
    bool relu = false;
    Var residual;  ///< added before ReLU; may be empty
  };
  /// Normalises, then adds and rectifies in the same pass. Runs no hooks.
  Var apply(Tape& tape, const Var& x, const After& after);

 protected:
  Var forward(Tape& tape, const Var& x) override { return apply(tape, x, {}); }

 private:
  double eps_;
};

/// Calls `module`; with `again`, the tape runs it again in backward instead of keeping its intermediate
/// tensors.
Var call(Tape& tape, Module& module, const Var& x, bool again);

/// The compute dtype of a module: that of its parameters' values, which must have storage.
DType compute_dtype(Module& module);

/// Number of elements of a module's parameters.
struct ParameterCount {
  int64_t trainable = 0;
  int64_t statistics = 0;  ///< running averages
};
ParameterCount count_parameters(Module& module);

}  // namespace tutti
