#include "launcher/run/training.h"

#include <tutti/comm/peers.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/data/loader.h>
#include <tutti/core/interruption.h>
#include <tutti/core/io/sha256.h>
#include <tutti/models/external_names.h>
#include "comm/placement/placement.h"
#include "core/checkpoint/verify_weights.h"
#include "launcher/info/build.h"
#include "launcher/info/machine.h"
#include "launcher/metrics/exporter/exporter.h"
#include "launcher/metrics/repair.h"
#include "launcher/metrics/summary.h"
#include "launcher/run/announcement.h"
#include "launcher/run/evaluation.h"
#include "launcher/run/initial_weights.h"
#include "launcher/run/inputs.h"
#include "launcher/run/memory_check.h"
#include "launcher/run/own_run.h"
#include "launcher/run/resume.h"
#include "launcher/run/setup.h"
#include "launcher/run/skipping.h"
#include "launcher/run/stop_signal.h"
#include "launcher/run/verify_inputs.h"
#include "launcher/run/writers.h"
#include "launcher/run_directory.h"
#include "launcher/shared_directory.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <ostream>
#include <utility>

namespace tutti {
namespace {

std::string parameters_digest(Module& model) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter* p : model.parameters()) tensors.emplace_back(p->name, p->value);
  return params_sha256(tensors);
}

/// One training, from its settings to its summary, on one rank.
class Training {
 public:
  Training(const TrainOptions& options, Collective& world, std::ostream& out, std::ostream& err)
      : options_(options), world_(world), peers_(world), out_(out), err_(err) {}

