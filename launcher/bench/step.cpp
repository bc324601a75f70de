#include "launcher/bench/step.h"

#include "launcher/info/text.h"
#include "launcher/run/setup.h"
#include "launcher/run/training.h"

#include <tutti/comm/peers.h>
#include "core/cuda/config.h"
#include "core/cuda/device.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

/// The sizes of samples, without reading data.
DataShape shape_of(const RunSettings& settings, int64_t classes) {
  const auto or_else = [&](int64_t guess) { return classes > 0 ? classes : guess; };
  const std::string& kind = settings.data.kind;
  if (kind == "tokens") {
    const int64_t vocabulary = settings.model.gpt.vocabulary;
    return {.sample = {settings.data.context}, .classes = vocabulary > 0 ? vocabulary : or_else(4096)};
  }
  if (kind == "idx") return {.sample = {28, 28, 1}, .classes = or_else(10)};
  if (kind == "folder") {
    const int64_t side = settings.data.folder.size;
    return {.sample = {side, side, 3}, .classes = or_else(1000)};
  }
  return {.sample = {32, 32, 3}, .classes = or_else(10)};
}

/// The same random batch at every step, on the device from the start.
class RandomBatches final : public BatchSource {
 public:
  RandomBatches(const DataShape& data, int64_t samples, const Parallel& parallel, int64_t microbatch,
                const Stream& stream)
      : samples_(samples), per_sample_(data.sample.size() == 1 ? data.sample[0] : 1) {
    for (const auto& row : microbatches(parallel.shards(samples), microbatch)) {
      for (const Parallel::Shard& range : row) {
        Shape shape{range.end - range.begin};
        for (const int64_t n : data.sample) shape.push_back(n);
        const auto seed = static_cast<uint64_t>(range.begin);
        const bool tokens = data.sample.size() == 1;
        Batch batch;
        batch.inputs = tokens ? random_indices(shape, data.classes, 2 * seed, stream)
                              : random_values(shape, DType::kFloat32, 2 * seed, stream);
        batch.targets = random_indices(tokens ? shape : Shape{shape[0]}, data.classes, 2 * seed + 1, stream);
        batch.first_sample = range.begin;
        batches_.push_back(std::move(batch));
      }
    }
  }
  [[nodiscard]] int64_t samples(int64_t) const override { return samples_; }
  [[nodiscard]] double predictions(int64_t) const override {
    return static_cast<double>(samples_ * per_sample_);
  }
  [[nodiscard]] double epoch(int64_t) const override { return 0; }
  std::vector<Batch> next() override { return batches_; }

 private:
  int64_t samples_;
  int64_t per_sample_;
  std::vector<Batch> batches_;
};

class Recorder final : public Observer {
 public:
  void on_step(const StepReport& report) override { reports.push_back(report); }
  std::vector<StepReport> reports;
};

/// Records the times at which steps end: the device is idle then.
class Marker final : public Observer {
 public:
  Marker(const DeviceTrace& trace, const Stream& stream) : trace_(trace), stream_(stream) {}
  void on_step(const StepReport&) override {
    stream_.synchronize();
    marks.push_back(trace_.now_ns());
  }
  std::vector<int64_t> marks;

 private:
  const DeviceTrace& trace_;
  const Stream& stream_;
};

// Two eager steps and the captured one, as in StepGraphPlan.
constexpr int64_t kStepsBeforeReplay = StepGraphPlan::kEagerSteps + 1;

/// Traces further steps of the same training. Collective.
void trace_steps(const StepBenchOptions& options, TrainConfig config, const ScheduleConfig& schedule,
                 TrainerParts parts, StepBench& bench) {
  if (parts.stream.device().type == DeviceType::kCpu || options.traced_steps == 0) return;
  const std::unique_ptr<DeviceTrace> trace = DeviceTrace::start(bench.why_no_device_time);
  const int64_t first = config.steps;
  config.steps += kStepsBeforeReplay + options.traced_steps;
  std::optional<Marker> marker;
  parts.observers.clear();
  if (trace) parts.observers.push_back(&marker.emplace(*trace, parts.stream));
  // A new Trainer, because CUPTI sees only graphs that are captured during the trace. All ranks take part.
  (void)Trainer(config, schedule, parts).run(first);
  if (!trace) return;
  const std::span<const int64_t> marks(marker->marks);
  if (static_cast<int64_t>(marks.size()) <= kStepsBeforeReplay) return;  // ended early: not finite
  bench.device_time = device_time(trace->stop(), marks.subspan(kStepsBeforeReplay - 1));
}

