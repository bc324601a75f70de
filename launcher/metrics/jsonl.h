#pragma once

#include "launcher/metrics/record_file.h"

#include <tutti/core/train/report.h>

#include <nlohmann/json_fwd.hpp>

#include <optional>

namespace tutti {

/// Writes metrics.jsonl: one JSON object a line, "kind" says which: "step", "evaluation" or "checkpoint".
/// Numbers that are not finite stand as null. Seconds end in _s, bytes in _bytes.
class JsonlWriter final : public Observer {
 public:
  /// Appends to `path`. What stands there of steps after `resumed_step` is dropped first: those steps come
  /// again. 0 begins anew. With `tell` (see RecordFile) errors are told; without it, throws Error with the
  /// path if the file cannot be read or written.
  explicit JsonlWriter(const std::filesystem::path& path, int64_t resumed_step = 0,
                       RecordFile::Tell tell = {});

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  /// Puts everything on the disk: a run that is resumed from the checkpoint has no hole before it.
  void before_checkpoint(int64_t step) override;
  void on_checkpoint(const CheckpointReport& report) override;
  /// Puts everything on the disk.
  void finish() { file_.sync(); }
  /// Throws Error if the file cannot be written.
  void check() const { file_.check(); }

 private:
  void append(const nlohmann::ordered_json& record);
  RecordFile file_;
};

/// Cuts off what a metrics file holds of steps after `step`, and a last line that was not written whole. A
/// missing file is fine. Throws Error naming the line that is no record.
void drop_records_after(const std::filesystem::path& path, int64_t step);

/// What a metrics file tells of one step.
struct RecordedStep {
  std::optional<double> loss;
  std::optional<EvaluationReport> evaluation;
};
/// Reads it, the latest record of each kind; nothing where the file is missing or damaged.
RecordedStep recorded_step(const std::filesystem::path& path, int64_t step);
/// The newest step of which it says that a checkpoint was saved; empty where it says so of none.
std::optional<int64_t> last_recorded_checkpoint(const std::filesystem::path& path);

}  // namespace tutti
