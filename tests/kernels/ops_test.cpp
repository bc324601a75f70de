// All ops on the CPU, from the table of kernels/cases: values, gradients, precisions, instruction sets and
// numbers of threads. Other properties of an op are tested in its own file.
#include "tests/kernels/op_rows.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

namespace tutti::test {
namespace {

using cases::OpCase;

class Values : public OpTest {};
class Gradients : public OpTest {};
class Precisions : public OpTest {};

std::vector<OpCase> rows_with_elements() {
  std::vector<OpCase> rows = cases::op_cases();
  std::erase_if(rows, [](const OpCase& row) { return !row.element; });
  return rows;
}

TEST_P(Values, MatchTheDefinition) {
  const std::vector<Tensor> in = inputs();
  Tape tape(stream(), row().context, Tape::Mode::kInference);
  std::vector<Var> vars;
  for (const Tensor& x : in) vars.emplace_back(x);
  const Tensor y = row().apply(tape, vars).value;
  const std::vector<double> actual = to_doubles(y);
  std::vector<std::vector<double>> operands;
  for (const Tensor& x : in) operands.push_back(to_doubles(x.expand(y.shape())));
  for (size_t i = 0; i < actual.size(); ++i) {
    std::vector<double> x;
    for (const auto& operand : operands) x.push_back(operand.at(i));
    const double expected = row().element(x);
    ASSERT_NEAR(actual[i], expected, row().element_error * (1 + std::abs(expected))) << "at " << x[0];
  }
}

TEST_P(Gradients, MatchFiniteDifferences) {
  GradCheckOptions options;
  options.relative = row().relative;
  options.max_elements = row().max_elements;
  options.kinks = row().kinks;
  options.context = row().context;
  for (size_t i = 0; i < row().inputs.size(); ++i) {
    if (!row().inputs[i].differentiable) options.constants.push_back(i);
  }
  check_gradients(row().apply, inputs(), random, options);
}

TEST_P(Precisions, AreCloseToFp64OnAnyThreads) {
  check_precisions(row().apply, inputs(), random, row().tolerance, row().context);
}

INSTANTIATE_TEST_SUITE_P(Ops, Values, ::testing::ValuesIn(rows_with_elements()), row_name);
INSTANTIATE_TEST_SUITE_P(Ops, Gradients, ::testing::ValuesIn(rows_for(cases::kDifferences)), row_name);
INSTANTIATE_TEST_SUITE_P(Ops, Precisions, ::testing::ValuesIn(rows_for(cases::kPrecisions)), row_name);

/// The ops that public headers declare: functions whose first parameter is a tape and whose result is a Var.
/// The ops of fp8.h have separate tests, as they need ranges and support only bf16.
std::set<std::string> declared_ops() {
  std::set<std::string> ops;
  for (const auto& file : std::filesystem::directory_iterator(TUTTI_KERNEL_HEADERS)) {
    if (file.path().filename() == "fp8.h") continue;
    std::ifstream in(file.path());
    const std::string text(std::istreambuf_iterator<char>(in), {});
    const std::regex declaration(R"(\n(?:Var|AddNorm) (\w+)\(Tape& )");
    for (std::sregex_iterator at(text.begin(), text.end(), declaration), end; at != end; ++at)
      ops.insert((*at)[1]);
  }
  return ops;
}

TEST(OpTable, EveryOpHasARowForEveryCheck) {
  std::map<std::string, int> checks;
  for (const OpCase& row : cases::op_cases()) checks[row.op] |= row.checks;
  const std::set<std::string> ops = declared_ops();
  EXPECT_GE(ops.size(), 40U);
  for (const std::string& op : ops)
    EXPECT_EQ(checks[op], cases::kDifferences | cases::kPrecisions | cases::kCuda)
        << "kernels/cases has no row of " << op << " for some check";
  for (const auto& [op, unused] : checks) EXPECT_TRUE(ops.contains(op)) << op << " is not an op";
}

TEST(OpTable, RowNamesAreUnique) {
  std::set<std::string> names;
  for (const OpCase& row : cases::op_cases())
    EXPECT_TRUE(names.insert(row.op + ": " + row.what).second) << row.op << ": " << row.what;
}

}  // namespace
}  // namespace tutti::test
