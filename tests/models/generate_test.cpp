#include <tests/models/tiny_models.h>

#include <tutti/models/generate.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace tutti {
namespace {

class GenerateTest : public test::RandomTest {
 protected:
  /// The two transformers with weights that are large enough for tokens to differ.
  static std::vector<ModelConfig> transformers() {
    std::vector<ModelConfig> configs;
    for (auto [name, config] : test::tiny_models()) {
      if (config.kind != "gpt") continue;
      config.gpt.context = 29;
      configs.push_back(config);
    }
    return configs;
  }
  static Gpt& gpt(const test::LiveModel& model) { return dynamic_cast<Gpt&>(model.task->model()); }

  std::vector<int32_t> prompt(const Gpt& model, int64_t length) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < length; ++i) {
      tokens.push_back(static_cast<int32_t>(random.integer(0, model.config().vocabulary - 1)));
    }
    return tokens;
  }

  /// Logits of the last position, from one pass over the whole sequence.
  static std::vector<float> full_logits(Gpt& model, const std::vector<int32_t>& tokens) {
    Tape tape(test::stream(), {.training = false}, Tape::Mode::kInference);
    const Tensor input = Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())}, test::stream());
    const Tensor last = model(tape, Var(input)).value.select(1, input.size(1) - 1);
    const auto values = test::to_doubles(last);
    return {values.begin(), values.end()};
  }
};

TEST_F(GenerateTest, GreedyTokensAreTheSameWithAndWithoutTheCache) {
  for (const ModelConfig& config : transformers()) {
    SCOPED_TRACE(config.gpt.recipe);
    const test::LiveModel model(config, DType::kFloat64, random.seed());
    std::vector<int32_t> tokens = prompt(gpt(model), 4);
    const std::vector<int32_t> cached =
        generate(gpt(model), tokens, {.tokens = config.gpt.context - 4, .temperature = 0}, test::stream());
    ASSERT_EQ(static_cast<int64_t>(cached.size()), config.gpt.context - 4);
    for (const int32_t token : cached) {
      EXPECT_EQ(token, sample_token(full_logits(gpt(model), tokens), {.temperature = 0}, 0));
      tokens.push_back(token);
    }
  }
}

TEST_F(GenerateTest, CachedLogitsMatchThoseOfTheWholeSequence) {
  for (const ModelConfig& config : transformers()) {
    const test::LiveModel live(config, DType::kFloat64, random.seed());
    Gpt& model = gpt(live);
    const Tensor tokens = random.integers({3, 13}, 0, config.gpt.vocabulary - 1);
    Tape tape(test::stream(), {.training = false, .samples = 3}, Tape::Mode::kInference);
    const Tensor whole = model(tape, Var(tokens)).value;
    KvCache cache = model.make_cache(3, test::stream());
    int64_t at = 0;
    for (const int64_t length : {5, 1, 1, 4, 2}) {
      const Tensor logits =
          model.decode(tokens.slice(1, at, at + length).clone(test::stream()), cache, test::stream());
      at += length;
      EXPECT_EQ(cache.used, at);
      test::expect_close(logits, whole.select(1, at - 1), 1e-10, 1e-10);
    }
    EXPECT_THROW((void)model.decode(random.integers({3, 17}, 0, 3), cache, test::stream()), Error);
  }
}

TEST_F(GenerateTest, ContinuesBeyondTheContext) {
  for (const ModelConfig& config : transformers()) {
    const test::LiveModel model(config, DType::kFloat32, random.seed());
    const auto start = prompt(gpt(model), 50);  // longer than the context
    const auto tokens = generate(gpt(model), start, {.tokens = 70, .seed = 4}, test::stream());
    EXPECT_EQ(tokens.size(), 70U);
    EXPECT_EQ(tokens, generate(gpt(model), start, {.tokens = 70, .seed = 4}, test::stream()));
    EXPECT_NE(tokens, generate(gpt(model), start, {.tokens = 70, .seed = 5}, test::stream()));
    int received = 0;
    const auto few =
        generate(gpt(model), start, {.tokens = 70, .seed = 4}, test::stream(), [&](int32_t token) {
          EXPECT_EQ(token, tokens[static_cast<size_t>(received)]);
          return ++received < 5;
        });
    EXPECT_EQ(few.size(), 5U);
    EXPECT_THROW((void)generate(gpt(model), {}, {}, test::stream()), Error);
    const std::vector<int32_t> unknown{static_cast<int32_t>(config.gpt.vocabulary)};
    EXPECT_THROW((void)generate(gpt(model), unknown, {}, test::stream()), Error);
  }
}

TEST_F(GenerateTest, SamplesFollowTheProbabilities) {
  std::vector<float> logits;
  for (int i = 0; i < 6; ++i) logits.push_back(static_cast<float>(random.normal()));
  for (const double temperature : {0.5, 1.0, 2.0}) {
    std::vector<double> expected;
    double total = 0;
    for (const float logit : logits) total += expected.emplace_back(std::exp(logit / temperature));
    std::vector<double> drawn(logits.size());
    constexpr int kDraws = 40000;
    for (int i = 0; i < kDraws; ++i) {
      const SamplingConfig config{.temperature = temperature, .seed = static_cast<int64_t>(random.seed())};
      drawn[static_cast<size_t>(sample_token(logits, config, static_cast<uint64_t>(i)))] += 1.0 / kDraws;
    }
    for (size_t i = 0; i < logits.size(); ++i) {
      // 6 standard deviations of a binomial share.
      const double p = expected[i] / total;
      EXPECT_NEAR(drawn[i], p, 6 * std::sqrt(p * (1 - p) / kDraws));
    }
  }
}

TEST_F(GenerateTest, TopKAndTopPKeepTheMostProbable) {
  const std::vector<float> logits{0.0F, 3.0F, 1.0F, 2.0F,
                                  1.0F};  // probabilities 0.03, 0.59, 0.08, 0.22, 0.08
  const auto support = [&](const SamplingConfig& config) {
    std::set<int32_t> tokens;
    for (uint64_t i = 0; i < 3000; ++i) tokens.insert(sample_token(logits, config, i));
    return tokens;
  };
  EXPECT_EQ(support({}), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(support({.top_k = 1}), (std::set<int32_t>{1}));
  EXPECT_EQ(support({.top_k = 3}), (std::set<int32_t>{1, 2, 3}));  // of the equal ones the first
  EXPECT_EQ(support({.top_k = 9}), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(support({.top_p = 0}), (std::set<int32_t>{1}));
  EXPECT_EQ(support({.top_p = 0.55}), (std::set<int32_t>{1}));
  EXPECT_EQ(support({.top_p = 0.7}), (std::set<int32_t>{1, 3}));
  EXPECT_EQ(support({.temperature = 0}), (std::set<int32_t>{1}));
  EXPECT_THROW((void)sample_token(std::vector<float>{0.0F, std::nanf("")}, {}, 0), Error);
}

}  // namespace
}  // namespace tutti
