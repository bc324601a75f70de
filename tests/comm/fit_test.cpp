#include <tutti/comm/fit.h>
#include <tutti/comm/threads.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/reduce.h>
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <vector>

namespace tutti {
namespace {

struct Line : Module {
  Parameter w{.shape = {1, 2}, .init = Init::uniform(1)}, b{.shape = {1}, .init = Init::uniform(1)};
  Line() { register_parameter("w", w), register_parameter("b", b); }
  Var forward(Tape& t, const Var& x) override { return linear(t, x, t.leaf(w), t.leaf(b)); }
};

constexpr int64_t kSamples = 21;  // among the numbers of ranks divisible only by 3

/// Sum of squared errors of y = 3 a - 2 b + 1 over samples.
Var squares(Tape& tape, Line& line, const std::vector<int64_t>& samples) {
  std::vector<float> x, y;
  for (const int64_t i : samples) {
    const float a = static_cast<float>(i % 5) / 5;
    const float b = static_cast<float>(i % 7) / 7;
    x.insert(x.end(), {a, b});
    y.push_back(3 * a - 2 * b + 1);
  }
  const auto n = static_cast<int64_t>(samples.size());
  const Var truth(Tensor::from(y, {n, 1}, tape.stream()));
  const Var error = sub(tape, line(tape, Var(Tensor::from(x, {n, 2}, tape.stream()))), truth);
  return sum(tape, square(tape, error));
}

Var squares(Tape& tape, Line& line, int64_t begin, int64_t end) {
  std::vector<int64_t> samples(static_cast<size_t>(end - begin));
  std::iota(samples.begin(), samples.end(), begin);
  return squares(tape, line, samples);
}

double step(Fit& fit, Line& line) {
  return fit.step(kSamples, [&](Tape& tape, const Parallel::Shard& part) {
    return scale(tape, squares(tape, line, part.begin, part.end), 1.0 / kSamples);
  });
}

FitOptions line_options(int64_t microbatch = 0) {
  return {.optimizer = {.learning_rate = 0.1, .weight_decay = 0}, .microbatch = microbatch, .seed = 3};
}

/// Losses of fitting, concatenated over all ranks.
std::vector<double> fit_line(int ranks, int64_t steps, int64_t microbatch = 0) {
  std::mutex mutex;
  std::vector<double> losses;
  run_ranks(ranks, [&](Collective& world) {
    Line line;
    Fit fit(world, line, line_options(microbatch));
    std::vector<double> mine;
    while (fit.steps() < steps) mine.push_back(step(fit, line));
    const std::scoped_lock lock(mutex);
    losses.insert(losses.end(), mine.begin(), mine.end());
  });
  return losses;
}

TEST(Fit, LearnsTheSameForAnyNumberOfRanks) {
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

TEST(Fit, MicrobatchesAddUpToTheStep) {
  const std::vector<double> whole = fit_line(1, 20);
  const std::vector<double> cut = fit_line(1, 20, 2);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(cut[i], whole[i], 1e-6 * (1 + whole[i]));
  const std::vector<double> two = fit_line(2, 20, 2);
  for (size_t i = 0; i < two.size(); ++i) EXPECT_EQ(two[i], cut[i % cut.size()]);
  run_ranks(1, [&](Collective& world) {
    Line line;
    Fit fit(world, line, line_options(2));
    std::vector<int64_t> ends;
    (void)fit.step(kSamples, [&](Tape& tape, const Parallel::Shard& part) {
      EXPECT_LE(part.end - part.begin, 2);
      EXPECT_EQ(part.begin, ends.empty() ? 0 : ends.back());
      EXPECT_EQ(tape.context().first_sample, part.begin);
      EXPECT_EQ(tape.context().samples, part.end - part.begin);
      ends.push_back(part.end);
      return scale(tape, squares(tape, line, part.begin, part.end), 1.0 / kSamples);
    });
    EXPECT_EQ(ends.back(), kSamples);
  });
}

TEST(Fit, EvaluatesTheSameForAnyNumberOfRanks) {
  std::vector<double> found;
  std::mutex mutex;
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](Collective& world) {
      Line line;
      Fit fit(world, line, line_options(3));
      (void)step(fit, line);
      const EvaluationSums sums = fit.evaluate(kSamples, [&](Tape& tape, const Parallel::Shard& part) {
        EXPECT_FALSE(tape.recording());
        EXPECT_FALSE(tape.context().training);
        const double n = static_cast<double>(part.end - part.begin);
        return EvaluationSums{
            .loss = squares(tape, line, part.begin, part.end).value.item(), .correct = n / 2, .count = n};
      });
      EXPECT_EQ(sums.count, kSamples);
      EXPECT_EQ(sums.correct, kSamples / 2.0);
      // The next step computes the loss of the same weights.
      EXPECT_NEAR(sums.loss / kSamples, step(fit, line), 1e-6);
      const std::scoped_lock lock(mutex);
      found.push_back(sums.loss);
    });
  }
  EXPECT_EQ(found[1], found[0]);
  for (const double loss : found) EXPECT_NEAR(loss, found[0], 1e-5);
}

