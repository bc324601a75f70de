#pragma once

#include "tests/kernels/op_check.h"

#include <cctype>
#include <ostream>

// The rows of kernels/cases as parameters of tests.
namespace tutti::cases {

inline void PrintTo(const OpCase& row, std::ostream* out) {  // NOLINT(readability-identifier-naming): gtest's
  *out << row.op << ": " << row.what;
}

}  // namespace tutti::cases

namespace tutti::test {

/// Draws an input; floating inputs are fp64.
inline Tensor draw(const cases::Input& input, Random& random) {
  using Draw = cases::Input::Draw;
  const Tensor values = Tensor::empty(input.shape, DType::kFloat64, stream());
  for (double& value : values.span<double>()) {
    switch (input.draw) {
      case Draw::kNormal:
        value = input.high * random.normal();
        break;
      case Draw::kUniform:
        value = random.uniform(input.low, input.high);
        break;
      case Draw::kTwoSided:
        value = random.uniform(input.low, input.high) * (random.integer(0, 1) == 0 ? -1 : 1);
        break;
      case Draw::kIntegers:
        value = static_cast<double>(
            random.integer(static_cast<int64_t>(input.low), static_cast<int64_t>(input.high)));
        break;
    }
    if (input.replaced_share > 0 && random.uniform() < input.replaced_share) value = input.replacement;
  }
  return values.to(input.dtype, stream());
}

inline std::vector<Tensor> draw(const cases::OpCase& row, Random& random) {
  std::vector<Tensor> inputs;
  for (const cases::Input& input : row.inputs) inputs.push_back(draw(input, random));
  return inputs;
}

/// The rows for any of `checks`.
inline std::vector<cases::OpCase> rows_for(int checks) {
  std::vector<cases::OpCase> rows = cases::op_cases();
  std::erase_if(rows, [checks](const cases::OpCase& row) { return (row.checks & checks) == 0; });
  return rows;
}

/// The name of a row's test, such as "layer_norm_3_5_5": gtest supports letters, digits and underscores.
inline std::string row_name(const ::testing::TestParamInfo<cases::OpCase>& info) {
  std::string name = info.param.op;
  for (const char c : info.param.what) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      name += c;
    else if (c == '-')
      name += "minus";
    else if (name.back() != '_')
      name += '_';
  }
  while (name.back() == '_') name.pop_back();
  return name;
}

/// A fixture for tests of one row.
class OpTest : public RandomTest, public ::testing::WithParamInterface<cases::OpCase> {
 protected:
  const cases::OpCase& row() const { return GetParam(); }
  std::vector<Tensor> inputs() { return draw(row(), random); }
};

}  // namespace tutti::test
