#include <tutti/comm/fit.h>

#include <tutti/core/data/loader.h>

#include <cmath>
#include <cstdio>

namespace tutti {
namespace {

FitOptions checked(const FitOptions& options) {
  check_settings(options.schedule, "schedule");
  require(options.schedule_steps >= 0, "fit: schedule_steps is {}, expected 0 or more",
          options.schedule_steps);
  require(options.microbatch >= 0, "fit: microbatch is {}, expected 0 or more", options.microbatch);
  return options;
}

Module& named(Module& model) {
  model.name_parameters();
  return model;
}

/// The metadata of a checkpoint of Fit::run(), with the order of its data.
CheckpointMetadata metadata_of(const Sampler& sampler, int64_t step) {
  CheckpointMetadata metadata;
  metadata.step = step;
  metadata.next_sample = sampler.next_sample(step);
  metadata.seed = sampler.seed();
  metadata.extra = {{"batch", std::to_string(sampler.batch())}, {"samples", std::to_string(sampler.size())}};
  return metadata;
}

/// Throws Error if a training with `seed` that resumes from `found` would draw other random numbers.
void require_same_seed(const CheckpointMetadata& found, uint64_t seed) {
  require(found.seed == seed, "fit: the checkpoint of step {} was written with seed {}, this run has {}",
          found.step, found.seed, seed);
}

/// Throws Error if a run that resumes from `found` would read its data in another order.
void require_same_order(const CheckpointMetadata& found, const Sampler& sampler) {
  const CheckpointMetadata now = metadata_of(sampler, found.step);
  require_same_seed(found, now.seed);
  for (const auto& [key, value] : now.extra) {
    const auto then = found.extra.find(key);
    require(then == found.extra.end() || then->second == value,
            "fit: the checkpoint of step {} was written with {} = {}, this run has {}", found.step, key,
            then == found.extra.end() ? "" : then->second, value);
  }
}

/// The size of a data set, 0 if there is none.
int64_t samples_in(const std::shared_ptr<const Dataset>& data) {
  return data != nullptr ? data->size() : 0;
}

/// Throws Error on all ranks if their runs would take other steps: they would wait for each other, or train
/// on different data.
void require_same_run(const FitRun& run, Peers& peers) {
  const std::string mine = fmt::format(
      "{} samples to train on, {} to validate with, {} steps of {}, evaluations every {}",
      samples_in(run.training), samples_in(run.validation), run.steps, run.batch, run.evaluate_every);
  const std::vector<std::string> all = peers.all_gather(mine);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] != all[0])
      throw AgreedError(fmt::format("fit: rank {} has {}; rank 0 has {}", rank, all[rank], all[0]));
  }
}

/// Counts the steps of a run, so that their number is right after a run that throws.
class StepCounter final : public Observer {
 public:
  explicit StepCounter(int64_t& steps) : steps_(steps) {}
  void on_step(const StepReport& report) override { steps_ = report.step; }

 private:
  int64_t& steps_;
};

}  // namespace

Fit::Fit(Collective& world, Module& model, const FitOptions& options)
    : options_(checked(options)),
      peers_(world),
      compute_(peers_, options_.compute, options_.parallel.data.algorithm_selection()),
      model_(world, named(model),
             {.precision = options_.precision, .parallel = options_.parallel, .seed = options_.seed},
             compute_),
      optimizer_(options_.optimizer, model_.groups(), compute_.stream()) {}

double Fit::step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss) {
  require(options_.schedule.kind == "constant" || options_.schedule_steps > 0,
          "fit: step() with the schedule '{}' needs schedule_steps, its length", options_.schedule.kind);
  const StepContext context{.seed = options_.seed, .step = static_cast<uint64_t>(steps_)};
  const double sum = model_.parallel().run_step(samples, options_.microbatch, stream(), context, loss);
  const double norm = optimizer_.grad_norm();
  if (!std::isfinite(sum) || !std::isfinite(norm)) {  // all ranks have the same sums
    throw AgreedError(
        fmt::format("step {}: the loss is {}, the gradient norm {}: no update", steps_, sum, norm));
  }
  const double rate = optimizer_.peak_learning_rate() *
                      learning_rate_factor(options_.schedule, steps_, options_.schedule_steps);
  optimizer_.step(rate, optimizer_.clip_scale(norm), steps_);
  model_.parallel().after_update();
  ++steps_;
  return sum;
}

