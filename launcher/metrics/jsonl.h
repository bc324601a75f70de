#pragma once

#include "launcher/metrics/record_file.h"

#include <tutti/core/train/report.h>

#include <nlohmann/json_fwd.hpp>

#include <optional>

namespace tutti {

/// Writes metrics.jsonl: one JSON object per line, with "kind": "step", "evaluation" or "checkpoint".
/// Non-finite numbers are written as null. Names of seconds end in _s, of bytes in _bytes.
class JsonlWriter final : public Observer {
 public:
  /// Appends to `path`. Records of steps after `resumed_step` are dropped first, because those steps are
  /// repeated; 0 drops all. With `notify` (see RecordFile) errors are reported; without it, throws Error with
  /// the path if the file cannot be read or written.
  explicit JsonlWriter(const std::filesystem::path& path, int64_t resumed_step = 0,
                       RecordFile::Tell notify = {});

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  /// Syncs to the disk, so that a run resumed from the checkpoint has no gap before it.
  void before_checkpoint(int64_t step) override;
  void on_checkpoint(const CheckpointReport& report) override;
  /// Syncs to the disk.
  void finish() { file_.sync(); }
  /// Throws Error if the file cannot be written.
  void check() const { file_.check(); }

 private:
  void append(const nlohmann::ordered_json& record);
  RecordFile file_;
};

/// Removes records of steps after `step` and an incomplete last line from a metrics file. Does nothing if the
/// file is missing. Throws Error naming a line that is not a record.
void drop_records_after(const std::filesystem::path& path, int64_t step);

/// The records of one step in a metrics file.
struct RecordedStep {
  std::optional<double> loss;
  std::optional<EvaluationReport> evaluation;
};
/// Reads the latest record of each kind; empty if the file is missing or damaged.
RecordedStep recorded_step(const std::filesystem::path& path, int64_t step);
/// The newest step with a checkpoint record; empty if there is none.
std::optional<int64_t> last_recorded_checkpoint(const std::filesystem::path& path);

}  // namespace tutti
