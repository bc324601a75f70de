#pragma once

#include <tutti/core/train/batch.h>
#include <tutti/core/train/evaluate.h>
#include <tutti/core/train/observers.h>
#include <tutti/core/train/parallel.h>
#include <tutti/core/train/parameter_update.h>
#include <tutti/core/train/rank_poll.h>
#include <tutti/core/train/report.h>
#include <tutti/core/train/save_timer.h>
#include <tutti/core/train/schedule.h>
#include <tutti/core/train/step_graph.h>
#include <tutti/core/train/stopwatch.h>
#include <tutti/core/train/task.h>
#include <tutti/core/train/train_settings.h>

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// The pieces of a run; all outlive the trainer.
struct TrainerParts {
  Task& task;
  Parallel& parallel;
  ParameterUpdate& optimizer;
  BatchSource& training;
  /// Starts a pass over the validation set of `validation_steps` steps; empty if there is no validation set.
  std::function<std::unique_ptr<BatchSource>()> validation;
  int64_t validation_steps = 0;
  /// Whether the run begins with an evaluation: for a resumed run that was stopped before the evaluation of
  /// its last step.
  bool evaluate_first = false;
  /// Saves the state after `step` steps; collective. Empty: no checkpoints.
  std::function<CheckpointReport(int64_t step, OlderCheckpoints older)> save;
  int64_t save_every = 0;   ///< steps; 0: not by steps
  double save_every_s = 0;  ///< seconds, by rank 0's clock; 0: not by time
  std::vector<Observer*> observers;
  /// Called often; true on any rank ends the run on all ranks with a checkpoint. It takes effect between the
  /// microbatches of a long step, which is then discarded, while a rank waits for data, and within an
  /// evaluation, which is then discarded.
  std::function<bool()> stop_requested;
  /// Receives messages for the user. May be empty.
  std::function<void(const std::string& text)> note;
  Stream stream;
  uint64_t seed = 0;
};

class Readings;

struct TrainResult {
  enum class Reason : uint8_t { kCompleted, kStopped, kNotFinite };
  Reason reason = Reason::kCompleted;
  int64_t steps = 0;                                       ///< done in the whole run, resumed ones included
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< of the last step; NaN if no step was done
  EvaluationReport evaluation;                             ///< the last one
  bool evaluated = false;
  double wall_s = 0;        ///< of the training steps, without evaluations and checkpoints
  int64_t predictions = 0;  ///< in that time
  int64_t samples = 0;
};
std::string_view name(TrainResult::Reason reason);

/// The training loop: gradient accumulation over shards and microbatches, clipping, schedule, evaluation,
/// checkpoints. All decisions depend on numbers that are equal on all ranks, so all ranks take the same
/// branches.
///
/// No work that can fail or take long is done before the checkpoint of the same step: a checkpoint that is
/// due is written before the evaluation, also if it becomes due during the evaluation. Errors in an
/// evaluation, in reading data, and in a pass over a microbatch before gradients are sent end the run on all
/// ranks with a checkpoint of the last complete step.
class Trainer {
 public:
  Trainer(TrainConfig config, ScheduleConfig schedule, TrainerParts parts);

  /// Trains from step `first_step` to config.steps.
  /// A loss or gradient that is not finite skips the update on all ranks; after max_skipped_steps in a row,
  /// and after such a last step, the run ends with Reason::kNotFinite. No checkpoint that is due is written
  /// after such a step; a checkpoint at a stop then keeps the older ones. Throws Error if checkpoints fail
  /// three times in a row, and the exceptions of its parts, except observers.
  TrainResult run(int64_t first_step = 0);

  /// One pass over the validation set in inference mode. Throws AgreedError on all ranks if one of them
  /// fails, Interrupted if a stop was requested.
  EvaluationReport evaluate(int64_t step);

 private:
  /// Input of a step.
  struct Work {
    int64_t step = 0;
    int64_t samples = 0;
    double predictions = 0;
    std::vector<std::vector<Parallel::Shard>> shards;  // divided into microbatches
    std::vector<Batch> batches;
  };
  /// Result of a step.
  struct Outcome {
    std::vector<double> losses;  // of the microbatches
    double grad_norm = 0;
    double comm_wait_s = 0;
    double norm_s = 0;
    bool updated = false;  // the update is done, if the gradient is finite
  };

  std::optional<StepReport> train_step(int64_t step);
  std::optional<double> forward_backward(const Work& work, std::vector<Batch> batches, Readings& losses,
                                         RankPoll* poll);
  void pass(const Work& work, const Parallel::Shard& range, const Batch& batch, bool last, Readings& losses);
  std::optional<Outcome> eager_step(Work& work, RankPoll* poll);
  Outcome graph_step(Work& work, double learning_rate, StepGraphPlan::Mode mode);
  std::string capture(const Work& work);
  void plan_graph();
  [[nodiscard]] bool evaluation_due(int64_t step) const;
  void evaluate_into(TrainResult& result, int64_t step);
  std::optional<EvaluationReport> try_evaluate(int64_t step);
  void save(int64_t step, bool ends);
  void end_run(TrainResult& result);

  TrainConfig config_;
  ScheduleConfig schedule_;
  TrainerParts parts_;
  Observers observers_;

  int failed_saves_ = 0;
  int64_t skipped_ = 0;  ///< steps in a row
  int64_t saved_step_ = 0;
  bool save_due_ = false;  // by time
  Stopwatch clock_;
  SaveTimer timer_;  // that of rank 0 decides

  PollResult poll_result_;    // why the run ends before its last step
  bool poll_next_ = true;     // whether ranks poll during the next step
  bool unevaluated_ = false;  // an evaluation that was due was not completed
  std::optional<double> evaluation_s_;

  StepGraphPlan plan_;
  std::unique_ptr<StepGraph> graph_;
  std::shared_ptr<Readings> graph_readings_;  // of a replayed step: losses, then what step_prepared returns
};

}  // namespace tutti
