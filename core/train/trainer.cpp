#include <tutti/core/interruption.h>
#include <tutti/core/train/trainer.h>
#include "core/cuda/config.h"
#include "core/train/readings.h"

#include <cmath>
#include <limits>
#include <utility>

namespace tutti {
namespace {

constexpr int kFailedSavesToEnd = 3;

// In shorter steps a stop waits for the end of the step, which avoids a collective.
constexpr double kLongStep_s = 0.1;

}  // namespace

void TrainConfig::describe(Fields& f) {
  constexpr double kMostSamples = int64_t{1} << 31;  // sums of such numbers fit in 64 bits
  f.value("steps", steps, "optimizer steps", at_least(1));
  f.value("batch", batch, "samples per step, over all ranks", between(1, kMostSamples));
  f.value("microbatch", microbatch, "maximum samples per forward pass of a rank; 0: no limit",
          between(0, kMostSamples));
  f.value("gpu_microbatch", gpu_microbatch,
          "instead of microbatch on a GPU, which large passes keep busy; null: microbatch",
          between(0, kMostSamples));
  f.value("evaluate_every", evaluate_every, "steps between evaluations; 0: only at the end", at_least(0));
  f.value("max_skipped_steps", max_skipped_steps,
          "maximum consecutive steps without a finite loss and gradient before the run ends", at_least(0));
  f.value("cuda_graph", cuda_graph,
          "CUDA: capture the work of the third step and replay it while shapes do not change");
}

int64_t TrainConfig::microbatch_on(DeviceType device) const {
  return device == DeviceType::kCuda ? gpu_microbatch.value_or(microbatch) : microbatch;
}

std::string_view name(TrainResult::Reason reason) {
  switch (reason) {
    case TrainResult::Reason::kCompleted:
      return "completed";
    case TrainResult::Reason::kStopped:
      return "stopped";
    case TrainResult::Reason::kNotFinite:
      return "loss or gradient not finite";
  }
  return "unknown";
}

Trainer::Trainer(TrainConfig config, ScheduleConfig schedule, TrainerParts parts)
    : config_(config),
      schedule_(std::move(schedule)),
      parts_(std::move(parts)),
      observers_(parts_.observers, parts_.note),
      timer_(parts_.save_every_s, clock_.seconds()) {
  check_settings(config_, "train");
  check_settings(schedule_, "schedule");
}

void ParameterUpdate::prepare(double, int64_t) {
  fail("this optimizer has no prepared steps");
}

Tensor ParameterUpdate::step_prepared() {
  fail("this optimizer has no prepared steps");
}

TrainResult Trainer::run(int64_t first_step) {
  TrainResult result;
  result.steps = first_step;
  saved_step_ = first_step;
  const Stopwatch elapsed;
  plan_graph();
  if (parts_.evaluate_first && parts_.validation) evaluate_into(result, first_step);
  for (int64_t step = first_step; step < config_.steps && poll_result_.should_continue(); ++step) {
    std::optional<StepReport> report = train_step(step);
    if (!report) break;
    report->elapsed_s = elapsed.seconds();
    result.steps = report->step;
    result.loss = report->loss;
    result.wall_s += report->step_s;
    result.predictions += report->predictions;
    result.samples += report->samples;
    observers_.notify([&](Observer& observer) { observer.on_step(*report); });

    skipped_ = report->skipped ? skipped_ + 1 : 0;
    const bool last = report->step == config_.steps;
    if (skipped_ > config_.max_skipped_steps || (last && report->skipped)) {
      result.reason = TrainResult::Reason::kNotFinite;
      return result;  // the last checkpoint is better than the current state
    }
    // Weights without a finite loss must not replace a better checkpoint.
    const bool by_steps = parts_.save_every > 0 && report->step % parts_.save_every == 0;
    const bool due = (by_steps || save_due_) && !report->skipped;
    const bool evaluates = evaluation_due(report->step);
    if (parts_.save && (last || due)) save(report->step, last && !evaluates);
    if (evaluates) evaluate_into(result, report->step);
  }
  end_run(result);
  return result;
}

/// Ends the run after its last step or an earlier interruption.
void Trainer::end_run(TrainResult& result) {
  const bool done = poll_result_.should_continue() || (result.steps >= config_.steps && !unevaluated_);
  if (parts_.save && result.steps != saved_step_) {
    try {
      save(result.steps, true);
    } catch (const AgreedError& error) {
      if (poll_result_.problem.empty()) throw;
      throw AgreedError(fmt::format("{}; and {}", poll_result_.problem, error.what()));
    }
  }
  if (!poll_result_.problem.empty()) {
    throw AgreedError(fmt::format("training ends after step {}: {}", result.steps, poll_result_.problem));
  }
  if (!done) result.reason = TrainResult::Reason::kStopped;
}

/// Empty if the ranks end the run before the step is done: poll_result_ has the reason.
std::optional<StepReport> Trainer::train_step(int64_t step) {
  const Stopwatch wall;
  StepReport report{.step = step + 1, .total_steps = config_.steps};
  const int64_t samples = parts_.training.samples(step);
  const double predictions = parts_.training.predictions(step);
  report.samples = samples;
  report.predictions = static_cast<int64_t>(predictions);
  report.epoch = parts_.training.epoch(step + 1);

  RankPoll poll(parts_.parallel, parts_.stop_requested);
  RankPoll* polled = poll_next_ ? &poll : nullptr;
  Work work{.step = step, .samples = samples, .predictions = predictions, .shards = {}, .batches = {}};
  const auto read = [&] { work.batches = parts_.training.next(); };
  if (polled != nullptr) {
    poll.attempt([&] {
      if (poll.wait_for(parts_.training)) read();
    });
    if (graph_) {  // ranks cannot poll during a capture
      poll_result_ = poll.agree();
      if (!poll_result_.should_continue()) return std::nullopt;
      polled = nullptr;
    }
  } else {
    read();
  }
  report.data_wait_s = wall.seconds();
  work.shards =
      microbatches(parts_.parallel.shards(samples), config_.microbatch_on(parts_.stream.device().type));
  report.learning_rate =
      parts_.optimizer.peak_learning_rate() * learning_rate_factor(schedule_, step, config_.steps);

  StepGraphPlan::Mode mode = StepGraphPlan::Mode::kEager;
  if (graph_) mode = plan_.next(StepKey::of(samples, predictions, work.shards, work.batches));
  const std::optional<Outcome> outcome = mode == StepGraphPlan::Mode::kEager
                                             ? eager_step(work, polled)
                                             : graph_step(work, report.learning_rate, mode);
  if (!outcome) return std::nullopt;
  report.comm_wait_s = outcome->comm_wait_s;
  report.grad_norm = outcome->grad_norm;

  Stopwatch update;
  // Besides the loss: whether a stop was requested, a checkpoint is due by time, ranks should poll in the
  // next step.
  std::vector<std::vector<double>> leaves(work.shards.size(), {0.0, 0.0, 0.0, 0.0});
  size_t next = 0;
  for (size_t s = 0; s < work.shards.size(); ++s) {
    for (size_t m = 0; m < work.shards[s].size(); ++m) leaves[s][0] += outcome->losses.at(next++);
  }
  leaves.front()[1] = poll.stop_requested() ? 1 : 0;
  if (parts_.parallel.peers().rank() == 0) {
    const double unknown = std::numeric_limits<double>::infinity();
    const double ahead_s = evaluation_due(step + 1) ? evaluation_s_.value_or(unknown) : 0;
    leaves.front()[2] = timer_.due(clock_.seconds(), ahead_s) ? 1 : 0;
  }
  // If the next batch is not ready, reading it may take long or never end.
  leaves.front()[3] = wall.seconds() > kLongStep_s || !parts_.training.has_next() ? 1 : 0;
  const std::vector<double> sums = parts_.parallel.sum(leaves);
  report.loss = sums[0];
  poll_result_.stop = sums[1] > 0;
  save_due_ = sums[2] > 0;
  poll_next_ = sums[3] > 0 || parts_.parallel.peers().size() == 1;
  report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.grad_norm);
  if (!report.skipped && !outcome->updated) {
    parts_.optimizer.step(report.learning_rate, parts_.optimizer.clip_scale(report.grad_norm), step);
    parts_.parallel.after_update();
  }
  report.optimizer_s = update.seconds() + outcome->norm_s;
  report.memory_bytes = memory_stats(parts_.stream.device()).peak_bytes;
  report.step_s = wall.seconds();
  return report;
}