  /// Throws Interrupted on all ranks if a stop was requested on one before the first step.
  TrainResult::Reason run() {
    std::optional<Interruptible> start(&stop_signalled);
    std::vector<std::string> warnings;
    peers_.agree([&] {
      check_allowed(options_.allow_change);
      settings_ = read_settings(options_, &warnings);
    });
    item_ = settings_.data.kind == "tokens" ? "tokens" : "images";
    // Before threads are bound to cores, so that the exporter's thread may use all cores of this rank.
    std::optional<MetricsExporter> exporter;
    if (settings_.metrics.port > 0) exporter.emplace(settings_.metrics, metrics_identity(), peers_);
    const Compute compute(peers_, settings_.run.compute, settings_.parallel.data.algorithm_selection());
    resolve_settings(settings_, compute, peers_);
    const int threads = compute.threads().threads;

    Inputs inputs;
    peers_.agree(
        [&] { inputs = open_inputs(settings_, damaged_sample_advice(options_, settings_.data.skip)); });
    check_same_data(*inputs.training, settings_.data.path, peers_);
    Writers writers;
    if (peers_.rank() == 0) start_progress(writers);
    const auto log = [&](const std::string& text) { writers.log(text); };
    for (const std::string& warning : warnings) log(warning);
    RunDirectory directory(settings_.run.dir, options_.resume ? ExistingRun::kResume : ExistingRun::kRefuse,
                           peers_, log);
    for (const std::string& note : directory.notes()) log(note);
    auto facts = verify_data(inputs, settings_.data, peers_, check_work("data.verify", threads, log));
    if (!facts) return stopped_before_training(writers);
    peers_.agree([&] { check_validation(inputs, {peers_.rank(), peers_.size()}, compute.host_stream()); });

    Module& model = inputs.task->model();
    for (const std::string& warning :
         memory_warnings(model, settings_, compute.on_cpu() ? usable_memory_bytes() : 0, peers_)) {
      log(warning);
    }
    DistributedModel distributed(world_, model, distribution(settings_), compute);
    DataParallel& parallel = distributed.parallel();
    Optimizer optimizer(settings_.optimizer, distributed.groups(), compute.stream());
    const Sampler sampler(inputs.training->size(), settings_.train.batch, SampleOrder::kShuffled, seed());

    CheckpointConfig checkpoint = settings_.checkpoint;
    if (checkpoint.dir.empty()) {
      checkpoint.dir = directory.checkpoints().string();
    } else {
      make_shared_directory(checkpoint.dir, "checkpoint.dir", peers_);
    }
    Checkpoints checkpoints(checkpoint, peers_, log);
    checkpoints.lock(run_lock_options(log));
    Restored restored;
    if (options_.resume) {
      restored = restore(checkpoints, distributed, optimizer,
                         {settings_, *facts, world_.size(), directory.has_earlier_id() ? directory.id() : ""},
                         options_.allow_change);
    }
    if (!directory.has_earlier_id() && !restored.run_id.empty()) directory.take_id(restored.run_id);
    checkpoints.set_owner(directory.id());
    (*facts)["run"] = directory.id();
    keep_contents(*facts, restored.facts);
    const int64_t first_step = restored.step;
    if (options_.resume) check_recorded_checkpoint(writers, directory, checkpoint.dir, first_step);
    if (first_step > 0 && !settings_.model.weights.empty())
      writers.log("model.weights is only read before the first step: the weights of the checkpoint are used");
    if (first_step == 0 && !settings_.model.weights.empty()) {
      const auto verified =
          verify_weights(settings_.model.weights, peers_, check_work("model.weights", threads, log));
      if (!verified) return stopped_before_training(writers);
      peers_.agree([&] {
        check_initial_weights(settings_);
        load_weights(model, distributed.groups(), ModelFiles::open(settings_.model.weights),
                     compute.stream());
      });
    }
    if (first_step > 0 && is_finished(directory, first_step)) {
      writers.log(fmt::format(
          "{}: this run is finished: it has done {} steps, train.steps is {}; it continues with more steps",
          settings_.run.dir, first_step, settings_.train.steps));
      return TrainResult::Reason::kCompleted;
    }
    const RecordedStep recorded = first_step > 0 && peers_.rank() == 0
                                      ? recorded_step(directory.metrics(), first_step)
                                      : RecordedStep{};

    checkpoints.prepare(first_step);
    directory.begin({.run_file = to_yaml(with_absolute_paths(settings_), YamlComments::kHelp),
                     .seed = seed(),
                     .command_line = options_.command_line,
                     .threads = threads,
                     .resumed_step = first_step,
                     .differences = restored.differences},
                    peers_, [&](const std::string& text) { writers.warn(text); });
    std::string skip_change;
    peers_.agree([&] {
      if (peers_.rank() != 0) return;
      skip_change = record_skip_list(settings_.data, directory.skip_list());
      open_writers(writers, directory, first_step);
    });
    const Announcement announcement{settings_, compute, parallel, world_.size(), first_step};
    for (const std::string& line : announcement.lines(model)) writers.log(line);
    for (const std::string& line : lines(restored.differences)) writers.log(line);
    writers.log("to train on: " + inputs.training->description());
    if (const std::string note = small_set_note(inputs.training->size(), settings_.train.batch);
        !note.empty())
      writers.log(note);
    if (inputs.validation) writers.log("to validate with: " + inputs.validation->description());
    if (first_step > 0 && !skip_change.empty()) writers.log(skip_change);
    std::optional<TargetsFile> targets;
    peers_.agree([&] {
      if (!exporter || peers_.rank() != 0) return;
      for (const std::string& notice : exporter->notices()) writers.log(notice);
      try {
        targets.emplace(targets_path(settings_.metrics.targets_dir, directory.path()),
                        targets_json(exporter->targets(), settings_.run.dir, directory.id()), directory.id(),
                        [&](const std::string& text) { writers.warn(text); });
      } catch (const Error& error) {
        writers.warn(fmt::format("{}; Prometheus cannot find this run there", error.what()));
      }
    });

    Loader training(inputs.training, sampler,
                    loader_options(parallel, compute.device(), first_step, settings_.train.steps));
    TrainerParts parts{.task = *inputs.task,
                       .parallel = parallel,
                       .optimizer = optimizer,
                       .training = training,
                       .observers = observers(writers, exporter),
                       .stop_requested = [&] { return stop_signalled() || !directory.held(); },
                       .note = [&](const std::string& text) { writers.warn(text); },
                       .stream = compute.stream(),
                       .seed = seed()};
    if (inputs.validation && inputs.validation->size() > 0) {
      const Sampler order(inputs.validation->size(), settings_.train.batch, SampleOrder::kSequential, seed());
      parts.validation_steps = order.steps_per_epoch();
      parts.validation = [this, &inputs, &parallel, &compute, order]() -> std::unique_ptr<BatchSource> {
        return std::make_unique<Loader>(
            inputs.validation, order, loader_options(parallel, compute.device(), 0, order.steps_per_epoch()));
      };
      const bool missing = peers_.broadcast(recorded.evaluation ? "" : "missing") == "missing";
      parts.evaluate_first = first_step > 0 && evaluation_due(first_step) && missing;
    }
    parts.save_every = checkpoint.every;
    parts.save_every_s = checkpoint.every_s;
    parts.save = [&](int64_t step, OlderCheckpoints older) {
      directory.require_held(peers_);
      return checkpoints.save(distributed.state(optimizer),
                              checkpoint_metadata(settings_, sampler, step, *facts), older);
    };

    if (first_step >= settings_.train.steps) {
      writers.log(fmt::format("all {} steps are done: concluding the run", first_step));
    }
    Trainer trainer(settings_.train, settings_.schedule, parts);
    peers_.agree([] { interruption_point(); });
    start.reset();
    stops_save_now();
    TrainResult result;
    try {
      result = trainer.run(first_step);
      parallel.check_equal_weights();
    } catch (...) {
      stops_end_now(1);  // no further work would save more
      throw;
    }
    if (result.steps == first_step) add_recorded(result, recorded);
    finish(result, writers, directory, model);
    return result.reason;
  }

