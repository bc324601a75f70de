#include "launcher/bench/kernel_cases.h"

#include "launcher/bench/bench_device.h"

#include <tutti/core/param_group.h>
#include <tutti/kernels/fp8.h>
#include <tutti/kernels/optimizer.h>
#include "kernels/linear_parts.h"

#include <array>
#include <utility>

namespace tutti {
namespace {

double d(int64_t n) {
  return static_cast<double>(n);
}

/// The speed of kernels does not depend on values, except on indices.
Tensor drawn(const cases::Input& input, DType dtype, uint64_t seed, const Stream& stream) {
  if (input.draw == cases::Input::Draw::kIntegers)
    return random_indices(input.shape, static_cast<int64_t>(input.high) + 1, seed, stream);
  if (input.draw == cases::Input::Draw::kUniform)
    return Tensor::full(input.shape, (input.low + input.high) / 2, dtype, stream);
  return random_values(input.shape, dtype, seed, stream);
}

KernelWork work_of(const cases::TimedCase& timed, DType dtype, const Stream& stream) {
  std::vector<Tensor> inputs;
  inputs.reserve(timed.row.inputs.size());
  for (const cases::Input& input : timed.row.inputs)
    inputs.push_back(drawn(input, dtype, inputs.size() + 1, stream));
  KernelWork work{[inputs, row = timed.row](Tape& tape) {
                    std::vector<Var> vars;
                    vars.reserve(inputs.size());
                    for (size_t i = 0; i < inputs.size(); ++i) {
                      const bool constant = !row.inputs[i].differentiable;
                      vars.push_back(constant ? Var(inputs[i]) : tape.variable(inputs[i]));
                    }
                    return row.apply(tape, vars);
                  },
                  {}};
  if (timed.backward.bytes > 0) {
    Tape probe(stream, StepContext{}, Tape::Mode::kInference);
    const Tensor y = work.forward(probe).value;
    work.output_gradient = y.dims() == 0 ? Tensor::full({}, 1, y.dtype(), stream)
                                         : random_values(y.shape(), y.dtype(), 99, stream);
  }
  return work;
}

/// Operations that are not rows of the table.
class Others {
 public:
  Others(const KernelSizes& sizes, DType dtype) : s_(sizes), dtype_(dtype) {}

  std::vector<KernelCase> take() { return std::exchange(cases_, {}); }

  void copy() {
    const Shape shape{s_.tokens, s_.width};
    add("copy", rows(shape[0], shape[1]), {.bytes = 2 * d(numel(shape) * size_of(dtype_))}, {},
        [=, dtype = dtype_](const Stream& stream) {
          const Tensor x = random_values(shape, dtype, 1, stream);
          return KernelWork{[=](Tape& tape) { return Var(x.clone(tape.stream())); }, {}};
        });
  }

  void fp8() {
    to_fp8();
    norm_to_fp8();
    mlp_in_fp8();
  }

  void optimizers() {
    for (const char* algorithm : {"adamw", "sgd"}) {
      const bool adam = std::string_view(algorithm) == "adamw";
      const int64_t n = 12 * s_.width * s_.width * 4;
      // Reads gradient and state, writes state and master, and weights of another dtype.
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

  void add(std::string name, std::string shape, Cost forward, Cost backward,
           std::function<KernelWork(const Stream&)> prepare) {
    cases_.push_back({std::move(name), std::move(shape), forward, backward, std::move(prepare)});
  }

  /// An operand of fp8 products; on CUDA with its transpose.
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

  /// A deferred norm: its moments, then the operand of the layer that reads it. CPUs also write the norm.
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

  /// GPT-2's feed-forward layer.
  void mlp_in_fp8() {
    const int64_t r = s_.tokens;
    const int64_t c = s_.width;
    const int64_t h = 4 * c;
    const double flops = 4 * d(r) * d(c) * d(h);
    const double bytes = 4 * (d(r * c) + d(r * h) + d(c * h));
    add("mlp, gelu, fp8", fmt::format("{} x {} -> {} -> {}", r, c, h, c), {bytes, flops},
        {2 * bytes, 2 * flops}, [=](const Stream& stream) {
          const auto values = [&](const Shape& shape, uint64_t seed) {
            return random_values(shape, DType::kBFloat16, seed, stream);
          };
          const Tensor x = values({r, c}, 1);
          const Tensor w1 = values({h, c}, 2);
          const Tensor b1 = Tensor::zeros({h}, DType::kBFloat16, stream);
          const Tensor w2 = values({c, h}, 3);
          const Tensor b2 = Tensor::zeros({c}, DType::kBFloat16, stream);
          const Fp8Ranges ranges = fp8_ranges(stream);
          return KernelWork{[=](Tape& tape) {
                              return fp8_mlp(tape, tape.variable(x), tape.variable(w1), tape.variable(b1),
                                             tape.variable(w2), tape.variable(b2), Activation::kGeluTanh,
                                             {.up = ranges, .down = ranges});
                            },
                            values({r, c}, 4)};
        });
  }

  /// One step, or one norm, of an optimizer of four matrices with `n` elements in total.
  enum class Part : uint8_t { kStep, kNorm };
  static KernelWork optimizer_work(const std::string& algorithm, int64_t n, DType dtype, const Stream& stream,
                                   Part part) {
    struct State {
      std::vector<Parameter> parameters;
      std::vector<std::unique_ptr<ParamGroup>> groups;
      std::unique_ptr<Optimizer> optimizer;
    };
    const auto state = std::make_shared<State>();
    std::vector<Parameter*> pointers;
    state->parameters.resize(4);
    for (Parameter& p : state->parameters) {
      p = {.name = fmt::format("matrix{}", pointers.size()), .shape = {n / 4}, .init = Init::normal(1)};
      pointers.push_back(&p);
    }
    state->groups.push_back(std::make_unique<ParamGroup>("all", pointers, Precision{.compute = dtype},
                                                         Placement{}, ShardOf{}, 1, stream));
    OptimizerConfig config;
    config.algorithm = algorithm;
    state->optimizer = std::make_unique<Optimizer>(config, state->groups, stream);
    return {[=](Tape&) {
              if (part == Part::kNorm)
                (void)state->optimizer->grad_norm();
              else
                state->optimizer->step(1e-3, 1, 1);
              return Var{};
            },
            {}};
  }

  KernelSizes s_;
  DType dtype_;
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
  Others others(sizes, dtype);
  others.copy();
  std::vector<KernelCase> all = others.take();
  for (cases::TimedCase& timed : cases::timed_cases(sizes, d(size_of(dtype))))
    all.push_back({timed.name, timed.shape, timed.forward, timed.backward,
                   [timed, dtype](const Stream& stream) { return work_of(timed, dtype, stream); }});
  if (dtype == DType::kBFloat16) others.fp8();
  others.optimizers();
  for (KernelCase& other : others.take()) all.push_back(std::move(other));
  return all;
}

}  // namespace tutti
