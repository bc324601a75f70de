#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/train/batch.h>
#include <tutti/core/train/evaluate.h>
#include <tutti/core/train/observers.h>
#include <tutti/core/train/parallel.h>
#include <tutti/core/train/rank_poll.h>
#include <tutti/core/train/report.h>
#include <tutti/core/train/save_timer.h>
#include <tutti/core/train/schedule.h>
#include <tutti/core/train/step_graph.h>
#include <tutti/core/train/stopwatch.h>
#include <tutti/core/train/task.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Settings of the training loop.
struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch = 32;
  int64_t microbatch = 0;
  int64_t evaluate_every = 0;
  int64_t max_skipped_steps = 3;
  bool cuda_graph = false;

  void describe(Fields& f);
};

/// What the loop needs of an optimizer; kernels implements it.
class ParameterUpdate {
 public:
  virtual ~ParameterUpdate() = default;
  /// L2 norm of all gradients that are not statistics.
  virtual double grad_norm() = 0;
  /// The factor that brings a gradient of this norm within the clipping bound; 1 without clipping.
  [[nodiscard]] virtual double clip_scale(double norm) const = 0;
  /// The peak that the schedule's factor is applied to.
  [[nodiscard]] virtual double peak_learning_rate() const = 0;
  /// Updates all parameters from gradients * grad_scale. `step` is 0 for the first.
  virtual void step(double learning_rate, double grad_scale, int64_t step) = 0;

  /// Whether the following two exist: an update whose work a device can replay.
  [[nodiscard]] virtual bool can_prepare() const { return false; }
  /// Brings what changes from step to step to the device, in the order of its stream.
  virtual void prepare(double learning_rate, int64_t step);
  /// Gives norm, clipping and update to the device, with the numbers that prepare() has brought there by the
  /// time that the work runs. A norm that is not finite makes the update do nothing. Returns (3) fp64 on the
  /// device: the factor on gradients, 1 or 0 for whether the norm is finite, the norm.
  virtual Tensor step_prepared();
};

/// The pieces of a run; all outlive the trainer.
struct TrainerParts {
  Task& task;
  Parallel& parallel;
  ParameterUpdate& optimizer;
  BatchSource& training;
  /// A fresh pass over the validation set and its number of steps; empty without a validation set.
  std::function<std::unique_ptr<BatchSource>()> validation;
  int64_t validation_steps = 0;
  /// Whether a run begins with the evaluation of its state: one that is resumed where that was left out.
  bool evaluate_first = false;
  /// Saves the state after `step` steps; collective. Empty: no checkpoints.
  std::function<CheckpointReport(int64_t step, OlderCheckpoints older)> save;
  int64_t save_every = 0;   ///< steps; 0: not by steps
  double save_every_s = 0;  ///< seconds, by rank 0's clock; 0: not by time
  std::vector<Observer*> observers;
  /// Asked often; true on any rank ends the run on all ranks alike, with a checkpoint. It takes effect
  /// between the microbatches of a long step, which is then left undone, while a rank waits for data, and
  /// within an evaluation, which is then left out.
  std::function<bool()> stop_requested;
  /// Gets what a user should know, in words. Empty: nobody.
  std::function<void(const std::string& text)> note;
  Stream stream;
  uint64_t seed = 0;
};

class Readings;

struct TrainResult {
  enum class Reason : uint8_t { kCompleted, kStopped, kNotFinite };
  Reason reason = Reason::kCompleted;
  int64_t steps = 0;            ///< done in the whole run, resumed ones included
  double loss = 0;              ///< of the last step
  EvaluationReport evaluation;  ///< the last one
  bool evaluated = false;
  double wall_s = 0;        ///< of the training steps, without evaluations and checkpoints
  int64_t predictions = 0;  ///< in that time
  int64_t samples = 0;
};
std::string_view name(TrainResult::Reason reason);

/// The training loop: gradient accumulation over shards and microbatches, clipping, schedule, evaluation,
/// checkpoints. It decides everything from numbers that are equal on all ranks, so all ranks take the same
/// branches.
///
/// Nothing that can fail or take long comes before the checkpoint of the same step: a checkpoint that is due
/// is written before the evaluation, and before an evaluation in which the time for the next one would pass.
/// Errors in an evaluation, in reading data, and in a pass over a microbatch before gradients are sent end
/// the run on all ranks with a checkpoint of the last whole step.
class Trainer {
 public:
  Trainer(TrainConfig config, ScheduleConfig schedule, TrainerParts parts);

  /// Trains from step `first_step` to config.steps.
  /// A loss or gradient that is not finite skips the update on all ranks; after max_skipped_steps in a row,
  /// and after such a last step, the run ends with Reason::kNotFinite. No checkpoint that is due is written
  /// after such a step; one with which a stop ends the run keeps the older ones. Throws
  /// Error when checkpoints fail three times in a row, and what its parts throw, except observers.
  TrainResult run(int64_t first_step = 0);

  /// One pass over the validation set in inference mode. Throws AgreedError on all ranks if one of them
  /// fails, Interrupted if one was asked to stop.
  EvaluationReport evaluate(int64_t step);

 private:
  /// What a step has to work on.
  struct Work {
    int64_t step = 0;
    int64_t samples = 0;
    double predictions = 0;
    std::vector<std::vector<Parallel::Shard>> shards;  // cut into microbatches
    std::vector<Batch> batches;
  };
  /// What it came to.
  struct Outcome {
    std::vector<double> losses;  // of the microbatches
    double grad_norm = 0;
    double comm_wait_s = 0;
    double norm_s = 0;
    bool updated = false;  // where the gradient is finite
  };

  std::optional<StepReport> train_step(int64_t step);
  std::optional<double> forward_backward(const Work& work, std::vector<Batch> batches, Readings& losses,
                                         RankPoll* poll);
  void pass(const Work& work, const Parallel::Shard& range, const Batch& batch, bool last, Readings& losses);
  std::optional<Outcome> eager_step(Work& work, RankPoll* poll);
  Outcome graph_step(Work& work, double learning_rate, StepGraphPlan::Way way);
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
  SaveTimer timer_;  // rank 0's counts

  PollResult leave_;          // why the run ends before its last step
  bool poll_next_ = true;     // whether ranks poll within the next step
  bool unevaluated_ = false;  // an evaluation that is due was left out
  std::optional<double> evaluation_s_;

  StepGraphPlan plan_;
  std::unique_ptr<StepGraph> graph_;
  std::shared_ptr<Readings> graph_readings_;  // of a replayed step: losses, then what step_prepared returns
};

}  // namespace tutti
