#include "tests/core/training_parts.h"
#include "tests/temporary_directory.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/interruption.h>

#include <limits>

namespace tutti {
namespace {

CheckpointReport saved(int64_t step, OlderCheckpoints /*older*/) {
  return {.step = step};
}

TEST_F(TrainerTest, SavesEvaluatesAndStops) {
  Log log;
  TrainerParts p = parts(log);
  p.save = [](int64_t step, OlderCheckpoints) { return CheckpointReport{.step = step}; };
  p.save_every = 2;
  p.validation = [&] { return std::make_unique<Numbers>(*parallel, config.microbatch, stream, 0); };
  p.validation_steps = 3;
  config.evaluate_every = 3;
  const TrainResult result = Trainer(config, schedule, p).run();
  ASSERT_EQ(log.checkpoints.size(), 3U);
  EXPECT_EQ(log.checkpoints[2].step, 5);
  ASSERT_EQ(log.evaluations.size(), 2U);
  EXPECT_EQ(log.evaluations[0].step, 3);
  EXPECT_TRUE(result.evaluated);
  const double w = task.net.weight.value.item();
  double expected = 0;
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < (step == 2 ? 2 : 7); ++i) expected += std::abs(w - 0.1 * (step + i)) / 16;
  }
  EXPECT_NEAR(log.evaluations[1].loss, expected, 1e-12);

  Log stopped;
  TrainerParts again = parts(stopped);
  again.save = [](int64_t step, OlderCheckpoints) { return CheckpointReport{.step = step}; };
  again.stop_requested = [&] { return stopped.steps.size() == 1; };
  EXPECT_EQ(Trainer(config, schedule, again).run().reason, TrainResult::Reason::kStopped);
  EXPECT_EQ(stopped.events, "step1 before1 saved1 ");
}

TEST_F(TrainerTest, FailedSavesEndTheRunOnlyInARow) {
  Log log;
  TrainerParts p = parts(log);
  p.save_every = 1;
  p.save = [](int64_t step, OlderCheckpoints) {
    return CheckpointReport{
        .step = step, .path = "x", .wall_s = 0, .error = step == 2 ? "" : "No space left"};
  };
  EXPECT_THROW(Trainer(config, schedule, p).run(), Error);
  EXPECT_EQ(log.checkpoints.size(), 5U);
}

TEST_F(TrainerTest, AFailedFinalCheckpointIsAnError) {
  const auto fails = [](int64_t step, OlderCheckpoints) {
    return CheckpointReport{.step = step, .error = "No space left"};
  };
  Log log;
  TrainerParts p = parts(log);
  p.save = fails;
  EXPECT_THROW(Trainer(config, schedule, p).run(), AgreedError);
  EXPECT_EQ(log.steps.size(), static_cast<size_t>(config.steps));
  Log stopped;
  TrainerParts stop_parts = parts(stopped);
  stop_parts.save = fails;
  stop_parts.stop_requested = [&] { return stopped.steps.size() == 1; };
  EXPECT_THROW(Trainer(config, schedule, stop_parts).run(), AgreedError);
  EXPECT_EQ(stopped.steps.size(), 1U);
}

class TrainerEndsTest : public TrainerTest {
 protected:
  /// A training of five steps with checkpoints, and an evaluation of ten batches every third step.
  TrainerParts all_parts(Log& log) {
    TrainerParts p = parts(log);
    p.save = &saved;
    p.validation = [this] {
      auto source = std::make_unique<Numbers>(*parallel, config.microbatch, stream, 0);
      source->before_next = in_evaluation;
      return source;
    };
    p.validation_steps = 10;
    config.evaluate_every = 3;
    return p;
  }
  std::function<void(int64_t)> in_evaluation;
};

