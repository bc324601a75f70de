#pragma once

#include <tutti/core/train/report.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tutti {

/// Process statistics of the operating system.
struct ProcessUse {
  int64_t resident_bytes = 0;
  double cpu_s = 0;
};
/// Zeros if /proc has no value.
ProcessUse process_use();

/// The metrics of a rank's training.
struct RankMetrics {
  std::string run;  ///< directory of the run, as the run file names it
  std::string host;
  std::string version;  ///< of this program
  int rank = 0;
  bool counts_tokens = false;  ///< predictions are tokens
  double started_at_s = 0;     ///< Unix time

  StepReport last;  ///< the last step; step 0 before the first
  double last_step_at_s = 0;
  int64_t steps = 0;  ///< by this process, as the sums below
  int64_t skipped_steps = 0;
  int64_t samples = 0;
  int64_t predictions = 0;
  double step_s = 0;
  double data_wait_s = 0;
  double comm_wait_s = 0;
  double optimizer_s = 0;

  std::optional<EvaluationReport> evaluation;

  int64_t checkpoints = 0;
  int64_t failed_checkpoints = 0;
  double checkpoint_s = 0;
  int64_t checkpoint_step = 0;  ///< of the last one written
  double checkpoint_at_s = 0;

  ProcessUse process;
};

/// A metric family of OpenMetrics.
struct MetricFamily {
  enum class Kind : uint8_t { kGauge, kCounter, kInfo };
  std::string_view name;  ///< without the _total of a counter and the _info of an info
  Kind kind;
  std::string_view unit;  ///< the end of the name; empty: none
  std::string_view help;
  /// Empty: no value yet, and the family has no sample.
  std::optional<double> (*value)(const RankMetrics&);
};

/// All families, in the order in which they are shown.
std::span<const MetricFamily> metric_families();
/// The name of its sample: "tutti_steps_total".
std::string sample_name(const MetricFamily& family);

/// The two text formats that Prometheus reads.
enum class MetricsFormat : uint8_t {
  kOpenMetrics,  ///< OpenMetrics 1.0
  kPrometheus,   ///< its predecessor, text format 0.0.4, for tools without support for OpenMetrics
};
std::string_view content_type(MetricsFormat format);
/// The format that a client's Accept header requests: OpenMetrics, unless it accepts only the older format.
MetricsFormat accepted_format(std::string_view accept);

/// All samples with the labels run, rank and host. Source: OpenMetrics 1.0, "ABNF"; Prometheus, "Exposition
/// formats".
std::string metrics_text(const RankMetrics& metrics, MetricsFormat format);

}  // namespace tutti
