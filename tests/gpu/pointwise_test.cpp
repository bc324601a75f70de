#include "tests/gpu/on_both.h"

#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/reduce.h>

namespace tutti::test {
namespace {

class GpuPointwise : public GpuTest {};

TEST_F(GpuPointwise, Unary) {
  using Unary = Var (*)(Tape&, const Var&);
  for (const Unary op :
       {Unary(neg), Unary(exp), Unary(square), Unary(relu), Unary(silu), Unary(sigmoid), Unary(tanh)}) {
    for (const Shape& shape : {Shape{7}, Shape{3, 4099}, Shape{64, 768}}) {
      compare([op](Tape& t, const std::vector<Var>& v) { return op(t, v[0]); }, {random.normal(shape, 2)});
    }
  }
  for (const Unary op : {Unary(log), Unary(sqrt)}) {
    compare([op](Tape& t, const std::vector<Var>& v) { return op(t, v[0]); },
            {random.uniform({5, 1001}, 0.5, 3)});
  }
  for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
    compare([form](Tape& t, const std::vector<Var>& v) { return gelu(t, v[0], form); },
            {random.normal({33, 257}, 2)});
  }
  compare([](Tape& t, const std::vector<Var>& v) { return add_scalar(t, scale(t, v[0], -1.5), 0.25); },
          {random.normal({3, 5, 7})});
}

TEST_F(GpuPointwise, Swiglu) {
  for (const Shape& shape : {Shape{3, 10}, Shape{65, 2 * 64}, Shape{5, 2 * 4099}, Shape{9, 2 * 2048}}) {
    compare([](Tape& t, const std::vector<Var>& v) { return swiglu(t, v[0]); }, {random.normal(shape, 2)});
  }
}

TEST_F(GpuPointwise, GatedAndCapped) {
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh}) {
    compare([&](Tape& t, const std::vector<Var>& v) { return gated(t, v[0], activation); },
            {random.normal({65, 2 * 64}, 2)});
  }
  compare([](Tape& t, const std::vector<Var>& v) { return soft_cap(t, v[0], 3); },
          {random.normal({65, 33}, 4)});
}

TEST_F(GpuPointwise, BinaryWithBroadcasting) {
  using Binary = Var (*)(Tape&, const Var&, const Var&);
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{3, 40}, {3, 40}}, {{5, 1001}, {5, 1001}},   {{7, 33}, {33}}, {{4, 1, 6}, {4, 5, 1}}, {{1}, {2, 3}},
      {{}, {17}},         {{3, 1, 5, 1}, {2, 1, 7}}};
  for (const Binary op : {Binary(add), Binary(sub), Binary(mul), Binary(div)}) {
    for (const auto& [a, b] : shapes) {
      SCOPED_TRACE(to_string(a) + to_string(b));
      compare([op](Tape& t, const std::vector<Var>& v) { return op(t, v[0], v[1]); },
              {random.normal(a), random.uniform(b, 0.5, 2)});
    }
  }
}

TEST_F(GpuPointwise, SumAndMean) {
  for (const std::vector<int>& dims : std::vector<std::vector<int>>{{}, {0}, {1}, {2}, {0, 2}, {1, 2}}) {
    for (const bool keep : {true, false}) {
      const auto on = [&](auto op, const Shape& shape) {
        compare([&](Tape& t, const std::vector<Var>& v) { return op(t, v[0], dims, keep); },
                {random.normal(shape)});
      };
      for (const Shape& shape : {Shape{3, 5, 7}, Shape{130, 2, 65}, Shape{2, 700, 33}}) {
        on([](auto&&... a) { return sum(a...); }, shape);
        on([](auto&&... a) { return mean(a...); }, shape);
      }
    }
  }
  compare([](Tape& t, const std::vector<Var>& v) { return sum(t, v[0], {}, false); },
          {random.normal({100003})}, {.fp32 = 1e-4});
}

}  // namespace
}  // namespace tutti::test
