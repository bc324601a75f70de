#include "launcher/bench/kernel_cases.h"

#include "launcher/bench/bench_device.h"

#include <tutti/core/param_group.h>
#include <tutti/kernels/activation.h>
#include <tutti/kernels/attention.h>
#include <tutti/kernels/conv.h>
#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/norm.h>
#include <tutti/kernels/optimizer.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/pool.h>
#include <tutti/kernels/rotary.h>
#include "kernels/linear_parts.h"

#include <array>
#include <utility>

namespace tutti {
namespace {

double d(int64_t n) {
  return static_cast<double>(n);
}

/// Collects cases over tensors of one dtype.
class Cases {
 public:
  Cases(const KernelSizes& sizes, DType dtype) : s_(sizes), dtype_(dtype), e_(d(size_of(dtype))) {}

  std::vector<KernelCase> take() { return std::move(cases_); }

  void memory_bound() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    const double one = d(r * c) * e_;
    unary("copy", {r, c}, {.bytes = 2 * one}, {},
          [](Tape& tape, const Var& x) { return Var(x.value.clone(tape.stream())); });
    add("add", rows(r, c), {.bytes = 3 * one}, {}, [=, dtype = dtype_](const Stream& stream) {
      const Var a(random_values({r, c}, dtype, 1, stream));
      const Var b(random_values({r, c}, dtype, 2, stream));
      return KernelWork{[=](Tape& tape) { return tutti::add(tape, a, b); }, {}};
    });
    unary("gelu", {r, 4 * c}, {.bytes = 8 * one}, {.bytes = 12 * one},
          [](Tape& tape, const Var& x) { return gelu(tape, x, GeluForm::kTanh); });
    unary("swiglu", {r, 8 * c}, {.bytes = 12 * one}, {.bytes = 20 * one},
          [](Tape& tape, const Var& x) { return swiglu(tape, x); });
    unary("dropout", {r, c}, {.bytes = 2 * one}, {.bytes = 2 * one},
          [](Tape& tape, const Var& x) { return dropout(tape, x, 0.1, 1); });
    norms();
    if (dtype_ == DType::kBFloat16) {
      to_fp8();
      norm_to_fp8();
    }
    const int64_t heads = s_.heads;
    unary("rotary", {r / s_.context, s_.context, 3 * c}, {.bytes = 6 * one}, {.bytes = 6 * one},
          [heads](Tape& tape, const Var& x) { return rotary(tape, x, {.heads = heads, .kv_heads = heads}); });
    lookups();
    images();
  }

  void compute_bound() {
    const int64_t c = s_.width;
    linear_layer("linear, qkv", c, 3 * c, Activation::kNone);
    linear_layer("linear, projection", c, c, Activation::kNone);
    linear_layer("linear + gelu", c, 4 * c, Activation::kGeluTanh);
    linear_layer("linear, down", 4 * c, c, Activation::kNone);
    feed_forward(false);
    if (dtype_ == DType::kBFloat16) feed_forward(true);
    head();
    attention_layer();
    convolution("conv 3x3", 64, 64, 56, 3, 1);
    convolution("conv 1x1", 256, 64, 56, 1, 1);
    convolution("conv 3x3, stride 2", 128, 128, 56, 3, 2);
  }

  void optimizers() {
    for (const char* algorithm : {"adamw", "sgd"}) {
      const bool adam = std::string_view(algorithm) == "adamw";
      const int64_t n = 12 * s_.width * s_.width * 4;
      // Gradient and state read, state and master written; weights of another dtype written too.
      const double states = adam ? 2 : 1;
      const double weight = dtype_ == DType::kBFloat16 ? 2 : 0;
      add(algorithm, fmt::format("{}", n), {.bytes = d(n) * (4 + 8 + 8 * states + weight)}, {},
          [=, dtype = dtype_](const Stream& stream) {
            return optimizer_work(algorithm, n, dtype, stream, Part::kStep);
          });
    }
    const int64_t n = 12 * s_.width * s_.width * 4;
    add("gradient norm", fmt::format("{}", n), {.bytes = 4 * d(n)}, {},
        [=, dtype = dtype_](const Stream& stream) {
          return optimizer_work("adamw", n, dtype, stream, Part::kNorm);
        });
  }

