#include "launcher/metrics/exporter/open_metrics.h"

#include "core/config/utf8.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <fstream>
#include <iterator>

namespace tutti {
namespace {

using Kind = MetricFamily::Kind;
using Value = std::optional<double>;

template <class T>
Value number(T value) {
  return static_cast<double>(value);
}

/// Nothing before the first step.
template <class T>
Value stepped(const RankMetrics& m, T value) {
  return m.steps > 0 ? number(value) : Value();
}

constexpr std::array kFamilies{
    MetricFamily{"tutti_build", Kind::kInfo, "", "Version of the program.",
                 [](const RankMetrics&) { return number(1); }},
    MetricFamily{"tutti_step", Kind::kGauge, "",
                 "Optimizer steps that the run has done, resumed ones included.",
                 [](const RankMetrics& m) { return stepped(m, m.last.step); }},
    MetricFamily{"tutti_planned_steps", Kind::kGauge, "", "Optimizer steps at which the run ends.",
                 [](const RankMetrics& m) { return stepped(m, m.last.total_steps); }},
    MetricFamily{"tutti_epoch", Kind::kGauge, "", "Passes over the training data.",
                 [](const RankMetrics& m) { return stepped(m, m.last.epoch); }},
    MetricFamily{"tutti_loss", Kind::kGauge, "", "Mean loss of the last global batch.",
                 [](const RankMetrics& m) { return stepped(m, m.last.loss); }},
    MetricFamily{"tutti_learning_rate", Kind::kGauge, "", "Learning rate of the last step.",
                 [](const RankMetrics& m) { return stepped(m, m.last.learning_rate); }},
    MetricFamily{"tutti_gradient_norm", Kind::kGauge, "", "Norm of the last gradient before clipping.",
                 [](const RankMetrics& m) { return stepped(m, m.last.grad_norm); }},
    MetricFamily{"tutti_last_step_seconds", Kind::kGauge, "seconds", "Wall time of the last step.",
                 [](const RankMetrics& m) { return stepped(m, m.last.step_s); }},
    MetricFamily{"tutti_last_step_timestamp_seconds", Kind::kGauge, "seconds",
                 "Unix time at which the last step ended.",
                 [](const RankMetrics& m) { return stepped(m, m.last_step_at_s); }},
    MetricFamily{"tutti_steps", Kind::kCounter, "", "Optimizer steps done by this process.",
                 [](const RankMetrics& m) { return number(m.steps); }},
    MetricFamily{"tutti_skipped_steps", Kind::kCounter, "",
                 "Steps without an update, because the loss or gradient was not finite.",
                 [](const RankMetrics& m) { return number(m.skipped_steps); }},
    MetricFamily{"tutti_samples", Kind::kCounter, "",
                 "Samples of the global batches: the same on all ranks of a run.",
                 [](const RankMetrics& m) { return number(m.samples); }},
    MetricFamily{"tutti_tokens", Kind::kCounter, "",
                 "Tokens predicted over all ranks: the same on all ranks of a run.",
                 [](const RankMetrics& m) { return m.counts_tokens ? number(m.predictions) : Value(); }},
    MetricFamily{"tutti_step_seconds", Kind::kCounter, "seconds", "Wall time of all steps.",
                 [](const RankMetrics& m) { return number(m.step_s); }},
    MetricFamily{"tutti_data_wait_seconds", Kind::kCounter, "seconds",
                 "Of the steps, time spent waiting for the next batch.",
                 [](const RankMetrics& m) { return number(m.data_wait_s); }},
    MetricFamily{"tutti_comm_wait_seconds", Kind::kCounter, "seconds",
                 "Of the steps, time spent waiting for other ranks.",
                 [](const RankMetrics& m) { return number(m.comm_wait_s); }},
    MetricFamily{"tutti_optimizer_seconds", Kind::kCounter, "seconds",
                 "Of the steps, time spent in the optimizer.",
                 [](const RankMetrics& m) { return number(m.optimizer_s); }},
    MetricFamily{"tutti_tensor_peak_bytes", Kind::kGauge, "bytes", "Peak memory of tensors.",
                 [](const RankMetrics& m) { return stepped(m, m.last.memory_bytes); }},
    MetricFamily{"tutti_evaluation_loss", Kind::kGauge, "", "Loss on the validation set.",
                 [](const RankMetrics& m) { return m.evaluation ? number(m.evaluation->loss) : Value(); }},
    MetricFamily{
        "tutti_evaluation_accuracy_ratio", Kind::kGauge, "ratio",
        "Fraction of correct predictions on the validation set.",
        [](const RankMetrics& m) { return m.evaluation ? number(m.evaluation->accuracy) : Value(); }},
    MetricFamily{"tutti_checkpoints", Kind::kCounter, "", "Checkpoints written.",
                 [](const RankMetrics& m) { return number(m.checkpoints); }},
    MetricFamily{"tutti_failed_checkpoints", Kind::kCounter, "", "Checkpoints that could not be written.",
                 [](const RankMetrics& m) { return number(m.failed_checkpoints); }},
    MetricFamily{"tutti_checkpoint_seconds", Kind::kCounter, "seconds", "Wall time spent on checkpoints.",
                 [](const RankMetrics& m) { return number(m.checkpoint_s); }},
    MetricFamily{
        "tutti_last_checkpoint_step", Kind::kGauge, "", "Step of the last checkpoint written.",
        [](const RankMetrics& m) { return m.checkpoints > 0 ? number(m.checkpoint_step) : Value(); }},
    MetricFamily{
        "tutti_last_checkpoint_timestamp_seconds", Kind::kGauge, "seconds",
        "Unix time of the last checkpoint written.",
        [](const RankMetrics& m) { return m.checkpoints > 0 ? number(m.checkpoint_at_s) : Value(); }},
    MetricFamily{"process_start_time_seconds", Kind::kGauge, "seconds", "Unix time at which training began.",
                 [](const RankMetrics& m) { return number(m.started_at_s); }},
    MetricFamily{"process_cpu_seconds", Kind::kCounter, "seconds", "CPU time of the process, all threads.",
                 [](const RankMetrics& m) { return number(m.process.cpu_s); }},
    MetricFamily{"process_resident_memory_bytes", Kind::kGauge, "bytes", "Memory that the process occupies.",
                 [](const RankMetrics& m) { return number(m.process.resident_bytes); }}};

std::string_view type_name(Kind kind, MetricsFormat format) {
  switch (kind) {
    case Kind::kGauge:
      return "gauge";
    case Kind::kCounter:
      return "counter";
    case Kind::kInfo:
      return format == MetricsFormat::kOpenMetrics ? "info" : "gauge";
  }
  return "unknown";
}

std::string value_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

/// A label's value between its quotes. Paths may contain bytes that are not valid UTF-8, which become '?'.
std::string label_text(std::string_view text) {
  const bool utf8 = is_utf8(text);
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') {
      escaped += '\\';
      escaped += c;
    } else if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += utf8 || static_cast<unsigned char>(c) < 0x80 ? c : '?';
    }
  }
  return escaped;
}

}  // namespace