 private:
  static TrainResult::Reason stopped_before_training(Writers& writers) {
    writers.log("asked to stop during the check of files: nothing was trained");
    return TrainResult::Reason::kStopped;
  }

  /// Throws Error, the same on all ranks, if the run has saved checkpoints and none is left: it would begin
  /// again, and its records would be lost. Warns if the newest is missing and an older one is used.
  void check_recorded_checkpoint(Writers& writers, const RunDirectory& directory, const std::string& place,
                                 int64_t first_step) {
    peers_.agree([&] {
      if (peers_.rank() != 0) return;
      const int64_t last = last_recorded_checkpoint(directory.metrics()).value_or(0);
      require(last == 0 || first_step > 0,
              "--resume: {} has a record of a checkpoint of step {}, but {} contains none. Set "
              "checkpoint.dir to their directory, or start again in another run.dir",
              directory.metrics().string(), last, place);
      const auto places = list_checkpoints(place);
      const bool there = std::any_of(places.begin(), places.end(),
                                     [&](const CheckpointPlace& found) { return found.step == last; });
      if (last > first_step && !there) {
        writers.warn(
            fmt::format("{} has a record of a checkpoint of step {}, but {} does not contain it: continuing "
                        "after step {}",
                        directory.metrics().string(), last, place, first_step));
      }
    });
  }

  /// Whether the run is completed with these steps according to its summary.
  bool is_finished(const RunDirectory& directory, int64_t steps) {
    if (steps < settings_.train.steps) return false;
    std::string finished;
    if (peers_.rank() == 0) {
      try {
        const Summary summary = read_summary(directory.summary());
        if (summary.steps == steps && summary.exit_reason == name(TrainResult::Reason::kCompleted))
          finished = "yes";
      } catch (const Error&) {
        // None, or a damaged one: concluding writes it.
      }
    }
    return !peers_.broadcast(finished).empty();
  }

  [[nodiscard]] bool evaluation_due(int64_t step) const {
    const int64_t every = settings_.train.evaluate_every;
    return step >= settings_.train.steps || (every > 0 && step % every == 0);
  }

  /// Adds the records of an earlier session for the last step if this session has done no step.
  static void add_recorded(TrainResult& result, const RecordedStep& recorded) {
    result.loss = recorded.loss.value_or(std::numeric_limits<double>::quiet_NaN());
    if (result.evaluated || !recorded.evaluation) return;
    result.evaluation = *recorded.evaluation;
    result.evaluated = true;
  }

  /// A new run needs its files; a resumed run has checkpoints, which are more important.
  void open_writers(Writers& writers, const RunDirectory& directory, int64_t first_step) {
    const auto warn = [&](const std::string& text) { writers.warn(text); };
    try {
      if (const std::string repaired = repair_records(directory.metrics()); !repaired.empty()) warn(repaired);
    } catch (const Error& error) {
      if (first_step == 0) throw;
      warn(error.what());
    }
    writers.jsonl.emplace(directory.metrics(), first_step, warn);
    writers.tensorboard.emplace(directory.tensorboard(), item_, first_step, warn);
    try {
      writers.jsonl->check();
      writers.tensorboard->check();
      // Text can be generated from the run directory without the data.
      if (const auto tokenizer = open_tokenizer(settings_.data)) tokenizer->save(directory.tokenizer());
    } catch (const Error& error) {
      if (first_step == 0) throw;
      warn(error.what());
    }
  }

  [[nodiscard]] uint64_t seed() const { return static_cast<uint64_t>(settings_.run.seed); }