 private:
  static std::string rows(int64_t r, int64_t c) { return fmt::format("{} x {}", r, c); }
  static std::string text(const Shape& shape) {
    std::string t;
    for (const int64_t n : shape) t += t.empty() ? fmt::format("{}", n) : fmt::format(" x {}", n);
    return t;
  }

  void add(std::string name, std::string shape, Cost forward, Cost backward,
           std::function<KernelWork(const Stream&)> prepare) {
    cases_.push_back({std::move(name), std::move(shape), forward, backward, std::move(prepare)});
  }

  /// An operation with one input; the gradient of its output is as large as the output of `f`.
  void unary(const char* name, const Shape& shape, Cost forward, Cost backward,
             std::function<Var(Tape&, const Var&)> f) {
    const bool with_backward = backward.bytes > 0 || backward.flops > 0;
    add(name, text(shape), forward, backward, [=, dtype = dtype_](const Stream& stream) {
      const Tensor x = random_values(shape, dtype, 1, stream);
      KernelWork work{[=](Tape& tape) { return f(tape, tape.variable(x)); }, {}};
      if (with_backward) work.output_gradient = gradient_like(work, stream);
      return work;
    });
  }

  static Tensor gradient_like(const KernelWork& work, const Stream& stream) {
    Tape probe(stream, StepContext{}, Tape::Mode::kInference);
    const Tensor y = work.forward(probe).value;
    return random_values(y.shape(), y.dtype(), 99, stream);
  }

  void norms() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    const double one = d(r * c) * e_;
    const auto norm = [&](const char* name, Cost forward, auto f) {
      add(name, rows(r, c), forward, {.bytes = 3 * one}, [=, dtype = dtype_](const Stream& stream) {
        const Tensor x = random_values({r, c}, dtype, 1, stream);
        const Tensor residual = random_values({r, c}, dtype, 2, stream);
        const Tensor w = Tensor::full({c}, 1, dtype, stream);
        KernelWork work{
            [=](Tape& tape) { return f(tape, tape.variable(x), tape.variable(residual), tape.variable(w)); },
            {}};
        work.output_gradient = random_values({r, c}, dtype, 3, stream);
        return work;
      });
    };
    norm("layer_norm", {.bytes = 2 * one},
         [](Tape& tape, const Var& x, const Var&, const Var& w) { return layer_norm(tape, x, w, Var{}); });
    norm("rms_norm", {.bytes = 2 * one},
         [](Tape& tape, const Var& x, const Var&, const Var& w) { return rms_norm(tape, x, w); });
    norm("residual + layer_norm", {.bytes = 4 * one},
         [](Tape& tape, const Var& x, const Var& residual, const Var& w) {
           return add_layer_norm(tape, x, residual, w, Var{}).y;
         });
  }

