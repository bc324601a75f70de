#include <tutti/kernels/attention.h>
#include <tutti/kernels/rotary.h>
#include "kernels/row/rotary.h"

#include <tests/kernels/gradcheck.h>

#include <algorithm>
#include <limits>

namespace tutti {
namespace {

using test::expect_close;
using test::expect_same_bits;
using test::stream;

class AttentionTest : public test::RandomTest {};

/// Attention by its definition in fp64.
Tensor reference_attention(const Tensor& qkv, const AttentionConfig& c) {
  const auto x = test::to_doubles(qkv);
  const int64_t batch = qkv.size(0);
  const int64_t length = qkv.size(1);
  const int64_t width = qkv.size(2);
  const int64_t d = width / (c.heads + 2 * c.kv_heads);
  const double scale = c.scale == 0 ? 1 / std::sqrt(double(d)) : c.scale;
  std::vector<double> y;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kv = c.heads * d + h / (c.heads / c.kv_heads) * d;
        const int64_t visible = c.causal ? t + 1 : length;
        const auto at = [&](int64_t row, int64_t column) {
          return x[size_t((b * length + row) * width + column)];
        };
        std::vector<double> p;
        const int64_t hidden = c.window == 0 ? 0 : std::max<int64_t>(0, t + 1 - c.window);
        for (int64_t s = 0; s < visible; ++s) {
          double dot = 0;
          for (int64_t i = 0; i < d; ++i) dot += at(t, h * d + i) * at(s, kv + i);
          const double score = c.softcap > 0 ? c.softcap * std::tanh(dot * scale / c.softcap) : dot * scale;
          p.push_back(s < hidden ? -std::numeric_limits<double>::infinity() : score);
        }
        const double largest = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& v : p) sum += v = std::exp(v - largest);
        for (int64_t i = 0; i < d; ++i) {
          double out = 0;
          for (int64_t s = 0; s < visible; ++s) out += p[size_t(s)] / sum * at(s, kv + c.kv_heads * d + i);
          y.push_back(out);
        }
      }
    }
  }
  return Tensor::from(y, {batch, length, c.heads * d}, stream());
}

struct Case {
  int64_t batch, length, head_dim;
  AttentionConfig config;
};
const Case kCases[] = {
    {1, 1, 1, {.heads = 1, .kv_heads = 1}},
    {2, 5, 3, {.heads = 2, .kv_heads = 1}},
    {2, 67, 8, {.heads = 3, .kv_heads = 3, .causal = false}},
    {1, 300, 16, {.heads = 4, .kv_heads = 2, .causal = true, .scale = 0.3}},
    {1, 129, 5, {.heads = 2, .kv_heads = 1, .causal = false}},
    {2, 9, 3, {.heads = 2, .kv_heads = 1, .window = 1}},
    {1, 70, 4, {.heads = 2, .kv_heads = 2, .window = 7}},
    {1, 330, 6, {.heads = 4, .kv_heads = 2, .scale = 0.3, .window = 65}},
    {1, 200, 6, {.heads = 2, .kv_heads = 1, .window = 200}},
    {2, 40, 5, {.heads = 2, .kv_heads = 1, .scale = 0.7, .softcap = 1.5}},
    {1, 131, 8, {.heads = 3, .kv_heads = 1, .window = 50, .softcap = 2}},
};

Shape qkv_shape(const Case& c) {
  return {c.batch, c.length, (c.config.heads + 2 * c.config.kv_heads) * c.head_dim};
}

TEST_F(AttentionTest, MatchesTheReference) {
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const double tolerance = dtype == DType::kFloat64 ? 1e-10 : dtype == DType::kFloat32 ? 1e-5 : 3e-2;
    for (const Case& c : kCases) {
      const Tensor qkv = random.normal(qkv_shape(c), 1, dtype);
      Tape tape(stream(), {}, Tape::Mode::kInference);
      SCOPED_TRACE(fmt::format("{} length {}", name(dtype), c.length));
      expect_close(attention(tape, Var(test::strided_copy(qkv)), c.config).value,
                   reference_attention(qkv, c.config), tolerance, tolerance);
    }
  }
}