/// Forward and backward of all microbatches, and the reductions. Returns the seconds of waiting for them.
/// With `poll`, ranks agree to continue before the first gradient may be sent; empty if they stop.
std::optional<double> Trainer::forward_backward(const Work& work, std::vector<Batch> batches,
                                                Readings& losses, RankPoll* poll) {
  parts_.parallel.begin_step();
  const auto should_continue = [&] {
    if (poll == nullptr) return true;
    poll_result_ = poll->agree();
    poll = nullptr;
    return poll_result_.should_continue();
  };
  size_t next = 0;
  for (size_t s = 0; s < work.shards.size(); ++s) {
    const bool sends = s + 1 == work.shards.size();
    parts_.parallel.begin_shard(s);
    for (size_t m = 0; m < work.shards[s].size(); ++m) {
      const bool last = m + 1 == work.shards[s].size();
      if (sends && last && !should_continue()) return std::nullopt;
      const auto& range = work.shards[s][m];
      const auto one = [&] { pass(work, range, std::exchange(batches.at(next), {}), last, losses); };
      if (poll != nullptr)
        poll->attempt(one);
      else
        one();
      ++next;
    }
    if (sends && !should_continue()) return std::nullopt;
    parts_.parallel.end_shard(s);
  }
  return parts_.parallel.finish_step();
}

