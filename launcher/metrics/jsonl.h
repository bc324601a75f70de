#pragma once

#include "launcher/metrics/record_file.h"

#include <tutti/core/train/report.h>

#include <nlohmann/json_fwd.hpp>

namespace tutti {

/// Writes metrics.jsonl: one JSON object a line, "kind" says which: "step", "evaluation" or "checkpoint".
/// Numbers that are not finite stand as null. Seconds end in _s, bytes in _bytes.
class JsonlWriter final : public Observer {
 public:
  /// Appends to `path`. What stands there of steps after `resumed_step` is dropped first: those steps come
  /// again. 0 begins anew. Throws Error with the path if the file cannot be read or written.
  explicit JsonlWriter(const std::filesystem::path& path, int64_t resumed_step = 0);

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const CheckpointReport& report) override;
  /// Puts everything on the disk.
  void finish() { file_.sync(); }

 private:
  void append(const nlohmann::ordered_json& record);
  RecordFile file_;
};

/// Cuts off what a metrics file holds of steps after `step`, and a last line that was not written whole. A
/// missing file is fine. Throws Error naming the line that is no record.
void drop_records_after(const std::filesystem::path& path, int64_t step);

}  // namespace tutti
