#include "launcher/metrics/tensorboard.h"

#include "comm/placement/placement.h"

#include <tutti/core/error.h>

#include <boost/crc.hpp>

#include <metrics/event.pb.h>

#include <unistd.h>

#include <array>
#include <atomic>

namespace tutti {
namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path new_file(const std::filesystem::path& folder, bool must_be) {
  static std::atomic<int> number{0};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error || !must_be, "{}: cannot be created: {}", folder.string(), error.message());
  return folder / fmt::format("events.out.tfevents.{:010}.{}.{}.{}",
                              static_cast<int64_t>(seconds_since_1970()), host_name(), getpid(), number++);
}

template <class Integer>
void append_little_endian(std::string& out, Integer value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xffU));
}

std::string encode(events::Event& event, int64_t step) {
  event.set_wall_time(seconds_since_1970());
  event.set_step(step);
  return tf_record(event.SerializeAsString());
}

/// The number of event files in a folder; 0 if it cannot be read.
int64_t event_files(const std::filesystem::path& folder) {
  int64_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().filename().string().starts_with("events.out.tfevents.")) ++count;
  }
  return count;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data.data(), data.size());
  return static_cast<uint32_t>(crc.checksum());
}

uint32_t masked_crc32c(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return ((crc >> 15U) | (crc << 17U)) + 0xa282ead8U;
}

std::string tf_record(std::string_view data) {
  std::string record;
  append_little_endian(record, static_cast<uint64_t>(data.size()));
  append_little_endian(record, masked_crc32c(record));
  record += data;
  append_little_endian(record, masked_crc32c(data));
  return record;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, std::string_view item,
                                     int64_t resumed_step, RecordFile::Tell notify)
    : file_(new_file(folder, notify == nullptr), notify),
      throughput_tag_(fmt::format("throughput/{}_per_s", item)) {
  events::Event version;
  version.set_file_version("brain.Event:2");
  file_.append(encode(version, 0));
  // A run that ended before its first checkpoint resumes from step 0: its events are dropped too.
  if (resumed_step > 0 || event_files(folder) > 1) {
    events::Event restart;
    restart.mutable_session_log()->set_status(events::SessionLog::START);
    file_.append(encode(restart, resumed_step + 1));
  }
  file_.flush();
}

void TensorBoardWriter::scalars(int64_t step, std::span<const Scalar> values) {
  events::Event event;
  for (const auto& [tag, value] : values) {
    events::Summary::Value* const entry = event.mutable_summary()->add_value();
    entry->set_tag(std::string(tag));
    entry->set_simple_value(static_cast<float>(value));
  }
  file_.append(encode(event, step));
}

void TensorBoardWriter::on_step(const StepReport& report) {
  const double rate = report.step_s > 0 ? static_cast<double>(report.predictions) / report.step_s : 0;
  const std::array<Scalar, 10> values{{
      {"train/loss", report.loss},
      {"train/learning_rate", report.learning_rate},
      {"train/grad_norm", report.grad_norm},
      {"train/epoch", report.epoch},
      {throughput_tag_, rate},
      {"time/step_s", report.step_s},
      {"time/data_wait_s", report.data_wait_s},
      {"time/comm_wait_s", report.comm_wait_s},
      {"time/optimizer_s", report.optimizer_s},
      {"memory/tensors_mib", static_cast<double>(report.memory_bytes) / (1 << 20)},
  }};
  scalars(report.step, values);
}

void TensorBoardWriter::on_evaluation(const EvaluationReport& report) {
  const std::array<Scalar, 2> values{{{"eval/loss", report.loss}, {"eval/accuracy", report.accuracy}}};
  scalars(report.step, values);
  file_.flush();
}

void TensorBoardWriter::before_checkpoint(int64_t) {
  file_.sync();
}

}  // namespace tutti