ProcessUse process_use() {
  ProcessUse use;
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  if (file >> pages >> pages) use.resident_bytes = pages * sysconf(_SC_PAGESIZE);
  rusage counted{};
  if (getrusage(RUSAGE_SELF, &counted) == 0) {
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    use.cpu_s = seconds(counted.ru_utime) + seconds(counted.ru_stime);
  }
  return use;
}

std::span<const MetricFamily> metric_families() {
  return kFamilies;
}

std::string sample_name(const MetricFamily& family) {
  const std::string name(family.name);
  if (family.kind == Kind::kCounter) return name + "_total";
  return family.kind == Kind::kInfo ? name + "_info" : name;
}

std::string_view content_type(MetricsFormat format) {
  return format == MetricsFormat::kOpenMetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                               : "text/plain; version=0.0.4; charset=utf-8";
}

MetricsFormat accepted_format(std::string_view accept) {
  const bool names = accept.find("openmetrics") != std::string_view::npos;
  const bool older = accept.find("text/plain") != std::string_view::npos;
  return older && !names ? MetricsFormat::kPrometheus : MetricsFormat::kOpenMetrics;
}

std::string metrics_text(const RankMetrics& metrics, MetricsFormat format) {
  const bool open = format == MetricsFormat::kOpenMetrics;
  const std::string labels = fmt::format("run=\"{}\",rank=\"{}\",host=\"{}\"", label_text(metrics.run),
                                         metrics.rank, label_text(metrics.host));
  std::string text;
  auto out = std::back_inserter(text);
  for (const MetricFamily& family : kFamilies) {
    const std::string sample = sample_name(family);
    // The older format names families by their samples.
    const std::string_view name = open ? family.name : sample;
    fmt::format_to(out, "# HELP {} {}\n# TYPE {} {}\n", name, family.help, name,
                   type_name(family.kind, format));
    if (open && !family.unit.empty()) fmt::format_to(out, "# UNIT {} {}\n", name, family.unit);
    const Value value = family.value(metrics);
    if (!value) continue;
    fmt::format_to(out, "{}{{{}", sample, labels);
    if (family.kind == Kind::kInfo) fmt::format_to(out, ",version=\"{}\"", label_text(metrics.version));
    fmt::format_to(out, "}} {}\n", value_text(*value));
  }
  if (open) text += "# EOF\n";
  return text;
}

}  // namespace tutti
