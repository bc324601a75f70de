#pragma once

#include "launcher/metrics/summary.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tutti {

/// One step of metrics.jsonl; numbers that were not finite are NaN.
struct StepRow {
  int64_t step = 0;
  double loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  double predictions = 0;
  double step_s = 0;
  double data_wait_s = 0;
  double comm_wait_s = 0;
  double optimizer_s = 0;
  double elapsed_s = 0;  ///< since the first session began, without the time between sessions
};

struct EvaluationRow {
  int64_t step = 0;
  double loss = 0;
  double accuracy = 0;
};

/// The content of a run directory for a report. Texts are valid UTF-8, even if those of the files are not.
struct RunData {
  std::string name;  ///< of the directory
  std::vector<StepRow> steps;
  std::vector<EvaluationRow> evaluations;
  std::optional<Summary> summary;  ///< none during the run, or if it was killed
  std::string run_file;
  /// Selected entries of the manifest, by label; of the last session.
  std::vector<std::pair<std::string, std::string>> manifest;
  std::string item = "tokens";
};

/// Reads a run directory. Throws Error naming the file, and the line, if it contains no metrics or they are
/// damaged; the last line may be truncated, as after a kill. run.yaml, manifest.json and summary.json may be
/// absent.
RunData read_run(const std::filesystem::path& directory);

}  // namespace tutti