/// Saves after half of the steps on `ranks_before` and resumes on `ranks_after`; returns the last loss.
double saved_and_resumed(int ranks_before, int ranks_after, const ParallelConfig& parallel,
                         const std::filesystem::path& dir) {
  FitOptions options = line_options();
  options.precision.compute = DType::kFloat32;
  options.parallel = parallel;
  std::atomic<double> last = 0;
  run_ranks(ranks_before, [&](Collective& world) {
    Line line;
    Fit fit(world, line, options);
    Checkpoints checkpoints({.dir = dir}, fit.peers(), {});
    EXPECT_FALSE(fit.resume(checkpoints));
    while (fit.steps() < 5) (void)step(fit, line);
    fit.save(checkpoints);
  });
  run_ranks(ranks_after, [&](Collective& world) {
    Line line;
    Fit fit(world, line, options);
    Checkpoints checkpoints({.dir = dir}, fit.peers(), {});
    EXPECT_TRUE(fit.resume(checkpoints));
    EXPECT_EQ(fit.steps(), 5);
    double loss = 0;
    while (fit.steps() < 10) loss = step(fit, line);
    if (world.rank() == 0) last = loss;
  });
  return last;
}

TEST(Fit, ResumesOnAnotherNumberOfRanksWithShardedState) {
  const std::vector<double> undisturbed = fit_line(1, 10);
  const TemporaryDirectory folder;
  EXPECT_EQ(saved_and_resumed(2, 4, {}, folder / "a"), undisturbed.back());
  EXPECT_EQ(saved_and_resumed(4, 1, {.zero = 1}, folder / "b"), undisturbed.back());
}

TEST(Fit, RefusesToResumeWithAnotherSeed) {
  const TemporaryDirectory folder;
  FitOptions options = line_options();
  for (const uint64_t seed : {3, 4}) {
    options.seed = seed;
    run_ranks(2, [&](Collective& world) {
      Line line;
      Fit fit(world, line, options);
      Checkpoints checkpoints({.dir = folder / "a"}, fit.peers(), {});
      if (seed == 3) {
        (void)step(fit, line);
        fit.save(checkpoints);
        return;
      }
      try {
        (void)fit.resume(checkpoints);
        ADD_FAILURE() << "resumed with another seed";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("was written with seed 3, this run has 4"),
                  std::string::npos);
      }
    });
  }
}