  LoaderOptions loader_options(const Parallel& parallel, const Device& device, int64_t first_step,
                               int64_t end_step) const {
    return {.ranges = local_ranges(parallel, settings_.train.microbatch_on(device.type)),
            .first_step = first_step,
            .end_step = end_step,
            .ahead = settings_.data.ahead,
            .threads = static_cast<int>(settings_.data.threads),
            .device = device};
  }

  [[nodiscard]] RankMetrics metrics_identity() const {
    return {.run = settings_.run.dir,
            .host = host_name(),
            .version = build_version(),
            .counts_tokens = item_ == "tokens"};
  }

  static std::vector<Observer*> observers(Writers& writers, std::optional<MetricsExporter>& exporter) {
    std::vector<Observer*> all = writers.observers();
    if (exporter) all.push_back(&*exporter);
    return all;
  }

  void start_progress(Writers& writers) {
    Progress::Options options;
    options.style = options_.progress;
    options.item = item_;
    options.terminal = Terminal::find();
    options.unicode = Terminal::unicode();
    options.warn = [&](const std::string& text) { err_ << "tutti: " << text << std::endl; };
    writers.quiet = options.style == ProgressStyle::kNone;
    writers.err = &err_;
    writers.progress.emplace(std::move(options), out_);
  }

  void finish(const TrainResult& result, Writers& writers, const RunDirectory& directory, Module& model) {
    const int64_t memory = peak_memory_bytes(peers_);
    peers_.agree([&] {
      if (peers_.rank() != 0) return;
      Summary summary{.steps = result.steps,
                      .world_size = peers_.size(),
                      .loss = result.loss,
                      .item = item_,
                      .wall_s = result.wall_s,
                      .peak_memory_bytes = memory,
                      .params_sha256 = parameters_digest(model),
                      .exit_reason = std::string(name(result.reason))};
      if (result.evaluated) {
        summary.val_loss = result.evaluation.loss;
        summary.val_accuracy = result.evaluation.accuracy;
        summary.val_bits_per_byte = validation_bits_per_byte(settings_.data, result.evaluation.loss);
      }
      if (result.wall_s > 0) summary.items_per_s = static_cast<double>(result.predictions) / result.wall_s;
      writers.finish();
      try {
        write_summary(directory.summary(), summary);
      } catch (const Error& error) {
        require(result.reason == TrainResult::Reason::kStopped,
                "{}; the checkpoint of step {} is saved, and --resume concludes the run", error.what(),
                result.steps);
        writers.warn(error.what());
      }
      std::string text = fmt::format("{} after {} steps", summary.exit_reason, summary.steps);
      if (result.samples > 0) {
        text += fmt::format(" in {:.1f} s: loss {:.4f}, {:.0f} {}/s", summary.wall_s, summary.loss,
                            summary.items_per_s, item_);
      }
      if (result.evaluated) {
        text += fmt::format(", validation {:.4f} ({:.2f} % right)", result.evaluation.loss,
                            100 * result.evaluation.accuracy);
      }
      writers.log(text);
    });
  }

  const TrainOptions& options_;
  Collective& world_;
  CollectivePeers peers_;
  std::ostream& out_;
  std::ostream& err_;
  RunSettings settings_;
  std::string item_;
};

}  // namespace

RunSettings read_settings(const TrainOptions& options, std::vector<std::string>* warnings) {
  const std::filesystem::path path = run_file_of(options.run_file);
  RunSettings settings;
  if (is_own_run_file(path)) {
    const OwnRun own = read_own_run(path.parent_path());
    if (warnings != nullptr) warnings->insert(warnings->end(), own.warnings.begin(), own.warnings.end());
    read_text(to_yaml(own.settings), path.string(), settings, options.sets);
  } else {
    read_run_file(path, settings, options.sets);
  }
  if (settings.run.dir.empty()) settings.run.dir = (std::filesystem::path("runs") / path.stem()).string();
  require(settings.model.kind != "gpt" || settings.model.fp8 == "none" ||
              settings.precision.compute == DType::kBFloat16,
          "{}: model.fp8: {} needs precision.compute: bf16, not {}", options.run_file.string(),
          settings.model.fp8, name(settings.precision.compute));
  return settings;
}

TrainResult::Reason train(const TrainOptions& options, Collective& world, std::ostream& out,
                          std::ostream& err) {
  try {
    return Training(options, world, out, err).run();
  } catch (const Interrupted&) {
    const bool logs = world.rank() == 0 && options.progress != ProgressStyle::kNone;
    if (logs) out << "stopped before the first step: nothing was lost" << std::endl;
    return TrainResult::Reason::kStopped;
  }
}

}  // namespace tutti