template <class Get>
double median(const std::vector<StepReport>& reports, Get get) {
  std::vector<double> values;
  values.reserve(reports.size());
  for (const StepReport& report : reports) values.push_back(get(report));
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Rates are of the global batch, for any number of ranks.
void fill_in(StepBench& bench, const std::vector<StepReport>& reports, double flops_per_sample) {
  bench.step_s = median(reports, [](const StepReport& r) { return r.step_s; });
  bench.data_s = median(reports, [](const StepReport& r) { return r.data_wait_s; });
  bench.comm_s = median(reports, [](const StepReport& r) { return r.comm_wait_s; });
  bench.optimizer_s = median(reports, [](const StepReport& r) { return r.optimizer_s; });
  bench.fastest_step_s =
      std::min_element(reports.begin(), reports.end(), [](const StepReport& a, const StepReport& b) {
        return a.step_s < b.step_s;
      })->step_s;
  const StepReport& last = reports.back();
  bench.items_per_s = static_cast<double>(last.predictions) / bench.step_s;
  bench.flops_per_s = flops_per_sample * static_cast<double>(last.samples) / bench.step_s;
  bench.utilisation = bench.flops_per_s / (bench.ceilings.gemm_flops_per_s * bench.ranks);
  bench.memory_bytes = last.memory_bytes;
  bench.loss = last.loss;
}

}  // namespace

StepBench bench_step(const StepBenchOptions& options, Collective& world) {
  CollectivePeers peers(world);
  RunSettings settings;
  std::unique_ptr<Task> task;
  DataShape data;
  peers.agree([&] {
    settings = read_settings({.run_file = options.run_file, .sets = options.sets, .command_line = {}});
    settings.train.steps = options.warmup + options.steps;
    data = shape_of(settings, options.classes);
    fit_to_data(settings.model, data);
    task = make_task(settings.model);
  });
  const Compute compute(peers, settings.run.compute, settings.parallel.data.algorithm_selection());
  resolve_settings(settings, compute, peers);
  const Stream& stream = compute.stream();

  StepBench bench{.recipe = options.run_file.stem().string(),
                  .device = device_model(compute.device()),
                  .ranks = world.size(),
                  .threads = compute.threads().threads,
                  .dtype = settings.precision.compute,
                  .batch = settings.train.batch,
                  .item = settings.data.kind == "tokens" ? "tokens" : "images",
                  .ceilings = {}};
  peers.barrier();
  bench.ceilings = measure_ceilings(stream, settings.precision.compute, options.budget_s);
  if constexpr (kWithCuda) {
    if (!compute.on_cpu()) {  // the memory of the ceilings does not count for the step
      cuda::release_cached_memory(compute.device().index);
      cuda::reset_peak_memory(compute.device().index);
    }
  }

  DistributedModel distributed(world, task->model(), distribution(settings), compute);
  DataParallel& parallel = distributed.parallel();
  Optimizer optimizer(settings.optimizer, distributed.groups(), stream);
  RandomBatches batches(data, settings.train.batch, parallel,
                        settings.train.microbatch_on(stream.device().type), stream);
  Recorder recorder;
  TrainerParts parts{.task = *task,
                     .parallel = parallel,
                     .optimizer = optimizer,
                     .training = batches,
                     .observers = {&recorder},
                     .note =
                         [&](const std::string& text) {
                           if (world.rank() == 0) fmt::print(stderr, "tutti: {}\n", text);
                         },
                     .stream = stream,
                     .seed = 1};
  const TrainResult result = Trainer(settings.train, settings.schedule, parts).run();
  if (result.reason != TrainResult::Reason::kCompleted) {  // steps without an update are faster
    throw AgreedError(fmt::format("{}: the training on random data ends after {} of {} steps: {}",
                                  options.run_file.string(), result.steps, settings.train.steps,
                                  name(result.reason)));
  }
  recorder.reports.erase(recorder.reports.begin(), recorder.reports.begin() + options.warmup);
  fill_in(bench, recorder.reports, task->flops_per_sample());
  trace_steps(options, settings.train, settings.schedule, parts, bench);
  return bench;
}

