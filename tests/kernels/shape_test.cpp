// Views, selections and reductions.
#include "tests/kernels/op_check.h"

#include <tutti/kernels/reduce.h>
#include <tutti/kernels/shape.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

class ShapeOps : public RandomTest {
 protected:
  /// Checks that the value is `expected` of the input, in every dtype.
  void check(const Function& f, const Tensor& x, const Tensor& expected) {
    Tape tape(stream(), {}, Tape::Mode::kInference);
    expect_same_bits(f(tape, {Var(x)}).value, expected);
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      expect_same_bits(f(tape, {Var(x.to(dtype, stream()))}).value, expected.to(dtype, stream()),
                       std::string(name(dtype)));
    }
  }
};

TEST_F(ShapeOps, Views) {
  const Tensor x = random.normal({3, 4, 5});
  check([](Tape& t, const std::vector<Var>& v) { return view(t, v[0], {12, -1}); }, x, x.view({12, 5}));
  check([](Tape& t, const std::vector<Var>& v) { return transpose(t, v[0], 0, -1); }, x, x.transpose(0, 2));
  check(
      [](Tape& t, const std::vector<Var>& v) {
        return permute(t, v[0], {2, 0, 1});
      },
      x, x.permute({2, 0, 1}));
  check([](Tape& t, const std::vector<Var>& v) { return slice(t, v[0], 1, 1, 4, 2); }, x,
        x.slice(1, 1, 4, 2));
  check([](Tape& t, const std::vector<Var>& v) { return slice(t, v[0], -1, 2, 3); }, x, x.slice(2, 2, 3));
  const Tensor row = random.normal({4, 1});
  check(
      [](Tape& t, const std::vector<Var>& v) {
        return expand(t, v[0], {3, 4, 7});
      },
      row, row.expand({3, 4, 7}));
}

TEST_F(ShapeOps, ViewOfATransposeCopies) {
  const Tensor x = random.normal({3, 4});
  check([](Tape& t, const std::vector<Var>& v) { return view(t, transpose(t, v[0], 0, 1), {12}); }, x,
        x.transpose(0, 1).to_contiguous(stream()).view({12}));
}

TEST_F(ShapeOps, Concat) {
  const std::vector<Tensor> parts = {random.normal({2, 3, 4}), random.normal({2, 1, 4}),
                                     random.normal({2, 5, 4})};
  const Function f = [](Tape& t, const std::vector<Var>& v) { return concat(t, v, -2); };
  Tape tape(stream());
  const Tensor y = f(tape, {Var(parts[0]), Var(parts[1]), Var(parts[2])}).value;
  ASSERT_EQ(y.shape(), (Shape{2, 9, 4}));
  expect_same_bits(y.slice(1, 0, 3), parts[0]);
  expect_same_bits(y.slice(1, 3, 4), parts[1]);
  expect_same_bits(y.slice(1, 4, 9), parts[2]);
  EXPECT_THROW(concat(tape, {Var(parts[0]), Var(parts[1])}, 0), Error);
  EXPECT_THROW(concat(tape, {Var(parts[0]), Var(random.normal({2, 3}))}, 0), Error);
  EXPECT_THROW(concat(tape, std::vector<Var>(), 0), Error);
}

TEST_F(ShapeOps, Gather) {
  const Tensor x = random.normal({3, 5, 4});
  for (const int dim : {0, 1, -1}) {
    for (const DType dtype : {DType::kInt32, DType::kInt64}) {
      const int64_t size = x.size(dim);
      const Tensor picks = random.integers({7}, 0, size - 1, dtype);
      const Function f = [&](Tape& t, const std::vector<Var>& v) { return gather(t, v[0], dim, picks); };
      Tape tape(stream());
      const Tensor y = f(tape, {Var(x)}).value;
      const std::vector<double> at = to_doubles(picks);
      for (int64_t i = 0; i < 7; ++i) {
        expect_same_bits(y.select(dim, i), x.select(dim, static_cast<int64_t>(at[static_cast<size_t>(i)])));
      }
    }
  }
  Tape tape(stream());
  EXPECT_THROW(gather(tape, Var(x), 0, random.integers({2}, 3, 9)), Error);
  EXPECT_THROW(gather(tape, Var(x), 0, random.integers({2}, -3, -1)), Error);
  EXPECT_THROW(gather(tape, Var(x), 3, random.integers({2}, 0, 1)), Error);
  EXPECT_THROW(gather(tape, Var(x), 0, random.normal({2})), Error);
}

class Reduce : public RandomTest {};

/// For each element of `shape`, the flat index of the element of the result into which it is reduced.
std::vector<size_t> reduced_indices(const Shape& shape, const std::vector<int>& dims) {
  std::vector<size_t> result;
  for (int64_t flat = 0; flat < numel(shape); ++flat) {
    int64_t rest = flat;
    size_t target = 0;
    size_t stride = 1;
    for (int d = static_cast<int>(shape.size()) - 1; d >= 0; --d) {
      const int64_t size = shape[static_cast<size_t>(d)];
      const bool reduced = dims.empty() || std::any_of(dims.begin(), dims.end(), [&](int given) {
                             return given == d || given + static_cast<int>(shape.size()) == d;
                           });
      if (!reduced) {
        target += static_cast<size_t>(rest % size) * stride;
        stride *= static_cast<size_t>(size);
      }
      rest /= size;
    }
    result.push_back(target);
  }
  return result;
}

const std::vector<std::vector<int>> kDims = {{}, {0}, {1}, {-1}, {0, 1}, {1, 2}, {0, 2}, {2, 0, 1}, {-2}};

