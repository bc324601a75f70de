#include <tests/kernels/gradcheck.h>

#include <tutti/core/param_group.h>
#include <tutti/kernels/optimizer.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace tutti {
namespace {

/// A weight of 57 x 311 elements: in one parameter as three matrices, or in three parameters.
class Packed final : public Module {
 public:
  explicit Packed(bool apart) {
    if (apart) {
      for (const int64_t rows : kRows) add(fmt::format("part{}", owned_.size()), rows);
    } else {
      add("whole", 57).packed.assign(kRows.begin(), kRows.end());
    }
    name_parameters();
  }
  static constexpr std::array<int64_t, 3> kRows{31, 13, 13};
  static constexpr int64_t kColumns = 311;

 protected:
  Var forward(Tape&, const Var& x) override { return x; }

 private:
  Parameter& add(const std::string& name, int64_t rows) {
    owned_.push_back(std::make_unique<Parameter>());
    owned_.back()->shape = {rows, kColumns};
    owned_.back()->init = Init::constant(0.25);
    register_parameter(name, *owned_.back());
    return *owned_.back();
  }
  std::vector<std::unique_ptr<Parameter>> owned_;
};

class MuonTest : public test::RandomTest {};

TEST_F(MuonTest, TakesPackedMatricesApart) {
  const std::vector<double> drawn = test::to_doubles(random.normal({2, 57, Packed::kColumns}, 0.3));
  // All weights after two steps, one parameter behind the other.
  const auto stepped = [&](bool apart, bool split, const Precision& precision) {
    OptimizerConfig c;
    c.algorithm = "muon";
    c.muon.split_packed = split;
    Packed model(apart);
    const auto groups = make_param_groups(model, {.precision = precision}, test::stream());
    Optimizer optimizer(c, groups, test::stream());
    auto next = drawn.begin();
    for (int64_t step = 0; step < 2; ++step) {
      for (Parameter* p : model.parameters()) {
        const std::vector<double> values(next, next + p->numel());
        copy(p->grad, Tensor::from(values, p->shape, test::stream()), test::stream());
        p->grad_defined = true;
        next += p->numel();
      }
      optimizer.step(0.02, 0.7, step);
    }
    std::vector<double> all;
    for (Parameter* p : model.parameters()) {
      const std::vector<double> values = test::to_doubles(p->value);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  for (const Precision& precision : {Precision{}, Precision{.compute = DType::kBFloat16},
                                     Precision{DType::kFloat64, DType::kFloat64, DType::kFloat64}}) {
    const std::vector<double> apart = stepped(true, false, precision);
    EXPECT_EQ(stepped(false, true, precision), apart);
    EXPECT_NE(stepped(false, false, precision), apart) << "one matrix";
  }
  Packed wrong(false);
  wrong.parameters()[0]->packed = {31, 13};
  const auto groups = make_param_groups(wrong, {}, test::stream());
  OptimizerConfig c;
  c.algorithm = "muon";
  c.muon.split_packed = true;
  EXPECT_THROW(Optimizer(c, groups, test::stream()), Error);
}

}  // namespace
}  // namespace tutti
