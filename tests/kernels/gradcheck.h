#pragma once

#include <tutti/core/parameter.h>
#include <tutti/core/tape.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace tutti::test {

/// The default stream of tests, with two threads.
inline const Stream& stream() {
  static ThreadPool pool(2);
  static const Stream on_pool = Stream::inline_on(pool);
  return on_pool;
}

/// Random inputs of tests. The seed is new in each run, or that of TUTTI_TEST_SEED, to reproduce a failure.
class Random {
 public:
  Random() : Random(fresh_seed()) {}
  explicit Random(uint64_t seed) : seed_(seed), engine_(seed) {}

  [[nodiscard]] uint64_t seed() const { return seed_; }
  [[nodiscard]] std::string note() const { return fmt::format("repeat with TUTTI_TEST_SEED={}", seed_); }

  double uniform(double low = 0, double high = 1) {
    return std::uniform_real_distribution<double>(low, high)(engine_);
  }
  double normal() { return std::normal_distribution<double>()(engine_); }
  /// An integer in [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }

  Tensor normal(const Shape& shape, double deviation = 1, DType dtype = DType::kFloat64) {
    return make(shape, dtype, [&] { return deviation * normal(); });
  }
  Tensor uniform(const Shape& shape, double low, double high, DType dtype = DType::kFloat64) {
    return make(shape, dtype, [&] { return uniform(low, high); });
  }
  /// Integers in [low, high].
  Tensor integers(const Shape& shape, int64_t low, int64_t high, DType dtype = DType::kInt32) {
    return make(shape, dtype, [&] { return static_cast<double>(integer(low, high)); });
  }

 private:
  static uint64_t fresh_seed() {
    if (const char* given = std::getenv("TUTTI_TEST_SEED")) return std::strtoull(given, nullptr, 10);
    return std::random_device()();
  }
  template <class Draw>
  Tensor make(const Shape& shape, DType dtype, Draw draw) {
    Tensor values = Tensor::empty(shape, DType::kFloat64, stream());
    for (double& value : values.span<double>()) value = draw();
    return values.to(dtype, stream());
  }

  uint64_t seed_;
  std::mt19937_64 engine_;
};

/// A fixture with random numbers; every failure message contains the seed.
class RandomTest : public ::testing::Test {
 protected:
  Random random;

 private:
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, random.note()};
};

/// The elements as double, row-major.
inline std::vector<double> to_doubles(const Tensor& tensor) {
  const Tensor wide = tensor.to(DType::kFloat64, stream()).to_contiguous(stream());
  const auto values = wide.span<double>();
  return {values.begin(), values.end()};
}

/// "(1, 0, 2)" for a row-major index.
inline std::string index_text(int64_t flat, const Shape& shape) {
  Shape index = shape;
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = flat % shape[d];
    flat /= shape[d];
  }
  return to_string(index);
}

/// Expects |actual - expected| <= absolute + relative * |expected| for every element; NaN equals only NaN.
/// Reports the element with the largest error.
inline void expect_close(const Tensor& actual, const Tensor& expected, double relative, double absolute,
                         const std::string& what = "result") {
  ASSERT_EQ(to_string(actual.shape()), to_string(expected.shape())) << what;
  const std::vector<double> a = to_doubles(actual);
  const std::vector<double> e = to_doubles(expected);
  double worst = 0;
  size_t at = 0;
  size_t wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if ((std::isnan(a[i]) && std::isnan(e[i])) || a[i] == e[i]) continue;
    double excess = std::abs(a[i] - e[i]) / (absolute + relative * std::abs(e[i]));
    if (!(excess <= std::numeric_limits<double>::max())) excess = std::numeric_limits<double>::infinity();
    if (excess > 1) ++wrong;
    if (excess > worst) {
      worst = excess;
      at = i;
    }
  }
  EXPECT_EQ(wrong, 0U) << what << ": " << wrong << " of " << a.size() << " elements are off; worst at "
                       << index_text(static_cast<int64_t>(at), actual.shape()) << ": " << a[at]
                       << ", expected " << e[at] << " (difference " << std::abs(a[at] - e[at]) << ", allowed "
                       << absolute + relative * std::abs(e[at]) << ")";
}

