#include "kernels/cases/table.h"

#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

namespace tutti::cases {
namespace {

double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

/// Add one row for a new operation.
struct Unary {
  const char* op;
  Var (*apply)(Tape&, const Var&);
  double (*element)(double);
  double low, high;  // range of the inputs
  const char* variant = "";
};

const Unary kUnary[] = {
    {"neg", neg, [](double x) { return -x; }, -3, 3},
    {"exp", exp, [](double x) { return std::exp(x); }, -5, 5},
    {"log", log, [](double x) { return std::log(x); }, 0.1, 5},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.1, 5},
    {"square", square, [](double x) { return x * x; }, -3, 3},
    {"scale", [](Tape& t, const Var& x) { return scale(t, x, -2.5); }, [](double x) { return -2.5 * x; }, -3,
     3},
    {"add_scalar", [](Tape& t, const Var& x) { return add_scalar(t, x, 1.75); },
     [](double x) { return x + 1.75; }, -3, 3},
    {"relu", relu, [](double x) { return x > 0 ? x : 0; }, -3, 3},
    {"gelu", [](Tape& t, const Var& x) { return gelu(t, x); }, [](double x) { return x * normal_cdf(x); }, -6,
     6, "exact"},
    {"gelu", [](Tape& t, const Var& x) { return gelu(t, x, GeluForm::kTanh); },
     [](double x) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
     },
     -6, 6, "tanh"},
    {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, -8, 8},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -8, 8},
    {"tanh", tanh, [](double x) { return std::tanh(x); }, -4, 4},
    {"soft_cap", [](Tape& t, const Var& x) { return soft_cap(t, x, 3); },
     [](double x) { return 3 * std::tanh(x / 3); }, -12, 12},
};

OpCase unary_row(const Unary& u, Input input) {
  OpCase row = make_case(u.op, {std::move(input)},
                         [apply = u.apply](Tape& t, std::span<const Var> v) { return apply(t, v[0]); });
  if (*u.variant != 0) row.what += std::string(", ") + u.variant;
  row.element = [element = u.element](std::span<const double> x) { return element(x[0]); };
  row.element_error = 1e-13;
  return row;
}

struct Binary {
  const char* op;
  Var (*apply)(Tape&, const Var&, const Var&);
  double (*element)(double, double);
};

const Binary kBinary[] = {
    {"add", add, [](double a, double b) { return a + b; }},
    {"sub", sub, [](double a, double b) { return a - b; }},
    {"mul", mul, [](double a, double b) { return a * b; }},
    {"div", div, [](double a, double b) { return a / b; }},
};

OpCase binary_row(const Binary& b, const Shape& left, const Shape& right) {
  OpCase row = make_case(b.op, {normal(left), uniform(right, 0.5, 2)},
                         [apply = b.apply](Tape& t, std::span<const Var> v) { return apply(t, v[0], v[1]); });
  row.element = [element = b.element](std::span<const double> x) { return element(x[0], x[1]); };
  return row;
}

void add_unary(Rows& rows, const Unary& u) {
  // Finite differences are wrong at the kink of relu.
  const bool real = u.low < 0;
  rows.push_back(unary_row(u, real ? two_sided({3, 37}, 1e-3, u.high) : uniform({3, 37}, u.low, u.high))
                     .for_checks(kDifferences));
  rows.push_back(unary_row(u, uniform({0, 3}, u.low, u.high)));
  // More elements than one task, and an incomplete last vector.
  rows.push_back(unary_row(u, uniform({70001}, u.low, u.high)).for_checks(kPrecisions));
  for (const Shape& shape : {Shape{7}, Shape{3, 4099}, Shape{64, 768}, Shape{5, 1001}})
    rows.push_back(unary_row(u, real ? normal(shape, 2) : uniform(shape, 0.5, 3)).for_checks(kCuda));
}

void add_binary(Rows& rows, const Binary& b) {
  const std::pair<Shape, Shape> small[] = {
      {{5, 7}, {5, 7}},    {{4, 3, 5}, {5}},    {{5}, {2, 3, 5}},
      {{4, 3, 5}, {3, 1}}, {{4, 1, 5}, {3, 1}}, {{2, 1, 3, 1}, {4, 1, 6}},
      {{}, {3, 4}},        {{1, 1}, {1}},       {{2, 3, 4, 5}, {1, 3, 1, 1}},
      {{7, 1}, {1, 9}}};
  for (const auto& [x, y] : small) rows.push_back(binary_row(b, x, y).for_checks(kDifferences));
  const std::pair<Shape, Shape> large[] = {
      {{129, 515}, {129, 515}}, {{129, 515}, {515}}, {{129, 515}, {129, 1}}, {{3, 40, 301}, {40, 1}}};
  for (const auto& [x, y] : large) rows.push_back(binary_row(b, x, y).for_checks(kPrecisions));
  const std::pair<Shape, Shape> cuda[] = {{{3, 40}, {3, 40}},       {{5, 1001}, {5, 1001}}, {{7, 33}, {33}},
                                          {{4, 1, 6}, {4, 5, 1}},   {{1}, {2, 3}},          {{}, {17}},
                                          {{3, 1, 5, 1}, {2, 1, 7}}};
  for (const auto& [x, y] : cuda) rows.push_back(binary_row(b, x, y).for_checks(kCuda));
  rows.push_back(binary_row(b, {0, 3}, {3}).for_checks(kDifferences | kPrecisions));
}

}  // namespace

void add_pointwise_rows(Rows& rows) {
  for (const Unary& u : kUnary) add_unary(rows, u);
  const Unary& soft_cap = *std::find_if(std::begin(kUnary), std::end(kUnary),
                                        [](const Unary& u) { return std::string_view(u.op) == "soft_cap"; });
  rows.push_back(unary_row(soft_cap, normal({5, 6}, 40)).for_checks(kValues));
  for (const Binary& b : kBinary) add_binary(rows, b);
  rows.push_back(make_case("mul", {normal({3, 5})}, [](Tape& t, std::span<const Var> v) {
                   return mul(t, v[0], v[0]);
                 }).with("the same input twice"));
  rows.push_back(make_case("add", {normal({3, 5})}, [](Tape& t, std::span<const Var> v) {
                   return add(t, v[0], v[0]);
                 }).with("the same input twice"));
}

void add_timed_pointwise(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape shape{s.tokens, s.width};
  rows.push_back({.name = "add",
                  .shape = size_text(shape),
                  .forward = {.bytes = 3 * count(numel(shape)) * e},
                  .backward = {},
                  .row = binary_row(kBinary[0], shape, shape)});
}

}  // namespace tutti::cases
