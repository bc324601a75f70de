#pragma once

#include "launcher/metrics/record_file.h"

#include <tutti/core/train/report.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tutti {

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
uint32_t crc32c(std::string_view data);
/// The form in which TFRecord files store it: rotated right by 15 bits plus a constant.
uint32_t masked_crc32c(std::string_view data);
/// One TFRecord: length (64 bits), masked CRC of the length, data, masked CRC of the data; little-endian.
std::string tf_record(std::string_view data);

/// Writes scalars as a TensorBoard event file "events.out.tfevents.SECONDS.HOST.PID.NUMBER".
///
/// Tags: train/loss, learning_rate, grad_norm, epoch; throughput/NAME_per_s; time/step_s and its parts;
/// eval/loss, eval/accuracy; memory/tensors_mib.
class TensorBoardWriter final : public Observer {
 public:
  /// Creates a file in `folder`. `item` is the unit of throughput: "tokens" or "images". Readers drop steps
  /// after `resumed_step` from earlier files. Errors go to `notify` (see RecordFile); without
  /// it, throws Error with the path if the file cannot be written.
  TensorBoardWriter(const std::filesystem::path& folder, std::string_view item, int64_t resumed_step = 0,
                    RecordFile::Tell notify = {});

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void before_checkpoint(int64_t step) override;
  /// Syncs to the disk.
  void finish() { file_.sync(); }
  /// Throws Error if the file cannot be written.
  void check() const { file_.check(); }

 private:
  using Scalar = std::pair<std::string_view, double>;
  void scalars(int64_t step, std::span<const Scalar> values);

  RecordFile file_;
  std::string throughput_tag_;
};

}  // namespace tutti