/// Expects the same shape, dtype and bits of every element.
inline void expect_same_bits(const Tensor& actual, const Tensor& expected,
                             const std::string& what = "result") {
  ASSERT_EQ(to_string(actual.shape()), to_string(expected.shape())) << what;
  ASSERT_EQ(name(actual.dtype()), name(expected.dtype())) << what;
  const Tensor a = actual.to_contiguous(stream());
  const Tensor e = expected.to_contiguous(stream());
  if (std::memcmp(a.raw(), e.raw(), static_cast<size_t>(a.bytes())) == 0) return;
  const std::vector<double> left = to_doubles(a);
  const std::vector<double> right = to_doubles(e);
  for (size_t i = 0; i < left.size(); ++i) {
    if (std::memcmp(&left[i], &right[i], sizeof(double)) == 0) continue;
    ADD_FAILURE() << what << ": bits differ first at " << index_text(static_cast<int64_t>(i), a.shape())
                  << ": " << fmt::format("{:a} and {:a}", left[i], right[i]);
    return;
  }
  ADD_FAILURE() << what << ": bits differ in the payload of a NaN";
}

/// A copy of `tensor` that is not contiguous: every second element of a wider last dim, with NaN (or 77)
/// between.
inline Tensor strided_copy(const Tensor& tensor) {
  if (tensor.dims() == 0) return tensor;
  Shape wide = tensor.shape();
  wide.back() *= 2;
  const Tensor storage =
      Tensor::full(wide, is_floating(tensor.dtype()) ? std::numeric_limits<double>::quiet_NaN() : 77,
                   tensor.dtype(), stream());
  const Tensor view = storage.slice(-1, 0, wide.back(), 2);
  copy(view, tensor, stream());
  return view;
}

/// A parameter with a copy of `value`; its gradient is filled with NaN and not defined.
inline Parameter parameter_of(const Tensor& value, std::string name = "p", Role role = Role::kWeight) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.shape = value.shape();
  parameter.role = role;
  parameter.value = value.clone(stream());
  parameter.grad =
      Tensor::full(value.shape(), std::numeric_limits<double>::quiet_NaN(),
                   value.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32, stream());
  return parameter;
}

/// The sum over all outputs of <weights, output>, in fp64: a scalar from the results of any op.
inline Var project(Tape& tape, std::vector<Var> outputs, const std::vector<double>& weights) {
  double sum = 0;
  for (const Var& output : outputs) {
    const std::vector<double> y = to_doubles(output.value);
    sum = std::inner_product(y.begin(), y.end(), weights.begin(), sum);
  }
  Tensor result = Tensor::full({}, sum, DType::kFloat64, tape.stream());
  const Shape shape = outputs.front().shape();
  return tape.record("project", std::move(result), outputs,
                     [shape, weights, count = outputs.size()](const Tensor& dy, const Gradients& gradients) {
                       for (size_t i = 0; i < count; ++i) {
                         Tensor scaled = Tensor::from(weights, shape, stream());
                         for (double& value : scaled.span<double>()) value *= dy.item();
                         gradients.add(i, scaled);
                       }
                     });
}

struct GradCheckOptions {
  double relative = 1e-6;     ///< maximum error relative to the larger of the two derivatives
  double step = 1e-5;         ///< step of the central difference
  int64_t max_elements = 64;  ///< elements checked per input: a random subset of larger inputs
  /// Indices of inputs that are constants. Inputs that are not fp64 always are.
  std::vector<size_t> constants;
  /// Whether inputs may be strided views.
  bool strided = true;
  /// Whether to try smaller steps if the first does not agree: for functions with kinks (ReLU in a deep
  /// model), which a step may cross.
  bool kinks = false;
  /// Rounding error of the function in units of epsilon; larger for deep models.
  double rounding = 100;
  StepContext context;
};

using Function = std::function<Var(Tape&, const std::vector<Var>&)>;

