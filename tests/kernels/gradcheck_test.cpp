#include <tests/kernels/gradcheck.h>

#include <gtest/gtest-spi.h>

namespace tutti {
namespace {

enum class Fault : uint8_t { kNone, kDerivative, kIgnoresMode, kIgnoresStrides };

/// a * b elementwise, with a fault.
Var multiply(Tape& tape, const Var& x, const Var& y, Fault fault) {
  const auto dense = [fault](const Tensor& t) {
    if (fault != Fault::kIgnoresStrides) return t.to_contiguous(test::stream());
    std::vector<double> values(t.data<double>(), t.data<double>() + t.numel());
    return Tensor::from(values, t.shape(), test::stream());
  };
  const Tensor a = dense(x.value);
  const Tensor b = dense(y.value);
  Tensor product = Tensor::empty(a.shape(), a.dtype(), tape.stream());
  for (int64_t i = 0; i < a.numel(); ++i) {
    product.data<double>()[i] = a.data<double>()[i] * b.data<double>()[i];
  }
  return tape.record(
      "multiply", product, {x, y}, [a, b, fault](const Tensor& dy, const Gradients& gradients) {
        for (size_t k = 0; k < 2; ++k) {
          if (!gradients.needs(k)) continue;
          const auto slot = gradients.slot(k);
          const bool overwrite = slot.mode == GradMode::kOverwrite || fault == Fault::kIgnoresMode;
          const double factor = fault == Fault::kDerivative ? 1 + 1e-4 : 1;
          for (int64_t i = 0; i < dy.numel(); ++i) {
            const double g = dy.data<double>()[i] * (k == 0 ? b : a).data<double>()[i] * factor;
            double& destination = slot.tensor.data<double>()[i];
            destination = overwrite ? g : destination + g;
          }
        }
      });
}

void check(Fault fault) {
  test::Random random;
  test::check_gradients(
      [fault](Tape& tape, const std::vector<Var>& v) { return multiply(tape, v[0], v[1], fault); },
      {random.normal({3, 5}), random.normal({3, 5})}, random);
}

bool reports(Fault fault) {
  ::testing::TestPartResultArray results;
  {
    ::testing::ScopedFakeTestPartResultReporter capture(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    check(fault);
  }
  return results.size() > 0;
}

TEST(GradCheck, AcceptsARightGradient) {
  check(Fault::kNone);
}

TEST(GradCheck, FindsAWrongGradient) {
  EXPECT_TRUE(reports(Fault::kDerivative));
  EXPECT_TRUE(reports(Fault::kIgnoresMode));
  EXPECT_TRUE(reports(Fault::kIgnoresStrides));
}

TEST(GradCheck, ComparisonsFindADifference) {
  test::Random random;
  const Tensor a = random.normal({4, 3});
  const Tensor b = a.clone(test::stream());
  test::expect_close(a, b, 0, 0);
  test::expect_same_bits(a, test::strided_copy(b));
  b.data<double>()[7] += 1e-9;
  ::testing::TestPartResultArray results;
  {
    ::testing::ScopedFakeTestPartResultReporter capture(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    test::expect_close(a, b, 0, 1e-10);
    test::expect_same_bits(a, b);
  }
  EXPECT_EQ(results.size(), 2);
}

}  // namespace
}  // namespace tutti