TEST_F(AttentionTest, LargeScoresStayFinite) {
  // Scores of several hundred, whose exp overflows; their error in fp32 is 1e-4.
  const Tensor qkv = random.normal({1, 70, 3 * 4}, 15, DType::kFloat32);
  Tape tape(stream());
  const Var x = tape.variable(qkv);
  const Var y = attention(tape, x, {.heads = 1, .kv_heads = 1});
  expect_close(y.value, reference_attention(qkv, {.heads = 1, .kv_heads = 1}), 2e-3, 2e-2);
  tape.backward(y);
  const Tensor gradient = tape.gradient(x);
  for (const float g : gradient.span<float>()) ASSERT_TRUE(std::isfinite(g));
}

TEST_F(AttentionTest, WindowLimits) {
  const Tensor qkv = random.normal({1, 70, 3 * 4});
  Tape tape(stream(), {}, Tape::Mode::kInference);
  // A window of at least the sequence has the same bits as no window; positions outside a window have no
  // effect.
  const Tensor all = attention(tape, Var(qkv), {}).value;
  for (const int64_t window : {70, 71, 1000})
    expect_same_bits(attention(tape, Var(qkv), {.window = window}).value, all);
  const Tensor other = qkv.clone(stream());
  fill(other.slice(1, 0, 40), 1e3, stream());
  expect_same_bits(attention(tape, Var(other), {.window = 6}).value.slice(1, 45, 70).clone(stream()),
                   attention(tape, Var(qkv), {.window = 6}).value.slice(1, 45, 70).clone(stream()));
  EXPECT_THROW(attention(tape, Var(qkv), {.causal = false, .window = 5}), Error);
  EXPECT_THROW(attention(tape, Var(qkv), {.window = -1}), Error);
  EXPECT_THROW(attention(tape, Var(qkv), {.softcap = -1}), Error);
}

TEST_F(AttentionTest, CacheMatchesTheWholeSequence) {
  for (const auto& [window, softcap] : {std::pair{0, 0.0}, {3, 0.0}, {70, 0.0}, {0, 2.0}, {5, 0.5}})
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const AttentionConfig config{.heads = 4, .kv_heads = 2, .window = window, .softcap = softcap};
      const int64_t length = 75;
      const Tensor qkv = random.normal({2, length, 8 * 6}, 1, dtype);
      const Tensor k = Tensor::full({2, 80, 12}, std::nan(""), dtype, stream());
      const Tensor v = Tensor::full({2, 80, 12}, std::nan(""), dtype, stream());
      const Tensor expected = reference_attention(qkv, config);
      int64_t used = 0;
      for (const int64_t step : {1, 2, 65, 1, 6}) {
        const Tensor y = attention_with_cache(stream(), qkv.slice(1, used, used + step), k, v, used, config);
        const double tolerance = dtype == DType::kFloat32 ? 1e-5 : 3e-2;
        expect_close(y, expected.slice(1, used, used + step), tolerance, tolerance);
        used += step;
      }
      EXPECT_THROW((void)attention_with_cache(stream(), qkv.slice(1, 0, 6), k, v, 75, config), Error);
      EXPECT_THROW((void)attention_with_cache(stream(), qkv, k, v.slice(0, 0, 1), 0, config), Error);
    }
}

TEST_F(AttentionTest, RefusesWrongShapes) {
  Tape tape(stream());
  EXPECT_THROW(attention(tape, Var(random.normal({2, 3, 10})), {.heads = 2, .kv_heads = 1}), Error);
  EXPECT_THROW(attention(tape, Var(random.normal({2, 3, 12})), {.heads = 3, .kv_heads = 2}), Error);
  EXPECT_THROW(attention(tape, Var(random.normal({3, 12})), {.heads = 1, .kv_heads = 1}), Error);
  EXPECT_THROW(rotary(tape, Var(random.normal({1, 2, 9})), {.heads = 1, .kv_heads = 1}), Error);
}