  void lookups() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    const int64_t v = s_.vocabulary;
    add("embedding", fmt::format("{} of {} x {}", r, v, c), {.bytes = 2 * d(r * c) * e_ + 4 * d(r)},
        {.bytes = d(r * c) * e_ + d(v * c) * e_ + 4 * d(r)}, [=, dtype = dtype_](const Stream& stream) {
          const Tensor table = random_values({v, c}, dtype, 1, stream);
          const Tensor tokens = random_indices({r}, v, 2, stream);
          return KernelWork{[=](Tape& tape) { return embedding(tape, tape.variable(table), tokens); },
                            random_values({r, c}, dtype, 3, stream)};
        });
    const int64_t part = std::min<int64_t>(r, 32768);  // all logits of a large batch are tens of GiB
    add("cross_entropy", rows(part, v), {.bytes = d(part * v) * e_}, {.bytes = 2 * d(part * v) * e_},
        [=, dtype = dtype_](const Stream& stream) {
          const Tensor logits = random_values({part, v}, dtype, 1, stream);
          const Tensor targets = random_indices({part}, v, 2, stream);
          return KernelWork{[=](Tape& tape) { return cross_entropy(tape, tape.variable(logits), targets); },
                            Tensor::full({}, 1, DType::kFloat32, stream)};
        });
  }

  void images() {
    const int64_t n = s_.images;
    const int64_t side = 56;
    const int64_t c = 256;
    const double one = d(n * side * side * c) * e_;
    const Shape shape{n, side, side, c};
    // The mean must be known before it is taken off: x and dy are read twice.
    add("batch_norm + residual + relu", text(shape), {.bytes = 4 * one}, {.bytes = 6 * one},
        [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values(shape, dtype, 1, stream);
          const Tensor residual = random_values(shape, dtype, 2, stream);
          const Tensor w = Tensor::full({c}, 1, dtype, stream);
          const Tensor b = Tensor::zeros({c}, dtype, stream);
          KernelWork work{[=](Tape& tape) {
                            return batch_norm(tape, tape.variable(x), tape.variable(w), tape.variable(b),
                                              Var(b), Var(w), {.relu = true}, tape.variable(residual));
                          },
                          {}};
          work.output_gradient = random_values(shape, dtype, 3, stream);
          return work;
        });
    const double in = d(n * 112 * 112 * 64) * e_;
    unary("max_pool 3x3, stride 2", {n, 112, 112, 64}, {.bytes = 1.25 * in}, {.bytes = 1.25 * in},
          [](Tape& tape, const Var& x) {
            return max_pool2d(tape, x, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}});
          });
  }

  void linear_layer(const char* name, int64_t inputs, int64_t outputs, Activation activation) {
    const int64_t r = s_.tokens;
    const double flops = 2 * d(r) * d(inputs) * d(outputs);
    const double bytes = (d(r * inputs) + d(r * outputs) + d(inputs * outputs)) * e_;
    add(name, fmt::format("{} x {} -> {}", r, inputs, outputs), {bytes, flops}, {2 * bytes, 2 * flops},
        [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values({r, inputs}, dtype, 1, stream);
          const Tensor w = random_values({outputs, inputs}, dtype, 2, stream);
          const Tensor b = Tensor::zeros({outputs}, dtype, stream);
          return KernelWork{[=](Tape& tape) {
                              return linear(tape, tape.variable(x), tape.variable(w), tape.variable(b),
                                            activation);
                            },
                            random_values({r, outputs}, dtype, 3, stream)};
        });
  }

  /// An operand of fp8 products; on CUDA its transpose is written too.
  void to_fp8() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    add("fp8 operand", rows(r, c), {.bytes = 4 * d(r * c)}, {}, [=](const Stream& stream) {
      const Tensor x = random_values({r, c}, DType::kBFloat16, 1, stream);
      const Fp8Ranges ranges = fp8_ranges(stream);
      return KernelWork{[=](Tape& tape) {
                          const Fp8Pass pass(tape, ranges, DType::kBFloat16, {r, c, c});
                          return Var(pass.operand(Fp8Pass::kX, x, tape.stream()).any());
                        },
                        {}};
    });
  }

  /// A deferred norm: its moments, and then the operand of the layer that reads it. CPUs write it between.
  void norm_to_fp8() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    add("residual + layer_norm, fp8 operand", rows(r, c), {.bytes = 10 * d(r * c)}, {},
        [=](const Stream& stream) {
          const Tensor x = random_values({r, c}, DType::kBFloat16, 1, stream);
          const Tensor residual = random_values({r, c}, DType::kBFloat16, 2, stream);
          const Tensor w = Tensor::full({c}, 1, DType::kBFloat16, stream);
          const Fp8Ranges ranges = fp8_ranges(stream);
          return KernelWork{
              [=](Tape& tape) {
                const std::array<int64_t, 3> extents{r, c, c};
                const Fp8Pass pass(tape, ranges, DType::kBFloat16, extents);
                const Var term(x), other(residual), factors(w);
                const OperandSource source =
                    Fp8Pass::fuses(tape, extents)
                        ? add_deferred_layer_norm(tape, term, other, factors, Var{}).norm.parts().input.source
                        : add_layer_norm(tape, term, other, factors, Var{}).y.value;
                return Var(pass.operand(Fp8Pass::kX, source, tape.stream()).any());
              },
              {}};
        });
  }

  static Fp8Ranges fp8_ranges(const Stream& stream) {
    const Var range(Tensor::full({1}, 1, DType::kBFloat16, stream));
    return {.x = range, .w = range, .dy = range};
  }

  /// GPT-2's feed-forward layer as one op; its parts stand above.
  void feed_forward(bool fp8) {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    const int64_t h = 4 * c;
    const double flops = 4 * d(r) * d(c) * d(h);
    const double bytes = 2 * (d(r * c) + d(r * h) + d(c * h)) * e_;
    add(fp8 ? "mlp, gelu, fp8" : "mlp, gelu", fmt::format("{} x {} -> {} -> {}", r, c, h, c), {bytes, flops},
        {2 * bytes, 2 * flops}, [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values({r, c}, dtype, 1, stream);
          const Tensor w1 = random_values({h, c}, dtype, 2, stream);
          const Tensor b1 = Tensor::zeros({h}, dtype, stream);
          const Tensor w2 = random_values({c, h}, dtype, 3, stream);
          const Tensor b2 = Tensor::zeros({c}, dtype, stream);
          const Fp8Ranges ranges = fp8 ? fp8_ranges(stream) : Fp8Ranges{};
          return KernelWork{[=](Tape& tape) {
                              const Var in = tape.variable(x);
                              const Var up = tape.variable(w1), up_bias = tape.variable(b1);
                              const Var down = tape.variable(w2), down_bias = tape.variable(b2);
                              constexpr auto kGelu = Activation::kGeluTanh;
                              if (!fp8) return mlp(tape, in, up, up_bias, down, down_bias, kGelu);
                              return fp8_mlp(tape, in, up, up_bias, down, down_bias, kGelu,
                                             {.up = ranges, .down = ranges});
                            },
                            random_values({r, c}, dtype, 4, stream)};
        });
  }

  void head() {
    const int64_t r = std::min<int64_t>(s_.tokens, 32768);
    const int64_t c = s_.width;
    const int64_t v = s_.vocabulary;
    const double flops = 2 * d(r) * d(c) * d(v);
    const double bytes = (d(r * c) + d(r * v) + d(c * v)) * e_;
    add("linear, head", fmt::format("{} x {} -> {}", r, c, v), {bytes, flops}, {2 * bytes, 2 * flops},
        [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values({r, c}, dtype, 1, stream);
          const Tensor w = random_values({v, c}, dtype, 2, stream);
          return KernelWork{
              [=](Tape& tape) { return linear(tape, tape.variable(x), tape.variable(w), Var{}); },
              random_values({r, v}, dtype, 3, stream)};
        });
  }

  void attention_layer() {
    const int64_t b = s_.tokens / s_.context;
    const int64_t t = s_.context;
    const int64_t c = s_.width;
    const int64_t heads = s_.heads;
    // Two products of the half that the mask leaves; backward makes five.
    const double flops = 2 * d(b) * d(t) * d(t + 1) * d(c);
    const double one = d(b * t * c) * e_;
    add("attention, causal", fmt::format("{} x {} x {}, {} heads", b, t, c, heads), {4 * one, flops},
        {8 * one, 2.5 * flops}, [=, dtype = dtype_](const Stream& stream) {
          const Tensor qkv = random_values({b, t, 3 * c}, dtype, 1, stream);
          return KernelWork{[=](Tape& tape) {
                              return attention(tape, tape.variable(qkv), {.heads = heads, .kv_heads = heads});
                            },
                            random_values({b, t, c}, dtype, 2, stream)};
        });
  }

  void convolution(const char* name, int64_t inputs, int64_t outputs, int64_t side, int64_t kernel,
                   int64_t stride) {
    const int64_t n = s_.images;
    const int64_t out_side = (side - 1) / stride + 1;
    const double flops = 2 * d(n * out_side * out_side * outputs) * d(inputs * kernel * kernel);
    const double bytes = (d(n * side * side * inputs) + d(n * out_side * out_side * outputs) +
                          d(outputs * inputs * kernel * kernel)) *
                         e_;
    add(name, fmt::format("{} x {} x {} x {} -> {}", n, side, side, inputs, outputs), {bytes, flops},
        {2 * bytes, 2 * flops}, [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values({n, side, side, inputs}, dtype, 1, stream);
          const Tensor w = random_values({outputs, inputs, kernel, kernel}, dtype, 2, stream);
          const Conv2dOptions options{.stride = {stride, stride}, .padding = {kernel / 2, kernel / 2}};
          return KernelWork{
              [=](Tape& tape) { return conv2d(tape, tape.variable(x), tape.variable(w), Var{}, options); },
              random_values({n, out_side, out_side, outputs}, dtype, 3, stream)};
        });
  }

  /// Parameters of `n` elements in all, in four matrices, and one step or norm of their optimizer.
  enum class Part : uint8_t { kStep, kNorm };
  static KernelWork optimizer_work(const std::string& algorithm, int64_t n, DType dtype, const Stream& stream,
                                   Part part) {
    struct Held {
      std::vector<Parameter> parameters;
      std::vector<std::unique_ptr<ParamGroup>> groups;
      std::unique_ptr<Optimizer> optimizer;
    };
    const auto held = std::make_shared<Held>();
    std::vector<Parameter*> pointers;
    held->parameters.resize(4);
    for (Parameter& p : held->parameters) {
      p = {.name = fmt::format("matrix{}", pointers.size()), .shape = {n / 4}, .init = Init::normal(1)};
      pointers.push_back(&p);
    }
    held->groups.push_back(std::make_unique<ParamGroup>("all", pointers, Precision{.compute = dtype},
                                                        Placement{}, ShardOf{}, 1, stream));
    OptimizerConfig config;
    config.algorithm = algorithm;
    held->optimizer = std::make_unique<Optimizer>(config, held->groups, stream);
    return {[=](Tape&) {
              if (part == Part::kNorm)
                (void)held->optimizer->grad_norm();
              else
                held->optimizer->step(1e-3, 1, 1);
              return Var{};
            },
            {}};
  }

  KernelSizes s_;
  DType dtype_;
  double e_;
  std::vector<KernelCase> cases_;
};

}  // namespace

std::vector<KernelCase> kernel_cases(const KernelSizes& sizes, DType dtype) {
  require(dtype == DType::kFloat32 || dtype == DType::kBFloat16,
          "bench kernels: dtype is {}, expected fp32 or bf16", name(dtype));
  require(
      sizes.context >= 1 && sizes.tokens % sizes.context == 0 && sizes.width % (2 * sizes.heads) == 0,
      "bench kernels: {} tokens must be a multiple of the context {}, the width {} an even multiple of the "
      "{} heads",
      sizes.tokens, sizes.context, sizes.width, sizes.heads);
  Cases cases(sizes, dtype);
  cases.memory_bound();
  cases.compute_bound();
  cases.optimizers();
  return cases.take();
}

}  // namespace tutti
