#include "tests/core/training_parts.h"

#include <tutti/comm/data_parallel.h>
#include <tutti/comm/threads.h>

#include <atomic>
#include <mutex>
#include <thread>

namespace tutti {
namespace {

/// Changes to the training of one rank by a test.
struct Disturbance {
  std::function<void(int64_t step)> in_training;
  std::function<void(int64_t step)> in_evaluation;
  std::function<bool(int64_t step)> data_ready;
  std::function<bool()> stop;
};

struct Ending {
  std::string events;
  std::string error;
  TrainResult::Reason reason = TrainResult::Reason::kCompleted;
  int64_t steps = 0;
};

/// Eight steps with an evaluation of fifty batches after the fourth, on `ranks` threads. `disturb` is called
/// on each rank.
std::vector<Ending> train(int ranks, const std::function<Disturbance(Collective& world)>& disturb,
                          int64_t microbatch = 0) {
  std::vector<Ending> endings(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](Collective& world) {
    const Disturbance disturbance = disturb(world);
    Ending& ending = endings[static_cast<size_t>(world.rank())];
    ThreadPool pool(1);
    const Stream stream = Stream::inline_on(pool);
    MeanTask task;
    task.net.name_parameters();
    const auto groups = make_param_groups(
        task.net, {.precision = {DType::kFloat64, DType::kFloat64, DType::kFloat64}}, stream);
    DataParallelConfig setup;
    setup.logical_shards = 4;
    DataParallel parallel(world, groups, setup, stream);
    Descent descent(task.net.weight);
    Numbers numbers(parallel, microbatch, stream, 0);
    numbers.before_next = disturbance.in_training;
    numbers.ready = disturbance.data_ready;
    Log log;
    TrainerParts parts{.task = task,
                       .parallel = parallel,
                       .optimizer = descent,
                       .training = numbers,
                       .validation =
                           [&] {
                             auto source = std::make_unique<Numbers>(parallel, microbatch, stream, 0);
                             source->before_next = disturbance.in_evaluation;
                             return source;
                           },
                       .validation_steps = 50,
                       .save = [](int64_t step, OlderCheckpoints) { return CheckpointReport{.step = step}; },
                       .observers = {&log},
                       .stop_requested = disturbance.stop,
                       .stream = stream,
                       .seed = 9};
    const TrainConfig config{.steps = 8, .batch = 7, .microbatch = microbatch, .evaluate_every = 4};
    try {
      const TrainResult result = Trainer(config, {.kind = "constant"}, parts).run();
      ending.reason = result.reason;
      ending.steps = result.steps;
    } catch (const AgreedError& error) {
      ending.error = error.what();
    }
    ending.events = log.events;
  });
  return endings;
}

bool is_last(const Collective& world) {
  return world.rank() == world.size() - 1;
}

TEST(TrainingEndsTest, AStopOnOneRankEndsTheEvaluationOnAll) {
  for (const int ranks : {1, 2, 3}) {
    std::atomic<bool> stop{false};
    std::atomic<int64_t> read{0};
    const auto endings = train(ranks, [&](Collective& world) -> Disturbance {
      if (!is_last(world)) return {};
      return {.in_evaluation =
                  [&](int64_t batch) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(30));
                    ++read;
                    stop = batch >= 2;
                  },
              .stop = [&] { return stop.load(); }};
    });
    EXPECT_LT(read, 50);
    for (const Ending& ending : endings) {
      EXPECT_EQ(ending.error, "");
      EXPECT_EQ(ending.reason, TrainResult::Reason::kStopped);
      EXPECT_EQ(ending.events, "step1 step2 step3 step4 before4 saved4 ") << ranks;
    }
  }
}

TEST(TrainingEndsTest, AnErrorOnOneRankSavesAndEndsAll) {
  for (const int ranks : {1, 2, 3}) {
    const std::string who = ranks > 1 ? fmt::format("rank {}: ", ranks - 1) : "";
    const auto fails = [](int64_t step) { require(step != 6, "sample 6 is damaged"); };
    for (const Ending& ending : train(ranks, [&](Collective& world) -> Disturbance {
           return is_last(world) ? Disturbance{.in_evaluation = fails} : Disturbance{};
         })) {
      EXPECT_EQ(ending.error, "training ends after step 4: evaluation: " + who + "sample 6 is damaged");
      EXPECT_EQ(ending.events, "step1 step2 step3 step4 before4 saved4 ");
    }
    // Ranks agree if data is not ready at once; one rank always does.
    for (const Ending& ending : train(ranks, [&](Collective& world) -> Disturbance {
           if (!is_last(world)) return {};
           return {.in_training = fails,
                   .data_ready = [tries = 0](int64_t step) mutable { return step != 6 || ++tries > 1; }};
         })) {
      EXPECT_EQ(ending.error, "training ends after step 6: " + who + "sample 6 is damaged");
      EXPECT_EQ(ending.events, "step1 step2 step3 step4 evaluation4 step5 step6 before6 saved6 ");
    }
  }
}

TEST(TrainingEndsTest, AStopIsDetectedWhileARankWaitsForData) {
  for (const int ranks : {1, 2, 3}) {
    std::atomic<bool> stop{false};
    for (const Ending& ending : train(ranks, [&](Collective& world) -> Disturbance {
           if (!is_last(world)) return {};
           return {.data_ready =
                       [&stop, tries = 0](int64_t step) mutable {
                         if (step == 2 && ++tries > 5) stop = true;
                         return step != 2;
                       },
                   .stop = [&] { return stop.load(); }};
         })) {
      EXPECT_EQ(ending.reason, TrainResult::Reason::kStopped);
      EXPECT_EQ(ending.events, "step1 step2 before2 saved2 ");
    }
  }
}

TEST(TrainingEndsTest, AStopAtARandomTimeEndsAllRanksAtOneStep) {
  for (const int ranks : {1, 2, 3}) {
    for (int moment = 0; moment < 40; ++moment) {
      std::atomic<int> polls{0};
      const auto endings = train(
          ranks,
          [&](Collective&) -> Disturbance { return {.stop = [&] { return polls++ >= moment * ranks; }}; }, 1);
      for (const Ending& ending : endings) {
        EXPECT_EQ(ending.error, "");
        EXPECT_EQ(ending.steps, endings[0].steps);
        EXPECT_EQ(ending.events, endings[0].events);
        if (ending.steps > 0) {
          EXPECT_NE(ending.events.find(fmt::format("saved{} ", ending.steps)), std::string::npos)
              << ending.events;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tutti