EvaluationSums Fit::evaluate(int64_t samples,
                             FunctionRef<EvaluationSums(Tape& tape, const Parallel::Shard& part)> part) {
  require(samples >= 0, "fit: an evaluation of {} samples", samples);
  const auto shards = microbatches(model_.parallel().shards(samples), options_.microbatch);
  std::vector<std::vector<double>> leaves(shards.size(), {0.0, 0.0, 0.0});
  for (size_t s = 0; s < shards.size(); ++s) {
    for (const Parallel::Shard& range : shards[s]) {
      Tape tape(stream(),
                {.training = false,
                 .seed = options_.seed,
                 .step = static_cast<uint64_t>(steps_),
                 .first_sample = range.begin,
                 .samples = range.end - range.begin},
                Tape::Mode::kInference);
      const EvaluationSums sums = part(tape, range);
      leaves[s][0] += sums.loss;
      leaves[s][1] += sums.correct;
      leaves[s][2] += sums.count;
    }
  }
  const std::vector<double> sums = model_.parallel().sum(leaves);
  return {.loss = sums[0], .correct = sums[1], .count = sums[2]};
}

TrainResult Fit::run(Task& task, const FitRun& run) {
  require(&task.model() == &model_.model(), "fit: the task has another model than this Fit");
  require_same_run(run, peers_);
  require(samples_in(run.training) > 0, "fit: the training set is empty");
  const auto note = [&](const std::string& text) {
    if (peers_.rank() != 0) return;
    if (run.note)
      run.note(text);
    else
      (void)std::fprintf(stderr, "%s\n", text.c_str());
  };
  const Sampler sampler(run.training->size(), run.batch, SampleOrder::kShuffled, options_.seed);
  const TrainingState state = model_.state(optimizer_);
  std::optional<Checkpoints> checkpoints;
  if (!run.checkpoint.dir.empty()) {
    checkpoints.emplace(run.checkpoint, peers_, note);
    if (run.resume && steps_ == 0) {
      const auto accept = [&](const CheckpointMetadata& found) { require_same_order(found, sampler); };
      if (const auto found = checkpoints->restore(state, accept)) {
        model_.after_restore();
        steps_ = found->step;
      }
    }
    checkpoints->prepare(steps_);
  }

  const auto loader = [&](const std::shared_ptr<const Dataset>& data, const Sampler& order,
                          int64_t first_step, int64_t end_step) {
    return std::make_unique<Loader>(
        data, order,
        LoaderOptions{.ranges = local_ranges(model_.parallel(), options_.microbatch),
                      .first_step = first_step,
                      .end_step = end_step,
                      .ahead = run.read_ahead,
                      .threads = run.read_threads,
                      .device = compute_.device()});
  };
  const auto training = loader(run.training, sampler, steps_, run.steps);
  StepCounter counter(steps_);
  std::vector<Observer*> observers{&counter};
  observers.insert(observers.end(), run.observers.begin(), run.observers.end());
  TrainerParts parts{.task = task,
                     .parallel = model_.parallel(),
                     .optimizer = optimizer_,
                     .training = *training,
                     .observers = observers,
                     .stop_requested = run.stop_requested,
                     .note = note,
                     .stream = stream(),
                     .seed = options_.seed};
  if (samples_in(run.validation) > 0) {
    const Sampler order(run.validation->size(), run.batch, SampleOrder::kSequential, options_.seed);
    parts.validation_steps = order.steps_per_epoch();
    parts.evaluate_first = steps_ >= run.steps;  // all steps are done: no other evaluation would follow
    parts.validation = [&run, order, loader]() -> std::unique_ptr<BatchSource> {
      return loader(run.validation, order, 0, order.steps_per_epoch());
    };
  }
  if (checkpoints) {
    parts.save_every = run.checkpoint.every;
    parts.save_every_s = run.checkpoint.every_s;
    parts.save = [&](int64_t step, OlderCheckpoints older) {
      return checkpoints->save(state, metadata_of(sampler, step), older);
    };
  }
  Trainer trainer({.steps = run.steps,
                   .batch = run.batch,
                   .microbatch = options_.microbatch,
                   .evaluate_every = run.evaluate_every,
                   .max_skipped_steps = run.max_skipped_steps,
                   .cuda_graph = run.cuda_graph},
                  options_.schedule, parts);
  const TrainResult result = trainer.run(steps_);
  steps_ = result.steps;
  model_.parallel().check_equal_weights();
  return result;
}

bool Fit::resume(Checkpoints& checkpoints) {
  const auto accept = [&](const CheckpointMetadata& found) { require_same_seed(found, options_.seed); };
  const auto found = checkpoints.restore(model_.state(optimizer_), accept);
  if (found) {
    model_.after_restore();
    steps_ = found->step;
  }
  checkpoints.prepare(steps_);
  return found.has_value();
}

void Fit::save(Checkpoints& checkpoints) {
  CheckpointMetadata metadata;
  metadata.step = steps_;
  metadata.seed = options_.seed;
  const CheckpointReport report = checkpoints.save(model_.state(optimizer_), std::move(metadata));
  if (!report.error.empty()) throw AgreedError(report.error);
}

}  // namespace tutti