TEST_F(Reduce, SumMeanAndMaxOverAnyDims) {
  const Shape shape{3, 5, 7};
  for (const auto& dims : kDims) {
    for (const bool keep : {false, true}) {
      SCOPED_TRACE(fmt::format("{} dims, the first {}", dims.size(), dims.empty() ? 0 : dims[0]));
      const Tensor x = random.normal(shape);
      const auto target = reduced_indices(shape, dims);
      const std::vector<double> in = to_doubles(x);
      const size_t outputs = *std::max_element(target.begin(), target.end()) + 1;
      std::vector<double> sums(outputs, 0);
      std::vector<double> largest(outputs, -std::numeric_limits<double>::infinity());
      for (size_t i = 0; i < in.size(); ++i) {
        sums[target[i]] += in[i];
        largest[target[i]] = std::max(largest[target[i]], in[i]);
      }
      const Function f_sum = [&](Tape& t, const std::vector<Var>& v) { return sum(t, v[0], dims, keep); };
      const Function f_mean = [&](Tape& t, const std::vector<Var>& v) { return mean(t, v[0], dims, keep); };
      const Function f_max = [&](Tape& t, const std::vector<Var>& v) { return max(t, v[0], dims, keep); };
      Tape tape(stream(), {}, Tape::Mode::kInference);
      const Var y = f_sum(tape, {Var(x)});
      EXPECT_EQ(y.value.dims(), keep ? 3 : 3 - static_cast<int>(dims.empty() ? 3 : dims.size()));
      const std::vector<double> actual = to_doubles(y.value);
      const std::vector<double> actual_mean = to_doubles(f_mean(tape, {Var(x)}).value);
      const std::vector<double> actual_max = to_doubles(f_max(tape, {Var(x)}).value);
      ASSERT_EQ(actual.size(), outputs);
      const double each = static_cast<double>(outputs) / static_cast<double>(in.size());
      for (size_t i = 0; i < outputs; ++i) {
        EXPECT_NEAR(actual[i], sums[i], 1e-13);
        EXPECT_NEAR(actual_mean[i], sums[i] * each, 1e-13);
        EXPECT_EQ(actual_max[i], largest[i]);
      }
    }
  }
}

TEST_F(Reduce, MaxOfTiesAndNan) {
  const double nan = std::nan("");
  Tape tape(stream());
  const Var x = tape.variable(Tensor::from(std::vector<double>{1, 4, 4, 2, nan, 7}, {2, 3}, stream()));
  const Var y = max(tape, x, {1});
  tape.backward(y);
  const auto out = to_doubles(y.value);
  EXPECT_EQ(out[0], 4);
  EXPECT_TRUE(std::isnan(out[1]));
  EXPECT_EQ(to_doubles(tape.gradient(x)), (std::vector<double>{0, 1, 0, 0, 1, 0}));
}

TEST_F(Reduce, SumToShapes) {
  const Tensor x = random.normal({4, 3, 5});
  for (const Shape& shape :
       {Shape{5}, Shape{3, 1}, Shape{1, 3, 5}, Shape{4, 1, 1}, Shape{}, Shape{4, 3, 5}}) {
    SCOPED_TRACE(to_string(shape));
    std::vector<double> expected(static_cast<size_t>(numel(shape)), 0);
    std::vector<int> dims;
    for (int d = 0; d < 3; ++d) {
      const int at = d - (3 - static_cast<int>(shape.size()));
      if (at < 0 || (shape[static_cast<size_t>(at)] == 1 && x.size(d) != 1)) dims.push_back(d);
    }
    const auto target = dims.empty() ? std::vector<size_t>() : reduced_indices(x.shape(), dims);
    const auto in = to_doubles(x);
    for (size_t i = 0; i < in.size(); ++i) expected[dims.empty() ? i : target[i]] += in[i];
    for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
      const Tensor out = Tensor::full(shape, 3, dtype, stream());
      const double tolerance = dtype == DType::kFloat64 ? 1e-13 : dtype == DType::kFloat32 ? 1e-5 : 0.1;
      sum_to(x, out, GradMode::kOverwrite, stream());
      const Tensor expected_sum = Tensor::from(expected, shape, stream());
      expect_close(out, expected_sum, tolerance, tolerance);
      sum_to(x, out, GradMode::kAccumulate, stream());
      for (double& v : expected_sum.span<double>()) v *= 2;
      expect_close(out, expected_sum, tolerance, tolerance);
    }
  }
}

TEST_F(Reduce, EmptyInputsAndErrors) {
  Tape tape(stream());
  const Var empty(Tensor::empty({0, 3}, DType::kFloat32, stream()));
  EXPECT_EQ(to_doubles(sum(tape, empty, {0}).value), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(sum(tape, empty).value.item(), 0);
  // Empty results, with the empty dim before and after the reduced one.
  for (const Shape& shape : {Shape{5, 0}, Shape{0, 5}, Shape{2, 5, 0}, Shape{0, 5, 3}}) {
    SCOPED_TRACE(to_string(shape));
    const int dim = shape.size() == 2 && shape[0] == 0 ? 1 : static_cast<int>(shape.size()) - 2;
    const Var none(Tensor::empty(shape, DType::kFloat32, stream()));
    EXPECT_EQ(sum(tape, none, {dim}).value.numel(), 0);
    EXPECT_EQ(mean(tape, none, {dim}, true).value.numel(), 0);
  }
  EXPECT_THROW(max(tape, empty), Error);
  const Var x(random.normal({2, 3}));
  EXPECT_THROW(sum(tape, x, {2}), Error);
  EXPECT_THROW(sum(tape, x, {0, -2}), Error);
  EXPECT_THROW(mean(tape, Var(random.integers({3}, 0, 5))), Error);
}

}  // namespace
}  // namespace tutti::test
