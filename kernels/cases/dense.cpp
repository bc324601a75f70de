#include "kernels/cases/table.h"

#include <tutti/kernels/linear.h>
#include <tutti/kernels/matmul.h>
#include <tutti/kernels/mlp.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh, Activation::kSilu};

const char* text(Activation activation) {
  constexpr const char* kNames[] = {"no activation", "relu", "gelu", "gelu_tanh", "silu"};
  return kNames[static_cast<size_t>(activation)];
}

double fan_in(int64_t inputs) {
  return 1 / std::sqrt(static_cast<double>(inputs));
}

/// Inputs: x, w and optionally a bias.
OpCase linear_row(const Shape& x, int64_t outputs, Activation activation, bool bias, double deviation = 1) {
  std::vector<Input> inputs{normal(x), normal({outputs, x.back()}, deviation)};
  if (bias) inputs.push_back(normal({outputs}));
  return make_case("linear", std::move(inputs),
                   [=](Tape& t, Vars v) { return linear(t, v[0], v[1], bias ? v[2] : Var{}, activation); })
      .with(text(activation));
}

OpCase mlp_row(const Shape& x, int64_t hidden, int64_t outputs, Activation activation, bool biases,
               std::array<double, 2> deviations = {1, 1}) {
  const Input w1 = normal({hidden, x.back()}, deviations[0]);
  const Input w2 = normal({outputs, hidden}, deviations[1]);
  OpCase row;
  if (biases) {
    row = make_case("mlp", {normal(x), w1, normal({hidden}), w2, normal({outputs})},
                    [=](Tape& t, Vars v) { return mlp(t, v[0], v[1], v[2], v[3], v[4], activation); });
  } else {
    row = make_case("mlp", {normal(x), w1, w2},
                    [=](Tape& t, Vars v) { return mlp(t, v[0], v[1], Var{}, v[2], Var{}, activation); });
  }
  return std::move(row).with(text(activation));
}

OpCase matmul_row(const Shape& a, const Shape& b, const MatmulOptions& options = {}) {
  return make_case("matmul", {normal(a), normal(b)},
                   [=](Tape& t, Vars v) { return matmul(t, v[0], v[1], options); })
      .with(fmt::format("{}{}", options.transpose_a ? "a transposed " : "",
                        options.transpose_b ? "b transposed" : ""));
}

void add_linear(Rows& rows) {
  for (const Activation activation : kActivations) {
    OpCase row = linear_row({2, 3, 7}, 5, activation, true).for_checks(kDifferences);
    row.kinks = true;
    rows.push_back(std::move(row));
  }
  rows.push_back(linear_row({7}, 3, Activation::kNone, false).for_checks(kDifferences));
  rows.push_back(linear_row({141, 70}, 90, Activation::kGelu, true, 0.1)
                     .for_checks(kPrecisions)
                     .within({.fp32 = 1e-4, .bf16 = 3e-2}));
  rows.push_back(linear_row({515, 200}, 900, Activation::kGeluTanh, true, 0.1)
                     .for_checks(kPrecisions)
                     .within({.fp32 = 1e-4, .bf16 = 3e-2}));
  // Odd sizes with unaligned rows, GPT's widths, one row, and sizes that are large enough for autotuning.
  for (const auto& [batch, inputs, outputs] : std::initializer_list<std::array<int64_t, 3>>{{1, 1, 1},
                                                                                            {3, 17, 5},
                                                                                            {211, 33, 65},
                                                                                            {97, 768, 2304},
                                                                                            {4096, 256, 1000},
                                                                                            {1, 768, 769},
                                                                                            {0, 8, 16}}) {
    const bool many = batch * outputs > 10000;
    for (const Activation activation : kActivations) {
      const bool relu = activation == Activation::kRelu;
      OpCase row = linear_row({batch, inputs}, outputs, activation, true, fan_in(inputs)).for_checks(kCuda);
      // Among millions of sums some are so close to zero that ReLU depends on rounding: a large bias avoids
      // that.
      if (relu) row.inputs[2] = two_sided({outputs}, 20, 25);
      rows.push_back(std::move(row));
      if (relu && many) continue;
      rows.push_back(
          linear_row({batch, inputs}, outputs, activation, false, fan_in(inputs)).for_checks(kCuda));
    }
  }
  // The gradients of the second use are added to those of the first, for weights and inputs.
  for (const int64_t n : {24, 37, 640}) {
    rows.push_back(make_case("linear", {normal({51, n}), normal({n, n}, fan_in(n)), normal({n})},
                             [](Tape& t, Vars v) {
                               return linear(t, linear(t, v[0], v[1], v[2], Activation::kSilu), v[1], v[2]);
                             })
                       .for_checks(kCuda)
                       .within({.fp32 = 4e-5, .bf16 = 4e-2})
                       .with("adds to gradients"));
  }
  rows.push_back(make_case("linear", {not_differentiable(normal({24, 31})), normal({16, 24}), normal({16})},
                           [](Tape& t, Vars v) {
                             const Var transposed(v[0].value.transpose(0, 1));
                             return linear(t, transposed, v[1], v[2], Activation::kRelu);
                           })
                     .for_checks(kCuda)
                     .with("x is not contiguous"));
}