namespace detail {

/// The central difference of `loss` with respect to `element`, and its error if the error of the loss is one
/// epsilon.
inline std::pair<double, double> difference_quotient(const std::function<double()>& loss, double& element,
                                                     double step) {
  const double kept = element;
  const double h = step * std::max(1.0, std::abs(kept));
  const volatile double above = kept + h;  // as stored, so that the divisor is exact
  const volatile double below = kept - h;
  element = above;
  const double up = loss();
  element = below;
  const double down = loss();
  element = kept;
  return {(up - down) / (above - below), std::numeric_limits<double>::epsilon() / h};
}

/// Compares `analytic` with central differences of `loss` with respect to the elements of `x`. `magnitude` is
/// the sum of the absolute values of the terms of the loss, whose rounding error limits the accuracy of
/// differences.
inline void compare_with_differences(const std::function<double()>& loss, const Tensor& x,
                                     const Tensor& analytic, double magnitude, const std::string& what,
                                     Random& random, const GradCheckOptions& options) {
  ASSERT_TRUE(analytic.defined()) << what << ": there is no gradient";
  ASSERT_EQ(to_string(analytic.shape()), to_string(x.shape())) << what;
  const std::vector<double> gradient = to_doubles(analytic);
  double largest = 0;
  for (const double g : gradient) largest = std::max(largest, std::abs(g));
  std::vector<size_t> elements(gradient.size());
  std::iota(elements.begin(), elements.end(), size_t{0});
  const auto limit = static_cast<size_t>(options.max_elements);
  for (size_t i = 0; elements.size() > limit && i < limit; ++i) {
    std::swap(elements[i], elements[static_cast<size_t>(random.integer(
                               static_cast<int64_t>(i), static_cast<int64_t>(elements.size()) - 1))]);
  }
  elements.resize(std::min(elements.size(), limit));

  double worst = 0;
  std::string worst_text;
  for (const size_t i : elements) {
    double excess = std::numeric_limits<double>::infinity();
    double numeric = 0;
    double allowed = 0;
    for (double h = options.step; h >= options.step / (options.kinks ? 1e5 : 1) && !(excess <= 1); h /= 20) {
      std::tie(numeric, allowed) = difference_quotient(loss, x.data<double>()[i], h);
      allowed = allowed * options.rounding * magnitude +
                options.relative * (std::max(std::abs(numeric), std::abs(gradient[i])) + 0.01 * largest) +
                std::numeric_limits<double>::min();  // zero and zero agree
      excess = std::abs(numeric - gradient[i]) / allowed;
    }
    if (std::isnan(excess)) excess = std::numeric_limits<double>::infinity();
    if (excess > worst || worst_text.empty()) {
      worst = excess;
      worst_text = fmt::format("worst at {}: analytic {:.12g}, difference quotient {:.12g}, allowed {:.3g}",
                               index_text(static_cast<int64_t>(i), x.shape()), gradient[i], numeric, allowed);
    }
  }
  EXPECT_LE(worst, 1) << what << ": the gradient is wrong; " << worst_text;
}

}  // namespace detail

