#include <tutti/comm/fit.h>
#include <tutti/comm/threads.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/reduce.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

namespace tutti {
namespace {

struct Line : Module {
  Parameter w{.shape = {1, 2}, .init = Init::uniform(1)}, b{.shape = {1}, .init = Init::uniform(1)};
  Line() { register_parameter("w", w), register_parameter("b", b); }
  Var forward(Tape& t, const Var& x) override { return linear(t, x, t.leaf(w), t.leaf(b)); }
};

constexpr int64_t kSamples = 21;  // divisible by no number of ranks but 3

/// Losses of fitting y = 3 a - 2 b + 1, those of all ranks one after the other.
std::vector<double> fit_line(int ranks, int64_t steps) {
  std::mutex mutex;
  std::vector<double> losses;
  run_ranks(ranks, [&](Collective& world) {
    Line line;
    Fit fit(world, line, {.optimizer = {.learning_rate = 0.1, .weight_decay = 0}, .seed = 3});
    std::vector<double> mine;
    while (fit.steps() < steps) {
      mine.push_back(fit.step(kSamples, [&](Tape& tape, const Parallel::Shard& part) {
        std::vector<float> x, y;
        for (int64_t i = part.begin; i < part.end; ++i) {
          const float a = static_cast<float>(i % 5) / 5;
          const float b = static_cast<float>(i % 7) / 7;
          x.insert(x.end(), {a, b});
          y.push_back(3 * a - 2 * b + 1);
        }
        const int64_t n = part.end - part.begin;
        const Var truth(Tensor::from(y, {n, 1}, tape.stream()));
        const Var error = sub(tape, line(tape, Var(Tensor::from(x, {n, 2}, tape.stream()))), truth);
        return scale(tape, sum(tape, square(tape, error)), 1.0 / kSamples);
      }));
    }
    const std::scoped_lock lock(mutex);
    losses.insert(losses.end(), mine.begin(), mine.end());
  });
  return losses;
}

TEST(Fit, LearnsTheSameAtAnyNumberOfRanks) {
  constexpr int64_t kSteps = 300;
  const std::vector<double> alone = fit_line(1, kSteps);
  ASSERT_EQ(alone.size(), static_cast<size_t>(kSteps));
  EXPECT_GT(alone.front(), 0.1);
  EXPECT_LT(alone.back(), 1e-4);
  for (const int ranks : {2, 3, 4}) {
    const std::vector<double> all = fit_line(ranks, kSteps);
    ASSERT_EQ(all.size(), alone.size() * static_cast<size_t>(ranks));
    for (size_t i = 0; i < all.size(); ++i) {
      const double expected = alone[i % alone.size()];
      if (ranks == 3)
        EXPECT_NEAR(all[i], expected, 1e-5);
      else
        EXPECT_EQ(all[i], expected);
    }
  }
}

TEST(Fit, ALossThatIsNotFiniteChangesNothing) {
  run_ranks(2, [](Collective& world) {
    Line line;
    Fit fit(world, line, {.seed = 3});
    const double before = line.b.value.item();
    const auto infinite = [&](Tape& tape, const Parallel::Shard& part) {
      const double factor = part.begin == 0 ? std::numeric_limits<double>::infinity() : 1;
      const Var x(Tensor::full({1, 2}, 1, DType::kFloat32, tape.stream()));
      return scale(tape, sum(tape, line(tape, x)), factor);
    };
    EXPECT_THROW((void)fit.step(kSamples, infinite), Error);
    EXPECT_EQ(fit.steps(), 0);
    EXPECT_EQ(line.b.value.item(), before);
  });
}

TEST(Fit, RefusesSettingsThatMakeNoSense) {
  run_ranks(1, [&](Collective& world) {
    Line line;
    EXPECT_THROW(Fit(world, line, {.optimizer = {.algorithm = "adam"}}), Error);
    EXPECT_THROW(Fit(world, line, {.schedule = {.kind = "linear"}, .schedule_steps = 5}), Error);
    EXPECT_THROW(Fit(world, line, {.schedule = {.kind = "cosine"}}), Error);
    EXPECT_THROW(Fit(world, line, {.threads = 0}), Error);
  });
}

TEST(RunProgram, ReturnsWhatMainReturns) {
  int ranks = 0;
  EXPECT_EQ(run_program("test", [&](Collective& world) { ranks = world.size(); }), 0);
  EXPECT_EQ(ranks, 1);
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_program("test", [](Collective&) { fail("no {}", "luck"); }), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "test: no luck\n");
}

}  // namespace
}  // namespace tutti
