#include "launcher/run/evaluation.h"

#include "launcher/run/identity.h"
#include "launcher/run/own_run.h"
#include "launcher/run/run_model.h"
#include "launcher/run/setup.h"
#include "launcher/run/verify_inputs.h"

#include <tutti/comm/peers.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/data/loader.h>
#include <tutti/core/data/verify.h>
#include <tutti/core/error.h>
#include <tutti/core/train/trainer.h>
#include <tutti/models/external_names.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>

namespace tutti {
namespace {

/// Throws Error naming the keys with which the command line would define another model than the trained one.
void require_trained_model(const std::filesystem::path& path, const ModelConfig& trained,
                           const ModelConfig& set) {
  std::string problems;
  for (const Difference& d : model_differences(trained, set))
    problems += fmt::format("\n  {} is {}, but the model was trained with {}", d.key, d.now, d.then);
  require(problems.empty(), "{}: --set would evaluate another model than the trained one:{}", path.string(),
          problems);
}

/// The settings of the run, or of the model in a folder, with the overrides of the command line.
RunSettings settings_of(const EvaluateOptions& options) {
  RunSettings settings;
  if (is_hugging_face_folder(options.model)) {
    require(options.step == 0, "{}: --step selects a checkpoint of a run; this is a folder of transformers",
            options.model.string());
    require(!options.data.empty(), "--data: expected the data to evaluate {} on", options.model.string());
    settings.model.gpt = hugging_face_config_of(options.model)->gpt;
    settings.train.batch = 8;
    settings.data.context = std::min<int64_t>(settings.model.gpt.context, 1024);
  } else {
    settings = read_own_run(options.model).settings;
  }
  const ModelConfig trained = settings.model;
  for (const std::string& assignment : options.sets) apply_set(assignment, settings);
  require_trained_model(options.model, trained, settings.model);
  if (!options.data.empty()) {
    settings.data.path = options.data;
    settings.data.validation_path.clear();
  }
  return settings;
}

/// One rank's part of a pass.
class Pass {
 public:
  Pass(const EvaluateOptions& options, Collective& world, std::ostream& err)
      : options_(options), world_(world), peers_(world), err_(err) {}

  Evaluation run() {
    peers_.agree([&] { settings_ = settings_of(options_); });
    const Compute compute(peers_, settings_.run.compute, settings_.parallel.data.algorithm_selection());
    std::shared_ptr<const Dataset> data;
    std::unique_ptr<Task> task;
    peers_.agree([&] {
      data = open_dataset(settings_.data, options_.training_split ? Split::kTraining : Split::kValidation);
      require(data != nullptr && data->size() > 0, "{}: has no {} set", settings_.data.path,
              options_.training_split ? "training" : "validation");
      check_tokenizer(options_.model, settings_.data);
      // The model is given; only settings that depend on the data are filled in.
      fit_to_data(settings_.model, {data->sample_shape(), data->classes()});
      task = make_task(settings_.model);
    });
    verify(*data, compute.threads().threads);
    settings_.parallel.zero = 0;
    DistributedModel distributed(world_, task->model(), distribution(settings_), compute);
    std::optional<int64_t> step;
    peers_.agree([&] { step = load(*task, distributed.groups(), compute.stream()); });
    distributed.parallel().check_equal_weights();
    Evaluation result = sums(*task, distributed.parallel(), data, compute);
    result.step = step;
    if (settings_.data.kind == "tokens") {
      peers_.agree([&] {
        const std::optional<Tokenizer> tokenizer = open_tokenizer(settings_.data);
        if (!tokenizer) return;
        if (const auto bytes = bytes_per_prediction(*data, *tokenizer, compute.host_stream()))
          result.bits_per_byte = bits_per_byte(result.loss, *bytes);
      });
    }
    return result;
  }

 private:
  /// Compares the data with its recorded checksums, if it has any and unless data.verify is quick.
  void verify(const Dataset& data, int threads) {
    DataContent content;
    peers_.agree([&] { content = data.content(); });
    const bool recorded =
        std::ranges::any_of(content.files, [](const ContentFile& file) { return !file.sha256.empty(); });
    if (!recorded || data_check_from_name(settings_.data.verify) == DataCheck::kQuick) return;
    const auto log = [&](const std::string& text) { err_ << "tutti: " << text << '\n'; };
    (void)identify(content, DataCheck::kFull, peers_, check_work("data.verify", threads, log));
  }