namespace {

nlohmann::ordered_json json_of(const DeviceTime& time) {
  nlohmann::ordered_json work;
  for (size_t i = 0; i < kDeviceWorks; ++i)
    work[std::string(name(static_cast<DeviceWork>(i))) + "_s"] = time.work_s.at(i);
  return {{"busy_s", time.busy_s}, {"idle_s", time.idle_s}, {"work", std::move(work)}};
}

/// An additional line below a row of the table.
std::string text_of(const DeviceTime& time) {
  std::string text = "  device time/ms:";
  for (size_t i = 0; i < kDeviceWorks; ++i) {
    if (time.work_s.at(i) == 0) continue;
    text += fmt::format(" {} {:.2f},", name(static_cast<DeviceWork>(i)), time.work_s.at(i) * 1e3);
  }
  const double all_s = time.busy_s + time.idle_s;
  return text + fmt::format(" idle {:.2f} ({:.1f} %)\n", time.idle_s * 1e3,
                            all_s > 0 ? time.idle_s / all_s * 100 : 0);
}

}  // namespace

std::string to_json(const std::vector<StepBench>& benches) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const StepBench& b : benches) {
    all.push_back({{"recipe", b.recipe},
                   {"device", b.device},
                   {"ranks", b.ranks},
                   {"threads", b.threads},
                   {"dtype", name(b.dtype)},
                   {"batch", b.batch},
                   {b.item + "_per_s", b.items_per_s},
                   {"step_s", b.step_s},
                   {"fastest_step_s", b.fastest_step_s},
                   {"data_s", b.data_s},
                   {"comm_s", b.comm_s},
                   {"optimizer_s", b.optimizer_s},
                   {"forward_backward_s", b.step_s - b.data_s - b.comm_s - b.optimizer_s},
                   {"flops_per_s", b.flops_per_s},
                   {"mfu", b.utilisation},
                   {"gemm_flops_per_s", b.ceilings.gemm_flops_per_s},
                   {"copy_bytes_per_s", b.ceilings.copy_bytes_per_s},
                   {"peak_memory_bytes", b.memory_bytes},
                   {"loss", b.loss}});
    if (b.device_time) all.back()["device_time"] = json_of(*b.device_time);
  }
  return all.dump(2);
}

std::string table(const std::vector<StepBench>& benches) {
  std::string text = fmt::format("{:<18} {:<5} {:>5} {:>6} {:>16} {:>9} {:>6} {:>10}   {}\n", "recipe",
                                 "dtype", "ranks", "batch", "rate", "step/ms", "MFU", "memory",
                                 "parts of a step/ms: data, other ranks, optimizer, rest");
  for (const StepBench& b : benches) {
    text += fmt::format(
        "{:<18} {:<5} {:>5} {:>6} {:>16} {:>9.2f} {:>4.0f} % {:>10}   {:.2f}, {:.2f}, {:.2f}, {:.2f}\n",
        b.recipe, name(b.dtype), b.ranks, b.batch, fmt::format("{} {}/s", count_text(b.items_per_s), b.item),
        b.step_s * 1e3, b.utilisation * 100, bytes_text(b.memory_bytes), b.data_s * 1e3, b.comm_s * 1e3,
        b.optimizer_s * 1e3, (b.step_s - b.data_s - b.comm_s - b.optimizer_s) * 1e3);
    if (b.device_time) text += text_of(*b.device_time);
    if (!b.why_no_device_time.empty()) text += fmt::format("  no device time: {}\n", b.why_no_device_time);
  }
  if (benches.empty()) return text;
  const StepBench& first = benches.front();
  text += fmt::format(
      "\n{}, {} rank{} x {} thread{}; MFU: rate of the model's matrix products relative to {:.1f} GFLOP/s "
      "per rank, measured with a {} product\n",
      first.device, first.ranks, first.ranks == 1 ? "" : "s", first.threads, first.threads == 1 ? "" : "s",
      first.ceilings.gemm_flops_per_s / 1e9, first.ceilings.gemm_shape);
  return text;
}

}  // namespace tutti