void Trainer::pass(const Work& work, const Parallel::Shard& range, const Batch& batch, bool last,
                   Readings& losses) {
  require(batch.first_sample == range.begin && batch.samples() == range.end - range.begin,
          "training data: step {} needs samples [{}, {}) of the batch, the source returned {} from {}",
          work.step, range.begin, range.end, batch.samples(), batch.first_sample);
  batch.use_on(parts_.stream);
  Tape tape(parts_.stream,
            {.training = true,
             .seed = parts_.seed,
             .step = static_cast<uint64_t>(work.step),
             .first_sample = batch.first_sample,
             .samples = batch.samples(),
             .batch_share = static_cast<double>(batch.samples()) / static_cast<double>(work.samples)});
  const Var loss = parts_.task.loss(tape, batch, work.predictions > 0 ? 1 / work.predictions : 0);
  losses.take(loss.value, parts_.stream);
  parts_.parallel.register_hooks(tape, last);
  backward_from_loss(tape, loss);
}

std::optional<Trainer::Outcome> Trainer::eager_step(Work& work, RankPoll* poll) {
  Outcome outcome;
  Readings losses;
  const std::optional<double> waited_s = forward_backward(work, std::move(work.batches), losses, poll);
  if (!waited_s) return std::nullopt;
  outcome.comm_wait_s = *waited_s;
  const Stopwatch norm;
  // The only point of a step at which the host waits for a device: all work before the update is done then.
  outcome.grad_norm = parts_.optimizer.grad_norm();
  if (parts_.stream.device().type == DeviceType::kCpu) outcome.norm_s = norm.seconds();
  outcome.losses = losses.values();
  return outcome;
}

void Trainer::plan_graph() {
  if (!config_.cuda_graph || parts_.stream.device().type == DeviceType::kCpu) return;
  std::string reason = parts_.parallel.why_no_capture();
  if (reason.empty() && !parts_.optimizer.can_prepare()) reason = "the optimizer decides on the host";
  if (reason.empty()) {
    graph_ = std::make_unique<StepGraph>(parts_.stream);
    return;
  }
  observers_.log(fmt::format("steps are not captured as a CUDA graph: {}", reason));
}

/// Returns why the step cannot be captured, the same on all ranks; empty on success.
std::string Trainer::capture(const Work& work) {
  std::string problem;
  try {
    graph_readings_ = std::make_shared<Readings>();
    graph_->capture(work.batches, [&](const std::vector<Batch>& batches) {
      (void)forward_backward(work, batches, *graph_readings_, nullptr);
      const Tensor control = parts_.optimizer.step_prepared();
      parts_.parallel.after_update();
      graph_readings_->take(control, parts_.stream);
    });
  } catch (const Error& error) {
    problem = error.what();
  }
  const std::vector<std::string> all = parts_.parallel.peers().all_gather(problem);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].empty()) return fmt::format("rank {}: {}", rank, all[rank]);
  }
  return "";
}