  /// Returns the step of a run's checkpoint.
  std::optional<int64_t> load(Task& task, std::span<const std::unique_ptr<ParamGroup>> groups,
                              const Stream& stream) {
    if (is_hugging_face_folder(options_.model)) {
      load_weights(task.model(), groups, ModelFiles::open(options_.model), stream);
      return std::nullopt;
    }
    std::ostream& err = peers_.rank() == 0 ? err_ : nowhere_;
    return load_run_weights(
               {.directory = options_.model, .checkpoints = settings_.checkpoint.dir, .step = options_.step},
               task, groups, stream, err)
        .first;
  }

  Evaluation sums(Task& task, DataParallel& parallel, const std::shared_ptr<const Dataset>& data,
                  const Compute& compute) {
    const Sampler order(data->size(), settings_.train.batch, SampleOrder::kSequential, 0);
    const auto source = [&]() -> std::unique_ptr<BatchSource> {
      return std::make_unique<Loader>(
          data, order,
          LoaderOptions{
              .ranges = local_ranges(parallel, settings_.train.microbatch_on(compute.device().type)),
              .first_step = 0,
              .end_step = order.steps_per_epoch(),
              .ahead = settings_.data.ahead,
              .threads = static_cast<int>(settings_.data.threads),
              .device = compute.device()});
    };
    const EvaluationOutcome outcome =
        tutti::evaluate({.task = task,
                         .parallel = parallel,
                         .source = source,
                         .steps = order.steps_per_epoch(),
                         .microbatch = settings_.train.microbatch_on(compute.device().type),
                         .stop_requested = {},
                         .stream = compute.stream()});
    if (!outcome.sums) throw AgreedError(outcome.interruption.problem);
    const EvaluationSums& total = *outcome.sums;
    require(total.count > 0, "{}: contains no predictions", settings_.data.path);
    return {.loss = total.loss / total.count,
            .accuracy = total.correct / total.count,
            .count = static_cast<int64_t>(total.count),
            .bits_per_byte = std::nullopt,
            .item = settings_.data.kind == "tokens" ? "tokens" : "images",
            .step = std::nullopt};
  }

  const EvaluateOptions& options_;
  Collective& world_;
  CollectivePeers peers_;
  std::ostream& err_;
  std::ostream nowhere_{nullptr};
  RunSettings settings_;
};

}  // namespace

Evaluation evaluate(const EvaluateOptions& options, Collective& world, std::ostream& err) {
  return Pass(options, world, err).run();
}

std::optional<double> bytes_per_prediction(const Dataset& data, const Tokenizer& tokenizer,
                                           const Stream& stream) {
  constexpr int64_t kSamples = 64;
  // The text of a token may depend on those before it, so that texts are decoded as a whole.
  TokenDecoder text(tokenizer);
  const std::optional<int32_t> end_of_text = tokenizer.end_of_text();
  int64_t bytes = 0;
  int64_t count = 0;
  for (int64_t first = 0; first < data.size(); first += kSamples) {
    std::vector<int64_t> ids(static_cast<size_t>(std::min(kSamples, data.size() - first)));
    std::iota(ids.begin(), ids.end(), first);
    const Tensor targets = data.read(ids, {}, stream).targets;
    dispatch_index(targets.dtype(), "targets", [&]<class T>(TypeTag<T>) {
      for (const T target : targets.span<T>()) {
        if (target < 0 || target >= tokenizer.vocabulary()) continue;
        if (target != end_of_text)
          bytes += static_cast<int64_t>(text.add(static_cast<int32_t>(target)).size());
        ++count;
      }
    });
  }
  bytes += static_cast<int64_t>(text.finish().size());
  if (count == 0 || bytes == 0) return std::nullopt;
  return static_cast<double>(bytes) / static_cast<double>(count);
}

std::optional<double> validation_bits_per_byte(const DataConfig& data, double loss) {
  if (data.kind != "tokens") return std::nullopt;
  try {
    const std::optional<Tokenizer> tokenizer = open_tokenizer(data);
    const std::shared_ptr<const Dataset> set = open_dataset(data, Split::kValidation);
    if (!tokenizer || !set) return std::nullopt;
    ThreadPool pool(1);
    const auto bytes = bytes_per_prediction(*set, *tokenizer, Stream::inline_on(pool));
    return bytes ? std::optional(bits_per_byte(loss, *bytes)) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // a missing value must not end a completed training
  }
}

double bits_per_byte(double loss, double bytes_per_prediction) {
  return loss / std::log(2.0) / bytes_per_prediction;
}

}  // namespace tutti