TEST(Fit, ANonFiniteLossChangesNothing) {
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

TEST(Fit, RefusesInvalidSettings) {
  run_ranks(1, [&](Collective& world) {
    Line line;
    EXPECT_THROW(Fit(world, line, {.optimizer = {.algorithm = "adam"}}), Error);
    EXPECT_THROW(Fit(world, line, {.schedule = {.kind = "linear"}, .schedule_steps = 5}), Error);
    EXPECT_THROW(Fit(world, line, {.schedule = {.kind = "cosine"}, .schedule_steps = -1}), Error);
    EXPECT_THROW(Fit(world, line, {.compute = {.threads = -1}}), Error);
    EXPECT_THROW(Fit(world, line, {.compute = {.device = "gpu"}}), Error);
    EXPECT_THROW(Fit(world, line, {.parallel = {.zero = 4}}), Error);
    EXPECT_THROW(Fit(world, line, {.parallel = {.bucket_mib = int64_t{1} << 44}}), Error);  // 2^64 bytes
    EXPECT_THROW(Fit(world, line, {.parallel = {.max_ctas = int64_t{1} << 32}}), Error);
    EXPECT_THROW(Fit(world, line, {.microbatch = -1}), Error);
  });
}

TEST(Fit, AStepNeedsSamplesAndTheLengthOfItsSchedule) {
  run_ranks(2, [](Collective& world) {
    Line line;
    FitOptions options = line_options();
    options.optimizer.weight_decay = 0.1;
    options.schedule.kind = "cosine";
    const auto loss = [&](Tape& tape, const Parallel::Shard& part) {
      return squares(tape, line, part.begin, part.end);
    };
    {
      Fit fit(world, line, options);
      EXPECT_THROW((void)fit.step(kSamples, loss), Error);
    }
    options.schedule_steps = 5;
    Fit fit(world, line, options);
    const double before = line.w.value.select(1, 0).item();
    for (const int64_t samples : {0, -5}) EXPECT_THROW((void)fit.step(samples, loss), Error);
    EXPECT_THROW((void)fit.evaluate(-1, [](Tape&, const auto&) { return EvaluationSums{}; }), Error);
    EXPECT_EQ(fit.steps(), 0);
    EXPECT_EQ(line.w.value.select(1, 0).item(), before);  // not even decayed
    (void)fit.step(1, loss);                              // fewer samples than ranks
    EXPECT_EQ(fit.steps(), 1);
  });
}

/// Points of the line, one per sample.
class Points final : public Dataset {
 public:
  /// Sample `damaged` cannot be read.
  explicit Points(int64_t size, int64_t damaged = -1) : size_(size), damaged_(damaged) {}
  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] Shape sample_shape() const override { return {1}; }
  [[nodiscard]] int64_t classes() const override { return 1; }
  [[nodiscard]] int64_t predictions(int64_t) const override { return 1; }
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey, const Stream& stream) const override {
    const auto n = static_cast<int64_t>(ids.size());
    for (const int64_t id : ids) require(id != damaged_, "sample {} is damaged", id);
    std::vector<float> numbers(ids.begin(), ids.end());
    Batch batch;
    batch.inputs = Tensor::from(numbers, {n, 1}, stream);
    batch.targets = Tensor::zeros({n}, DType::kInt32, stream);
    return batch;
  }

 private:
  int64_t size_, damaged_;
};

class LineTask final : public Task {
 public:
  Module& model() override { return line; }
  [[nodiscard]] double predictions(const Batch& batch) const override {
    return static_cast<double>(batch.samples());
  }
  Var loss(Tape& tape, const Batch& batch, double factor) override {
    return scale(tape, squares(tape, line, ids(batch)), factor);
  }
  EvaluationSums evaluate(const Stream& stream, const Batch& batch) override {
    Tape tape(stream, {.training = false}, Tape::Mode::kInference);
    const double n = predictions(batch);
    return {.loss = squares(tape, line, ids(batch)).value.item(), .correct = n, .count = n};
  }
  [[nodiscard]] double flops_per_sample() const override { return 1; }

  Line line;

 private:
  static std::vector<int64_t> ids(const Batch& batch) {
    std::vector<int64_t> all;
    for (const float id : batch.inputs.span<float>()) all.push_back(static_cast<int64_t>(id));
    return all;
  }
};

struct Steps final : Observer {
  void on_step(const StepReport& report) override { losses.push_back(report.loss); }
  void on_evaluation(const EvaluationReport& report) override { evaluations.push_back(report.loss); }
  void on_checkpoint(const CheckpointReport& report) override {
    EXPECT_EQ(report.error, "");
    ++checkpoints;
  }
  std::vector<double> losses;
  std::vector<double> evaluations;
  int checkpoints = 0;
};

/// Trains LineTask on `ranks`; returns the result of rank 0.
Steps run_task(int ranks, const FitRun& requested, FitOptions options = line_options(2)) {
  Steps seen;
  run_ranks(ranks, [&](Collective& world) {
    LineTask task;
    Steps mine;
    FitRun run = requested;
    run.observers = {&mine};
    Fit fit(world, task.line, options);
    const TrainResult result = fit.run(task, run);
    EXPECT_EQ(result.reason, TrainResult::Reason::kCompleted);
    EXPECT_EQ(fit.steps(), run.steps);
    if (world.rank() == 0) seen = mine;
  });
  return seen;
}

TEST(Fit, RunsATaskWithEvaluationsAndCheckpointsAndResumes) {
  const TemporaryDirectory folder;
  FitRun run{.training = std::make_shared<Points>(23),
             .validation = std::make_shared<Points>(9),
             .steps = 12,
             .batch = 7,
             .evaluate_every = 4,
             .checkpoint = {.dir = folder / "a", .every = 5, .every_s = 0},
             .note = [](const std::string&) {}};
  const Steps whole = run_task(1, run);
  EXPECT_EQ(whole.losses.size(), 12);
  ASSERT_EQ(whole.evaluations.size(), 3);
  EXPECT_LT(whole.evaluations.back(), whole.evaluations.front());
  EXPECT_EQ(whole.checkpoints, 3);

  run.checkpoint.dir = folder / "b";
  run.steps = 5;
  const Steps begun = run_task(2, run);
  run.steps = 12;
  const Steps resumed = run_task(4, run);
  ASSERT_EQ(resumed.losses.size(), 7);
  for (size_t i = 0; i < 12; ++i)
    EXPECT_EQ(i < 5 ? begun.losses[i] : resumed.losses[i - 5], whole.losses[i]) << i;
}