Trainer::Outcome Trainer::graph_step(Work& work, double learning_rate, StepGraphPlan::Mode mode) {
  parts_.optimizer.prepare(learning_rate, work.step);
  if (mode == StepGraphPlan::Mode::kCapture) {
    const std::string problem = capture(work);
    if (!problem.empty()) {
      plan_.failed(problem);
      graph_readings_.reset();
      graph_->clear();
      observers_.log(fmt::format("steps are not captured as a CUDA graph: {}", problem));
      return *eager_step(work, nullptr);
    }
    plan_.captured();
  }
  graph_->load(work.batches, work.step);
  graph_->launch();
  parts_.stream.synchronize();  // only of this stream; the next batch is copied on another
  Outcome outcome{.losses = graph_readings_->values(), .updated = true};
  outcome.grad_norm = outcome.losses.back();
  outcome.losses.resize(outcome.losses.size() - 3);  // the result of step_prepared
  return outcome;
}

bool Trainer::evaluation_due(int64_t step) const {
  return parts_.validation &&
         (step == config_.steps || (config_.evaluate_every > 0 && step % config_.evaluate_every == 0));
}

/// An interrupted evaluation is not recorded.
void Trainer::evaluate_into(TrainResult& result, int64_t step) {
  unevaluated_ = true;
  if (!poll_result_.should_continue()) return;
  const std::optional<EvaluationReport> report = try_evaluate(step);
  if (!report) return;
  unevaluated_ = false;
  evaluation_s_ = report->wall_s;
  result.evaluation = *report;
  result.evaluated = true;
  observers_.notify([&](Observer& observer) { observer.on_evaluation(*report); });
}

EvaluationReport Trainer::evaluate(int64_t step) {
  const std::optional<EvaluationReport> report = try_evaluate(step);
  if (report) return *report;
  if (poll_result_.problem.empty()) throw Interrupted("asked to stop");
  throw AgreedError(poll_result_.problem);
}

/// Empty if the ranks end it early: poll_result_ has the reason.
std::optional<EvaluationReport> Trainer::try_evaluate(int64_t step) {
  const Stopwatch wall;
  const EvaluationOutcome outcome =
      tutti::evaluate({.task = parts_.task,
                       .parallel = parts_.parallel,
                       .source = parts_.validation,
                       .steps = parts_.validation_steps,
                       .microbatch = config_.microbatch_on(parts_.stream.device().type),
                       .stop_requested = parts_.stop_requested,
                       .stream = parts_.stream});
  if (!outcome.sums) {
    poll_result_ = outcome.interruption;
    if (!poll_result_.problem.empty())
      poll_result_.problem = fmt::format("evaluation: {}", poll_result_.problem);
    return std::nullopt;
  }
  EvaluationReport report{.step = step};
  if (outcome.sums->count > 0) {
    report.loss = outcome.sums->loss / outcome.sums->count;
    report.accuracy = outcome.sums->correct / outcome.sums->count;
  }
  report.wall_s = wall.seconds();
  return report;
}

void Trainer::save(int64_t step, bool ends) {
  observers_.notify([&](Observer& observer) { observer.before_checkpoint(step); });
  const CheckpointReport report =
      parts_.save(step, skipped_ > 0 ? OlderCheckpoints::kKeep : OlderCheckpoints::kDelete);
  observers_.notify([&](Observer& observer) { observer.on_checkpoint(report); });
  if (report.error.empty()) saved_step_ = step;
  failed_saves_ = report.error.empty() ? 0 : failed_saves_ + 1;
  if (timer_.saved(clock_.seconds(), report.wall_s)) {
    observers_.log(
        fmt::format("a checkpoint takes {:.0f} s: checkpoints are written every {:.0f} s, not every {:.0f} s",
                    report.wall_s, timer_.interval_s(), parts_.save_every_s));
  }
  // All ranks have the same report.
  if (failed_saves_ > 0 && ends) {
    throw AgreedError(
        fmt::format("the final checkpoint of step {} could not be written: {}", step, report.error));
  }
  if (failed_saves_ >= kFailedSavesToEnd) {
    throw AgreedError(
        fmt::format("training ends: {} checkpoints in a row could not be written, the last because: {}",
                    failed_saves_, report.error));
  }
}

}  // namespace tutti
