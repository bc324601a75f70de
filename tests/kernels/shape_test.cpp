#include "tests/kernels/op_check.h"

#include <tutti/kernels/shape.h>

namespace tutti::test {
namespace {

class ShapeOps : public RandomTest {
 protected:
  /// Checks gradients, and that the value is `expected` of the input without a tape.
  void check(const Function& f, const Tensor& x, const Tensor& expected) {
    check_gradients(f, {x}, random);
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

TEST_F(ShapeOps, OverlappingSlicesAddUp) {
  const Function f = [](Tape& t, const std::vector<Var>& v) {
    return concat(t, {slice(t, v[0], 0, 0, 4), slice(t, v[0], 0, 2, 6)}, 1);
  };
  check_gradients(f, {random.normal({6, 3})}, random);
}

TEST_F(ShapeOps, Concat) {
  const std::vector<Tensor> parts = {random.normal({2, 3, 4}), random.normal({2, 1, 4}),
                                     random.normal({2, 5, 4})};
  const Function f = [](Tape& t, const std::vector<Var>& v) { return concat(t, v, -2); };
  check_gradients(f, parts, random);
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
      check_gradients(f, {x}, random);
      Tape tape(stream());
      const Tensor y = f(tape, {Var(x)}).value;
      const std::vector<double> at = to_doubles(picks);
      for (int64_t i = 0; i < 7; ++i) {
        expect_same_bits(y.select(dim, i), x.select(dim, static_cast<int64_t>(at[static_cast<size_t>(i)])));
      }
    }
  }
  const Tensor many = random.integers({301}, 0, 16);
  check_precisions([&](Tape& t, const std::vector<Var>& v) { return gather(t, v[0], 1, many); },
                   {random.normal({33, 17, 65})}, random);
  Tape tape(stream());
  EXPECT_THROW(gather(tape, Var(x), 0, random.integers({2}, 3, 9)), Error);
  EXPECT_THROW(gather(tape, Var(x), 0, random.integers({2}, -3, -1)), Error);
  EXPECT_THROW(gather(tape, Var(x), 3, random.integers({2}, 0, 1)), Error);
  EXPECT_THROW(gather(tape, Var(x), 0, random.normal({2})), Error);
}

}  // namespace
}  // namespace tutti::test