TEST_F(TrainerEndsTest, ACheckpointComesBeforeTheEvaluationOfItsStep) {
  Log log;
  TrainerParts p = all_parts(log);
  p.save_every = 3;
  EXPECT_EQ(Trainer(config, schedule, p).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(log.events,
            "step1 step2 step3 before3 saved3 evaluation3 step4 step5 before5 saved5 evaluation5 ");
}

TEST_F(TrainerEndsTest, AStoppedEvaluationIsDiscarded) {
  for (const int64_t save_every : {0, 3}) {
    Log log;
    bool stop = false;
    int64_t read = 0;
    in_evaluation = [&](int64_t batch) {
      ++read;
      if (batch == 4) stop = true;
    };
    TrainerParts p = all_parts(log);
    p.save_every = save_every;
    p.stop_requested = [&] { return stop; };
    const TrainResult result = Trainer(config, schedule, p).run();
    EXPECT_EQ(result.reason, TrainResult::Reason::kStopped);
    EXPECT_EQ(result.steps, 3);
    EXPECT_FALSE(result.evaluated);
    EXPECT_EQ(read, 5);
    EXPECT_EQ(log.events, "step1 step2 step3 before3 saved3 ");
  }
}

TEST_F(TrainerEndsTest, AStopBeforeTheLastEvaluationIsNotComplete) {
  Log log;
  bool stop = false;
  in_evaluation = [&](int64_t) { stop = !log.steps.empty() && log.steps.back().step == 5; };
  TrainerParts p = all_parts(log);
  p.stop_requested = [&] { return stop; };
  EXPECT_EQ(Trainer(config, schedule, p).run().reason, TrainResult::Reason::kStopped);
  EXPECT_EQ(log.events, "step1 step2 step3 evaluation3 step4 step5 before5 saved5 ");

  // A run that begins after the last step does the missing evaluation.
  Log again;
  TrainerParts rest = all_parts(again);
  rest.evaluate_first = true;
  in_evaluation = nullptr;
  const TrainResult result = Trainer(config, schedule, rest).run(5);
  EXPECT_EQ(result.reason, TrainResult::Reason::kCompleted);
  EXPECT_TRUE(result.evaluated);
  EXPECT_EQ(result.evaluation.step, 5);
  EXPECT_EQ(again.events, "evaluation5 ");
}

TEST_F(TrainerEndsTest, AnEvaluationErrorSavesAllSteps) {
  Log log;
  in_evaluation = [&](int64_t batch) { require(batch < 7, "image 7 is damaged"); };
  const TrainerParts p = all_parts(log);
  try {
    (void)Trainer(config, schedule, p).run();
    FAIL();
  } catch (const AgreedError& error) {
    EXPECT_STREQ(error.what(), "training ends after step 3: evaluation: image 7 is damaged");
  }
  EXPECT_EQ(log.events, "step1 step2 step3 before3 saved3 ");
}

TEST_F(TrainerEndsTest, AReadErrorSavesAllSteps) {
  Log log;
  const TrainerParts p = all_parts(log);
  numbers->before_next = [](int64_t step) { require(step != 4, "file 4 is damaged"); };
  try {
    (void)Trainer(config, schedule, p).run();
    FAIL();
  } catch (const AgreedError& error) {
    EXPECT_STREQ(error.what(), "training ends after step 4: file 4 is damaged");
  }
  EXPECT_EQ(log.events, "step1 step2 step3 evaluation3 step4 before4 saved4 ");
}

TEST_F(TrainerEndsTest, AStopIsDetectedWhileWaitingForData) {
  Log log;
  int polls = 0;
  TrainerParts p = all_parts(log);
  numbers->ready = [&](int64_t step) {
    polls += step == 2 ? 1 : 0;
    return step < 2;  // the third batch never comes
  };
  p.stop_requested = [&] { return polls > 3; };
  const TrainResult result = Trainer(config, schedule, p).run();
  EXPECT_EQ(result.reason, TrainResult::Reason::kStopped);
  EXPECT_EQ(log.events, "step1 step2 before2 saved2 ");
}

TEST_F(TrainerEndsTest, AStopIsDetectedBetweenMicrobatches) {
  Log log;
  config.microbatch = 1;
  const double weight_before = [&] {
    Log first;
    TrainerParts one = parts(first);
    TrainConfig single = config;
    single.steps = 1;
    (void)Trainer(single, schedule, one).run();
    const double w = task.net.weight.value.item();
    task.net.weight.value.data<double>()[0] = 5;
    task.contexts.clear();
    return w;
  }();
  TrainerParts p = all_parts(log);
  p.stop_requested = [&] { return task.contexts.size() >= 10; };  // the third of the second step's seven
  EXPECT_EQ(Trainer(config, schedule, p).run().steps, 1);
  EXPECT_EQ(task.contexts.size(), 10U);
  EXPECT_EQ(task.net.weight.value.item(), weight_before);
  EXPECT_EQ(log.events, "step1 before1 saved1 ");
}

TEST_F(TrainerEndsTest, ObserversDoNotEndTraining) {
  class Failing final : public Observer {
   public:
    void on_step(const StepReport& report) override { require(report.step > 3, "the disk is full"); }
    void on_checkpoint(const CheckpointReport&) override { throw std::bad_alloc(); }
  } failing;
  Log log;
  TrainerParts p = all_parts(log);
  p.observers = {&failing, &log};
  std::vector<std::string> notes;
  p.note = [&](const std::string& text) {
    notes.push_back(text);
    throw std::bad_alloc();  // nor does an error that cannot be logged
  };
  EXPECT_EQ(Trainer(config, schedule, p).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(log.steps.size(), 5U);
  ASSERT_EQ(notes.size(), 4U);
  EXPECT_EQ(notes[0], "the disk is full; training continues without it");
  EXPECT_NE(notes[1].find("are written again after 3 failures"), std::string::npos);
}

TEST_F(TrainerEndsTest, CheckpointsByTimeDoNotRequireOnesBySteps) {
  Log log;
  TrainerParts p = all_parts(log);
  p.save_every_s = 1e-9;
  EXPECT_EQ(Trainer(config, schedule, p).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(log.checkpoints.size(), 5U);
  const double weight = task.net.weight.value.item();

  // No hour has passed, but the duration of the first evaluation is unknown: a checkpoint precedes it.
  Log hour;
  TrainerParts rare = all_parts(hour);
  rare.save_every_s = 3600;
  task.net.weight.value.data<double>()[0] = 5;
  EXPECT_EQ(Trainer(config, schedule, rare).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(hour.events,
            "step1 step2 step3 before3 saved3 evaluation3 step4 step5 before5 saved5 evaluation5 ");
  EXPECT_EQ(task.net.weight.value.item(), weight);
}

TEST(SaveTimerTest, SavesTakeASmallFractionOfTheTime) {
  SaveTimer timer(600, 100);
  EXPECT_FALSE(timer.due(699));
  EXPECT_TRUE(timer.due(700));
  EXPECT_TRUE(timer.due(650, 60));
  EXPECT_FALSE(timer.saved(710, 10));
  EXPECT_FALSE(timer.due(1309));
  EXPECT_TRUE(timer.due(1310));
  EXPECT_TRUE(timer.saved(1400, 90));  // true only once
  EXPECT_FALSE(timer.due(1400 + 1799));
  EXPECT_TRUE(timer.due(1400 + 1800));
  EXPECT_FALSE(timer.saved(3300, 100));
  EXPECT_FALSE(timer.saved(6000, 1));
  EXPECT_TRUE(timer.due(6600));
  EXPECT_FALSE(SaveTimer(0, 0).due(1e9, std::numeric_limits<double>::infinity()));
}

TEST(InterruptionTest, InterruptsLongWork) {
  SinglePeer peer;
  static bool stop = false;
  stop = true;
  interruption_point();  // no interruption was requested
  {
    const Interruptible start(+[]() noexcept { return stop; });
    EXPECT_THROW(peer.agree([] { interruption_point(); }), Interrupted);
    stop = false;
    EXPECT_NO_THROW(peer.agree([] { interruption_point(); }));
    stop = true;
  }
  EXPECT_NO_THROW(peer.agree([] { interruption_point(); }));
}

TEST(InterruptionTest, AnInterruptionDoesNotRejectACheckpoint) {
  const TemporaryDirectory folder;
  SinglePeer peer;
  Checkpoints checkpoints({.dir = folder / "checkpoints"}, peer, {});
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  TrainingState state;
  state.model.push_back(StateTensor::whole("w", Tensor::full({4}, 1.5, DType::kFloat32, stream)));
  CheckpointMetadata metadata;
  metadata.step = 3;
  EXPECT_EQ(checkpoints.save(state, metadata).error, "");
  {
    const Interruptible start(+[]() noexcept { return true; });
    EXPECT_THROW((void)checkpoints.restore(state), Interrupted);
  }
  EXPECT_EQ(checkpoints.restore(state)->step, 3);
}

}  // namespace
}  // namespace tutti