void add_mlp(Rows& rows) {
  for (const Activation activation : kActivations) {
    OpCase row = mlp_row({2, 3, 7}, 5, 4, activation, true).for_checks(kDifferences);
    row.kinks = true;
    rows.push_back(std::move(row));
  }
  rows.push_back(mlp_row({7}, 3, 2, Activation::kGeluTanh, false).for_checks(kDifferences));
  // The gradients of weights that both layers use are summed.
  rows.push_back(
      make_case("mlp", {normal({4, 6}), normal({6, 6}), normal({6})},
                [](Tape& t, Vars v) { return mlp(t, v[0], v[1], v[2], v[1], v[2], Activation::kGeluTanh); })
          .for_checks(kDifferences)
          .with("layers share parameters"));
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh})
    rows.push_back(mlp_row({2, 65, 31}, 70, 33, activation, true, {0.3, 0.3})
                       .for_checks(kPrecisions)
                       .within({.fp32 = 4e-5, .bf16 = 4e-2}));
  // Widths that cuBLASLt's GELU gradient supports, widths that it does not, and GPT's, which are autotuned.
  for (const auto& [batch, inputs, hidden, outputs] :
       std::initializer_list<std::array<int64_t, 4>>{{1, 1, 1, 1},
                                                     {3, 17, 5, 9},
                                                     {211, 64, 256, 64},
                                                     {97, 40, 104, 33},
                                                     {139, 33, 100, 40},
                                                     {2048, 768, 3072, 768},
                                                     {0, 8, 16, 8}}) {
    for (const Activation activation :
         {Activation::kNone, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      for (const bool biases : {true, false})
        rows.push_back(
            mlp_row({batch, inputs}, hidden, outputs, activation, biases, {fan_in(inputs), fan_in(hidden)})
                .for_checks(kCuda)
                .within({.fp32 = 4e-5, .bf16 = 4e-2}));
    }
  }
}

void add_matmul(Rows& rows) {
  const auto batched = [](Shape lead, const Shape& matrix) {
    lead.insert(lead.end(), matrix.begin(), matrix.end());
    return lead;
  };
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const Shape a = ta ? Shape{5, 3} : Shape{3, 5};
      const Shape b = tb ? Shape{4, 5} : Shape{5, 4};
      const MatmulOptions options{ta, tb};
      rows.push_back(matmul_row(a, b, options).for_checks(kDifferences));
      rows.push_back(matmul_row(batched({2, 1}, a), batched({3}, b), options).for_checks(kDifferences));
      rows.push_back(matmul_row(a, batched({2, 2}, b), options).for_checks(kDifferences));
    }
  }
  rows.push_back(matmul_row({3, 1, 131, 33}, {2, 33, 70}).for_checks(kPrecisions));
  struct Case {
    Shape a, b;
    MatmulOptions options;
  };
  for (const Case& c :
       std::initializer_list<Case>{{{5, 7}, {7, 3}, {}},
                                   {{64, 128}, {96, 128}, {.transpose_b = true}},
                                   {{128, 33}, {128, 65}, {.transpose_a = true}},
                                   {{9, 5}, {11, 9}, {.transpose_a = true, .transpose_b = true}},
                                   {{3, 4, 17, 24}, {3, 4, 24, 31}, {}},
                                   {{2, 1, 17, 24}, {3, 31, 24}, {.transpose_b = true}},
                                   {{6, 5, 8}, {8, 7}, {}},
                                   {{5, 8}, {4, 6, 8, 7}, {}},
                                   {{2, 0, 3}, {2, 3, 4}, {}},
                                   {{2, 5, 0}, {2, 0, 4}, {}},
                                   {{512, 512}, {512, 512}, {}}})
    rows.push_back(matmul_row(c.a, c.b, c.options).for_checks(kCuda));
}

}  // namespace

void add_dense_rows(Rows& rows) {
  add_linear(rows);
  add_mlp(rows);
  add_matmul(rows);
}

void add_timed_dense(TimedRows& rows, const KernelSizes& s, double e) {
  const int64_t c = s.width;
  const auto add = [&](const char* name, int64_t batch, std::array<int64_t, 2> sizes, Activation activation,
                       bool bias) {
    const auto [inputs, outputs] = sizes;
    const double flops = 2 * count(batch) * count(inputs) * count(outputs);
    const double bytes = (count(batch * inputs) + count(batch * outputs) + count(inputs * outputs)) * e;
    rows.push_back({.name = name,
                    .shape = fmt::format("{} x {} -> {}", batch, inputs, outputs),
                    .forward = {bytes, flops},
                    .backward = {2 * bytes, 2 * flops},
                    .row = linear_row({batch, inputs}, outputs, activation, bias)});
  };
  add("linear, qkv", s.tokens, {c, 3 * c}, Activation::kNone, true);
  add("linear, projection", s.tokens, {c, c}, Activation::kNone, true);
  add("linear + gelu", s.tokens, {c, 4 * c}, Activation::kGeluTanh, true);
  add("linear, down", s.tokens, {4 * c, c}, Activation::kNone, true);
  // GPT-2's feed-forward layer as one op; its parts are the rows above.
  const int64_t h = 4 * c;
  const double flops = 4 * count(s.tokens) * count(c) * count(h);
  const double bytes = 2 * (count(s.tokens * c) + count(s.tokens * h) + count(c * h)) * e;
  rows.push_back({.name = "mlp, gelu",
                  .shape = fmt::format("{} x {} -> {} -> {}", s.tokens, c, h, c),
                  .forward = {bytes, flops},
                  .backward = {2 * bytes, 2 * flops},
                  .row = mlp_row({s.tokens, c}, h, c, Activation::kGeluTanh, true)});
  add("linear, head", std::min<int64_t>(s.tokens, 32768), {c, s.vocabulary}, Activation::kNone, false);
}

}  // namespace tutti::cases
