#include <tutti/core/train/trainer.h>

#include <chrono>
#include <cmath>

namespace tutti {
namespace {

constexpr int kFailedSavesToEnd = 3;

/// Scalars that a step computes, read when it is done: the host need not wait for a device in between.
class Readings {
 public:
  void take(const Tensor& scalar, const Stream& stream) {
    if (scalar.device().type == DeviceType::kCpu) {
      values_.push_back(scalar);
      return;
    }
    const Tensor pinned = Tensor::empty_pinned(scalar.shape(), scalar.dtype(), stream);
    copy(pinned, scalar, stream);
    values_.push_back(pinned);
    arrived_ = stream.record();
  }
  /// In the order of take(). Waits for the last of them.
  [[nodiscard]] std::vector<double> values() const {
    arrived_.wait();
    std::vector<double> read;
    read.reserve(values_.size());
    for (const Tensor& value : values_) read.push_back(value.item());
    return read;
  }

 private:
  std::vector<Tensor> values_;
  Event arrived_;
};

class Stopwatch {
 public:
  /// Seconds since the start or the last restart.
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  void restart() { begin_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

void TrainConfig::describe(Fields& f) {
  f.value("steps", steps, "optimizer steps", at_least(1));
  f.value("batch", batch, "samples a step, over all ranks", at_least(1));
  f.value("microbatch", microbatch, "most samples in one forward pass of a rank; 0: no limit", at_least(0));
  f.value("evaluate_every", evaluate_every, "steps between evaluations; 0: only at the end", at_least(0));
  f.value("max_skipped_steps", max_skipped_steps,
          "steps in a row that a loss or gradient may be not finite before the run ends", at_least(0));
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

std::vector<std::vector<Parallel::Shard>> microbatches(const std::vector<Parallel::Shard>& shards,
                                                       int64_t microbatch) {
  std::vector<std::vector<Parallel::Shard>> all(shards.size());
  for (size_t s = 0; s < shards.size(); ++s) {
    const int64_t most = microbatch > 0 ? microbatch : std::max<int64_t>(1, shards[s].end - shards[s].begin);
    for (int64_t begin = shards[s].begin; begin < shards[s].end; begin += most) {
      all[s].push_back({begin, std::min(begin + most, shards[s].end)});
    }
  }
  return all;
}

Trainer::Trainer(TrainConfig config, ScheduleConfig schedule, TrainerParts parts)
    : config_(config), schedule_(std::move(schedule)), parts_(std::move(parts)) {}

TrainResult Trainer::run(int64_t first_step) {
  TrainResult result;
  result.steps = first_step;
  const Stopwatch elapsed;
  int64_t skipped = 0;
  bool stop = false;
  for (int64_t step = first_step; step < config_.steps && !stop; ++step) {
    StepReport report = train_step(step, stop);
    report.elapsed_s = elapsed.seconds();
    result.steps = report.step;
    result.loss = report.loss;
    result.wall_s += report.step_s;
    result.predictions += report.predictions;
    result.samples += report.samples;
    for (Observer* observer : parts_.observers) observer->on_step(report);

    skipped = report.skipped ? skipped + 1 : 0;
    if (skipped > config_.max_skipped_steps) {
      result.reason = TrainResult::Reason::kNotFinite;
      return result;  // the last checkpoint is better than this state
    }
    const bool last = report.step == config_.steps;
    if (parts_.validation &&
        (last || (config_.evaluate_every > 0 && report.step % config_.evaluate_every == 0))) {
      result.evaluation = evaluate(report.step);
      result.evaluated = true;
      for (Observer* observer : parts_.observers) observer->on_evaluation(result.evaluation);
    }
    if (parts_.save && (last || stop || (parts_.save_every > 0 && report.step % parts_.save_every == 0))) {
      save(report.step, last || stop);
    }
  }
  if (stop && result.steps < config_.steps) result.reason = TrainResult::Reason::kStopped;
  return result;
}

StepReport Trainer::train_step(int64_t step, bool& stop) {
  const Stopwatch wall;
  StepReport report{.step = step + 1, .total_steps = config_.steps};
  const int64_t samples = parts_.training.samples(step);
  const double predictions = parts_.training.predictions(step);
  report.samples = samples;
  report.predictions = static_cast<int64_t>(predictions);
  report.epoch = parts_.training.epoch(step + 1);

  std::vector<Batch> batches = parts_.training.next();
  report.data_wait_s = wall.seconds();

  const auto shards = microbatches(parts_.parallel.shards(samples), config_.microbatch);
  std::vector<std::vector<double>> leaves(shards.size(), {0.0, 0.0});
  if (parts_.stop_requested && parts_.stop_requested()) leaves.front()[1] = 1;
  Readings losses;
  parts_.parallel.begin_step();
  size_t next = 0;
  for (size_t s = 0; s < shards.size(); ++s) {
    parts_.parallel.begin_shard(s);
    for (size_t m = 0; m < shards[s].size(); ++m) {
      const Batch batch = std::move(batches.at(next++));
      const auto& range = shards[s][m];
      require(batch.first_sample == range.begin && batch.samples() == range.end - range.begin,
              "training data: step {} needs samples [{}, {}) of the batch, the source gave {} from {}", step,
              range.begin, range.end, batch.samples(), batch.first_sample);
      batch.use_on(parts_.stream);
      Tape tape(parts_.stream,
                {.training = true,
                 .seed = parts_.seed,
                 .step = static_cast<uint64_t>(step),
                 .first_sample = batch.first_sample,
                 .samples = batch.samples(),
                 .batch_share = static_cast<double>(batch.samples()) / static_cast<double>(samples)});
      const Var loss = parts_.task.loss(tape, batch, predictions > 0 ? 1 / predictions : 0);
      losses.take(loss.value, parts_.stream);
      parts_.parallel.watch(tape, m + 1 == shards[s].size());
      tape.backward(loss);
    }
    parts_.parallel.end_shard(s);
  }
  report.comm_wait_s = parts_.parallel.finish_step();

  Stopwatch update;
  // The one moment of a step at which the host waits for a device: all work before the update is done then.
  report.grad_norm = parts_.optimizer.grad_norm();
  if (parts_.stream.device().type != DeviceType::kCpu) update.restart();
  const std::vector<double> read = losses.values();
  next = 0;
  for (size_t s = 0; s < shards.size(); ++s) {
    for (size_t m = 0; m < shards[s].size(); ++m) leaves[s][0] += read.at(next++);
  }
  const std::vector<double> sums = parts_.parallel.sum(leaves);
  report.loss = sums[0];
  stop = sums[1] > 0;
  report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.grad_norm);
  report.learning_rate =
      parts_.optimizer.peak_learning_rate() * learning_rate_factor(schedule_, step, config_.steps);
  if (!report.skipped) {
    parts_.optimizer.step(report.learning_rate, parts_.optimizer.clip_scale(report.grad_norm), step);
    parts_.parallel.after_update();
  }
  report.optimizer_s = update.seconds();
  report.memory_bytes = memory_stats(parts_.stream.device()).peak_bytes;
  report.step_s = wall.seconds();
  return report;
}

EvaluationReport Trainer::evaluate(int64_t step) {
  const Stopwatch wall;
  const std::unique_ptr<BatchSource> source = parts_.validation();
  std::vector<std::vector<double>> leaves;
  for (int64_t i = 0; i < parts_.validation_steps; ++i) {
    const auto shards = microbatches(parts_.parallel.shards(source->samples(i)), config_.microbatch);
    leaves.resize(shards.size(), {0.0, 0.0, 0.0});
    const std::vector<Batch> batches = source->next();
    size_t next = 0;
    for (size_t s = 0; s < shards.size(); ++s) {
      for (size_t m = 0; m < shards[s].size(); ++m) {
        const Batch& batch = batches.at(next++);
        batch.use_on(parts_.stream);
        const EvaluationSums sums = parts_.task.evaluate(parts_.stream, batch);
        leaves[s][0] += sums.loss;
        leaves[s][1] += sums.correct;
        leaves[s][2] += sums.count;
      }
    }
  }
  const std::vector<double> sums = parts_.parallel.sum(leaves);
  EvaluationReport report{.step = step};
  if (sums[2] > 0) {
    report.loss = sums[0] / sums[2];
    report.accuracy = sums[1] / sums[2];
  }
  report.wall_s = wall.seconds();
  return report;
}

void Trainer::save(int64_t step, bool ends) {
  const CheckpointReport report = parts_.save(step);
  for (Observer* observer : parts_.observers) observer->on_checkpoint(report);
  failed_saves_ = report.error.empty() ? 0 : failed_saves_ + 1;
  // All ranks hold the same report.
  if (failed_saves_ > 0 && ends) {
    throw AgreedError(fmt::format(
        "the checkpoint of step {}, with which training ends, could not be written: {}", step, report.error));
  }
  if (failed_saves_ >= kFailedSavesToEnd) {
    throw AgreedError(
        fmt::format("training ends: {} checkpoints in a row could not be written, the last because: {}",
                    failed_saves_, report.error));
  }
}

}  // namespace tutti