// Frequencies for a head dim of 16 and attention factors, from transformers 5.24 (modeling_rope_utils.py).
TEST_F(AttentionTest, RotaryScalingsMatchTransformers) {
  using Kind = RotaryScaling::Kind;
  struct Row {
    RotaryScaling scaling;
    double base;
    std::vector<double> frequencies;
    double amplitude;
  };
  const Row rows[] = {
      {{.kind = Kind::kLinear, .factor = 4},
       10000.0,
       {0.25, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012,
        7.90569466e-05},
       1.0},
      {{.kind = Kind::kLlama3, .factor = 8, .original_context = 8192},
       500000.0,
       {1, 0.193922758, 0.0376060307, 0.00729266508, 0.000524846022, 3.42810235e-05, 6.64786967e-06,
        1.28917316e-06},
       1.0},
      {{.kind = Kind::kLlama3, .factor = 32, .original_context = 64},
       10000.0,
       {1, 0.236687109, 0.00372535503, 0.000988211832, 0.000312499993, 9.88211832e-05, 3.12500015e-05,
        9.88211832e-06},
       1.0},
      {{.kind = Kind::kYarn, .factor = 4, .original_context = 4096},
       10000.0,
       {1, 0.316227764, 0.100000001, 0.025693506, 0.00624999963, 0.00138349656, 0.000250000012,
        7.90569466e-05},
       1.138629436111989},
      {{.kind = Kind::kYarn,
        .factor = 40,
        .original_context = 512,
        .beta_fast = 16,
        .beta_slow = 2,
        .attention_factor = 0.7},
       1000000.0,
       {1, 0.120033853, 0.0110679725, 0.000140585325, 2.49999994e-05, 4.44569832e-06, 7.90569402e-07,
        1.40585328e-07},
       0.7},
  };
  for (const Row& row : rows) {
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_NEAR(row::rotary_frequency(row.scaling, row.base, int64_t(i), 16), row.frequencies[i],
                  5e-7 * row.frequencies[i]);
    }
    EXPECT_NEAR(row.scaling.amplitude(), row.amplitude, 1e-12);
  }
  Tape tape(stream());
  const Var x(random.normal({1, 2, 12}));
  EXPECT_THROW(rotary(tape, x, {.scaling = {.kind = Kind::kLlama3, .factor = 8}}), Error);
  EXPECT_THROW(rotary(tape, x, {.scaling = {.kind = Kind::kLinear, .factor = 0}}), Error);
}

TEST_F(AttentionTest, RotaryRotatesQueriesAndKeys) {
  const RotaryConfig config{.heads = 2, .kv_heads = 1, .base = 100, .first_position = 3};
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const Tensor x = random.normal({2, 5, 4 * 6}, 1, dtype);
    auto v = test::to_doubles(x);
    for (size_t row = 0; row < 10; ++row) {
      for (size_t head = 0; head < 3; ++head) {
        for (size_t i = 0; i < 3; ++i) {
          const double angle = double(3 + row % 5) * std::pow(100.0, -2.0 * double(i) / 6);
          double& a = v[row * 24 + head * 6 + i];
          double& b = v[row * 24 + head * 6 + 3 + i];
          const double p = a;
          const double q = b;
          a = p * std::cos(angle) - q * std::sin(angle);
          b = q * std::cos(angle) + p * std::sin(angle);
        }
      }
    }
    Tape tape(stream(), {}, Tape::Mode::kInference);
    const double tolerance = dtype == DType::kFloat64 ? 1e-12 : dtype == DType::kFloat32 ? 1e-6 : 1e-2;
    expect_close(rotary(tape, Var(test::strided_copy(x)), config).value, Tensor::from(v, x.shape(), stream()),
                 tolerance, tolerance);
  }
}

}  // namespace
}  // namespace tutti
