#pragma once

#include "tests/kernels/gradcheck.h"

#include "kernels/cases/op_case.h"
#include "kernels/cpu/isa.h"

#include <string>
#include <vector>

namespace tutti::test {

/// The output of an op and the gradients of its inputs (undefined for inputs without one) for a given
/// gradient of the output.
struct Outcome {
  Tensor output;
  std::vector<Tensor> gradients;
};

/// Runs `f` forward and backward on `on`. Floating inputs are cast to `dtype`, as is `dy`.
inline Outcome run_op(const Function& f, const std::vector<Tensor>& inputs, const Tensor& dy, DType dtype,
                      const Stream& on, const StepContext& context = {}) {
  Tape tape(on, context);
  std::vector<Var> vars;
  for (const Tensor& input : inputs) {
    vars.push_back(is_floating(input.dtype()) ? tape.variable(input.to(dtype, on)) : Var(input));
  }
  const Var y = f(tape, vars);
  Outcome outcome{.output = y.value.clone(on), .gradients = {}};
  tape.backward(y, dy.to(y.dtype(), on).clone(on));
  for (const Var& v : vars) outcome.gradients.push_back(v.needs_grad() ? tape.gradient(v) : Tensor());
  return outcome;
}

inline void expect_same_bits(const Outcome& actual, const Outcome& expected, const std::string& what) {
  expect_same_bits(actual.output, expected.output, what + ": output");
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    if (!expected.gradients[i].defined()) continue;
    expect_same_bits(actual.gradients[i], expected.gradients[i], fmt::format("{}: gradient {}", what, i));
  }
}

/// Expects |difference| <= tolerance * (|expected| + the largest |expected| of the tensor). For one element,
/// which may be a sum of terms that cancel each other, the largest is that of all tensors.
inline void expect_near(const Outcome& actual, const Outcome& expected, double tolerance,
                        const std::string& what) {
  const auto largest_of = [](const Tensor& t) {
    double largest = 1e-30;
    if (t.defined()) {
      for (const double v : to_doubles(t)) largest = std::max(largest, std::abs(v));
    }
    return largest;
  };
  double overall = largest_of(expected.output);
  for (const Tensor& g : expected.gradients) overall = std::max(overall, largest_of(g));
  const auto compare = [&](const Tensor& a, const Tensor& e, const std::string& name) {
    const double largest = e.numel() == 1 ? overall : largest_of(e);
    expect_close(a.to(DType::kFloat64, stream()), e.to(DType::kFloat64, stream()), tolerance,
                 tolerance * largest, what + ": " + name);
  };
  compare(actual.output, expected.output, "output");
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    if (expected.gradients[i].defined())
      compare(actual.gradients[i], expected.gradients[i], fmt::format("gradient {}", i));
  }
}

/// The instruction sets that this CPU supports.
inline std::vector<Isa> available_isas() {
  std::vector<Isa> result;
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= cpu_isa()) result.push_back(isa);
  }
  return result;
}

/// Uses an instruction set during the lifetime of this object.
class UseIsa {
 public:
  explicit UseIsa(Isa isa) : before_(best_isa()) { set_isa(isa); }
  ~UseIsa() { set_isa(before_); }
  UseIsa(const UseIsa&) = delete;
  UseIsa& operator=(const UseIsa&) = delete;

 private:
  Isa before_;
};

using cases::Tolerance;

/// The fp32 gradients of floating inputs as parameters of `dtype`, after two microbatches: the first
/// overwrites NaN, the second adds.
inline std::vector<Tensor> parameter_gradients(const Function& f, const std::vector<Tensor>& inputs,
                                               const Tensor& dy, DType dtype, const StepContext& context) {
  std::vector<Parameter> parameters;
  for (const Tensor& input : inputs) {
    parameters.push_back(parameter_of(is_floating(input.dtype()) ? input.to(dtype, stream()) : input));
  }
  for (int microbatch = 0; microbatch < 2; ++microbatch) {
    Tape tape(stream(), context);
    std::vector<Var> vars;
    for (size_t i = 0; i < inputs.size(); ++i) {
      vars.push_back(is_floating(inputs[i].dtype()) ? tape.leaf(parameters[i]) : Var(inputs[i]));
    }
    const Var y = f(tape, vars);
    tape.backward(y, dy.to(y.dtype(), stream()).clone(stream()));
  }
  std::vector<Tensor> gradients;
  for (const Parameter& p : parameters) gradients.push_back(p.grad_defined ? p.grad : Tensor());
  return gradients;
}

/// Checks for fp32 and bf16, with every instruction set: output and gradients are close to those of fp64
/// (which check_gradients compares with finite differences), and their bits do not depend on the number of
/// threads. Gradients of parameters are also close to those of fp64, and accumulate over microbatches.
inline void check_precisions(const Function& f, const std::vector<Tensor>& inputs, Random& random,
                             const Tolerance& tolerance = {}, const StepContext& context = {}) {
  SCOPED_TRACE(random.note());
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    // The expected values in fp64 are those of the rounded inputs.
    std::vector<Tensor> rounded;
    for (const Tensor& input : inputs) {
      rounded.push_back(is_floating(input.dtype()) ? input.to(dtype, stream()) : input);
    }
    Tape probe(stream(), context, Tape::Mode::kInference);
    std::vector<Var> vars;
    for (const Tensor& input : rounded) vars.emplace_back(input);
    const Tensor dy = random.normal(f(probe, vars).shape()).to(dtype, stream());
    const Outcome exact = run_op(f, rounded, dy, DType::kFloat64, stream(), context);
    const double allowed = dtype == DType::kFloat32 ? tolerance.fp32 : tolerance.bf16;
    Outcome twice{.output = exact.output, .gradients = {}};
    for (const Tensor& g : exact.gradients) {
      twice.gradients.push_back(g.defined() ? g.clone(stream()) : Tensor());
      if (g.defined()) add_in_place(twice.gradients.back(), g, stream());
    }
    expect_near({exact.output, parameter_gradients(f, rounded, dy, dtype, context)}, twice, allowed,
                fmt::format("{} parameters after two microbatches", name(dtype)));
    for (const Isa isa : available_isas()) {
      const UseIsa use(isa);
      const std::string what = fmt::format("{} with {}", name(dtype), name(isa));
      ThreadPool one(1);
      const Outcome alone = run_op(f, rounded, dy, dtype, Stream::inline_on(one), context);
      expect_near(alone, exact, allowed, what);
      for (const int threads : {2, 3}) {
        ThreadPool pool(threads);
        expect_same_bits(run_op(f, rounded, dy, dtype, Stream::inline_on(pool), context), alone,
                         fmt::format("{} and {} threads", what, threads));
      }
    }
  }
}

}  // namespace tutti::test