TEST(Fit, ARunRefusesMismatchedTasksAndData) {
  const TemporaryDirectory folder;
  FitRun run{.training = std::make_shared<Points>(23),
             .steps = 3,
             .batch = 7,
             .checkpoint = {.dir = folder / "a"},
             .note = [](const std::string&) {}};
  (void)run_task(2, run);
  run_ranks(2, [&](Collective& world) {
    LineTask task;
    Line other;
    {
      Fit fit(world, other, line_options());
      EXPECT_THROW((void)fit.run(task, run), Error);  // another model
    }
    Fit fit(world, task.line, line_options());
    EXPECT_THROW((void)fit.run(task, {}), Error);  // no data
    FitRun changed = run;
    changed.batch = 8;  // the order of data would change
    EXPECT_THROW((void)fit.run(task, changed), Error);
    changed = run;
    changed.training = std::make_shared<Points>(24);
    EXPECT_THROW((void)fit.run(task, changed), Error);
    changed = run;
    changed.resume = false;  // its checkpoints would be replaced
    EXPECT_THROW((void)fit.run(task, changed), Error);
    EXPECT_EQ(fit.steps(), 0);
  });
}

TEST(Fit, ARunHasItsOwnScheduleLength) {
  FitOptions options = line_options(2);
  options.schedule = {.kind = "cosine", .final_ratio = 0};
  const FitRun run{.training = std::make_shared<Points>(23), .steps = 4, .batch = 7};
  const Steps without = run_task(1, run, options);
  options.schedule_steps = 1;  // of step()
  EXPECT_EQ(run_task(1, run, options).losses, without.losses);
}

TEST(Fit, AFinishedRunIsEvaluatedAgain) {
  const TemporaryDirectory folder;
  const FitRun run{.training = std::make_shared<Points>(23),
                   .validation = std::make_shared<Points>(9),
                   .steps = 5,
                   .batch = 7,
                   .checkpoint = {.dir = folder / "a"},
                   .note = [](const std::string&) {}};
  const Steps trained = run_task(2, run);
  ASSERT_EQ(trained.evaluations.size(), 1);
  const Steps again = run_task(2, run);
  EXPECT_TRUE(again.losses.empty());
  EXPECT_EQ(again.evaluations, trained.evaluations);
}

TEST(Fit, ARunThatThrowsHasCountedItsSteps) {
  run_ranks(2, [](Collective& world) {
    LineTask task;
    Steps seen;
    Fit fit(world, task.line, line_options());
    FitRun run{.training = std::make_shared<Points>(23, 11), .steps = 8, .batch = 4};
    run.observers = {&seen};
    EXPECT_THROW((void)fit.run(task, run), Error);
    const auto done = static_cast<int64_t>(seen.losses.size());
    EXPECT_LT(done, 6);  // steps of an epoch
    EXPECT_EQ(fit.steps(), done);
    run.training = std::make_shared<Points>(23);
    EXPECT_EQ(fit.run(task, run).steps, 8);
    EXPECT_EQ(seen.losses.size(), 8);
  });
}

TEST(Fit, ARunRefusesOtherDataOrStepsOnARank) {
  run_ranks(3, [](Collective& world) {
    const bool other = world.rank() == 1;
    LineTask task;
    Fit fit(world, task.line, line_options());
    const FitRun run{.training = std::make_shared<Points>(23), .steps = 3, .batch = 7};
    FitRun changed = run;
    changed.training = other ? nullptr : std::make_shared<Points>(23);
    EXPECT_THROW((void)fit.run(task, changed), AgreedError);
    changed = run;
    changed.training = std::make_shared<Points>(other ? 20 : 23);
    EXPECT_THROW((void)fit.run(task, changed), AgreedError);
    changed = run;
    changed.steps = other ? 4 : 3;
    EXPECT_THROW((void)fit.run(task, changed), AgreedError);
    EXPECT_EQ(fit.run(task, run).reason, TrainResult::Reason::kCompleted);
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