/// Checks the gradients of all fp64 inputs of `f` against central differences of <r, f(inputs)> with a random
/// r, and that they are the same (or the right multiple) when
///   - one input is differentiated and the others are constants,
///   - the inputs are used twice on one tape (gradients accumulate on variables),
///   - the inputs are parameters: the first gradient overwrites uninitialised memory, later ones accumulate,
///   - the inputs are strided views.
/// `f` is a pure function; its output is fp64.
inline void check_gradients(const Function& f, const std::vector<Tensor>& inputs, Random& random,
                            const GradCheckOptions& options = {}) {
  SCOPED_TRACE(random.note());
  std::vector<Tensor> values;
  for (const Tensor& input : inputs) values.push_back(input.clone(stream()));
  const auto constant = [&](size_t i) {
    return values[i].dtype() != DType::kFloat64 ||
           std::find(options.constants.begin(), options.constants.end(), i) != options.constants.end();
  };
  std::vector<size_t> active;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!constant(i)) active.push_back(i);
  }
  ASSERT_FALSE(active.empty()) << "no input to differentiate";

  const auto run_inputs = [&](Tape& tape, const std::vector<Tensor>& tensors,
                              const std::vector<size_t>& wanted) {
    std::vector<Var> vars;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const bool is_wanted = std::find(wanted.begin(), wanted.end(), i) != wanted.end();
      vars.push_back(is_wanted ? tape.variable(tensors[i]) : Var(tensors[i]));
    }
    return vars;
  };
  std::vector<double> r;
  double magnitude = 0;
  {
    Tape tape(stream(), options.context);
    std::vector<Var> vars;
    for (const Tensor& value : values) vars.emplace_back(value);
    const Var y = f(tape, vars);
    ASSERT_EQ(y.dtype(), DType::kFloat64) << "the output must be fp64";
    for (const double value : to_doubles(y.value)) {
      r.push_back(random.uniform(0.5, 1.5) * (random.integer(0, 1) == 0 ? -1 : 1));
      magnitude += std::abs(value * r.back());
    }
  }
  const auto differentiate = [&](const std::vector<Tensor>& tensors, const std::vector<size_t>& wanted,
                                 int uses) {
    Tape tape(stream(), options.context);
    const std::vector<Var> vars = run_inputs(tape, tensors, wanted);
    std::vector<Var> outputs;
    for (int use = 0; use < uses; ++use) outputs.push_back(f(tape, vars));
    tape.backward(project(tape, std::move(outputs), r));
    std::vector<Tensor> gradients(tensors.size());
    for (const size_t i : wanted) gradients[i] = tape.gradient(vars[i]);
    return gradients;
  };

  const std::vector<Tensor> gradients = differentiate(values, active, 1);
  const auto loss = [&] {
    Tape tape(stream(), options.context);
    std::vector<Var> vars;
    for (const Tensor& value : values) vars.emplace_back(value);
    return project(tape, {f(tape, vars)}, r).value.item();
  };
  double largest = 0;
  for (const size_t i : active) {
    detail::compare_with_differences(loss, values[i], gradients[i], magnitude, fmt::format("input {}", i),
                                     random, options);
    if (::testing::Test::HasFatalFailure()) return;
    for (const double g : to_doubles(gradients[i])) largest = std::max(largest, std::abs(g));
  }
  constexpr double kSame = 1e-11;
  const double floor = kSame * (largest + magnitude * 1e-3);

  if (active.size() > 1) {
    for (const size_t i : active) {
      expect_close(differentiate(values, {i}, 1)[i], gradients[i], kSame, floor,
                   fmt::format("gradient of input {} with the others constant", i));
    }
  }
  const auto times = [](const Tensor& tensor, double factor, double offset) {
    Tensor result = tensor.clone(stream());
    for (double& value : result.span<double>()) value = value * factor + offset;
    return result;
  };
  const std::vector<Tensor> twice = differentiate(values, active, 2);
  for (const size_t i : active) {
    expect_close(twice[i], times(gradients[i], 2, 0), kSame, floor,
                 fmt::format("gradient of input {} used twice", i));
  }
  {
    std::vector<Parameter> parameters;
    for (const Tensor& value : values) parameters.push_back(parameter_of(value));
    for (int pass = 0; pass < 3; ++pass) {
      Tape tape(stream(), options.context);
      std::vector<Var> vars;
      for (size_t i = 0; i < values.size(); ++i) {
        vars.push_back(constant(i) ? Var(values[i]) : tape.leaf(parameters[i]));
      }
      tape.backward(project(tape, {f(tape, vars)}, r));
      for (const size_t i : active) {
        expect_close(
            parameters[i].grad, times(gradients[i], pass + 1, 0), kSame, floor,
            fmt::format("gradient of parameter {} after {} passes (the first overwrites)", i, pass + 1));
      }
    }
  }
  if (options.strided) {
    std::vector<Tensor> views;
    for (const Tensor& value : values) views.push_back(strided_copy(value));
    const std::vector<Tensor> strided = differentiate(views, active, 1);
    for (const size_t i : active) {
      expect_close(strided[i], gradients[i], kSame, floor, fmt::format("gradient of strided input {}", i));
    }
  }
}

/// Checks the gradients of fp64 parameters of `f`, except statistics, against central differences of <r,
/// f()>: for whole models. Parameters must have value and grad; their gradients are overwritten.
inline void check_parameter_gradients(const std::function<Var(Tape&)>& f,
                                      const std::vector<Parameter*>& parameters, Random& random,
                                      const GradCheckOptions& options = {}) {
  SCOPED_TRACE(random.note());
  std::vector<double> r;
  double magnitude = 0;
  {
    for (Parameter* parameter : parameters) {
      fill(parameter->grad, std::numeric_limits<double>::quiet_NaN(), stream());
      parameter->grad_defined = false;
    }
    Tape tape(stream(), options.context);
    const Var y = f(tape);
    for (const double value : to_doubles(y.value)) {
      r.push_back(random.uniform(0.5, 1.5) * (random.integer(0, 1) == 0 ? -1 : 1));
      magnitude += std::abs(value * r.back());
    }
    tape.backward(project(tape, {y}, r));
  }
  const auto loss = [&] {
    Tape tape(stream(), options.context);
    return project(tape, {f(tape)}, r).value.item();
  };
  for (Parameter* parameter : parameters) {
    if (parameter->role == Role::kStatistic) continue;
    ASSERT_TRUE(parameter->grad_defined) << parameter->name << " has no gradient";
    detail::compare_with_differences(loss, parameter->value, parameter->grad.clone(stream()), magnitude,
                                     parameter->name, random, options);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace tutti::test
