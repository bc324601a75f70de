#include "launcher/metrics/jsonl.h"
#include "launcher/metrics/record_file.h"
#include "launcher/metrics/summary.h"
#include "launcher/metrics/tensorboard.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace tutti {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

StepReport step_report(int64_t step, double loss) {
  return {.step = step,
          .total_steps = 100,
          .loss = loss,
          .learning_rate = 0.25,
          .grad_norm = 1.5,
          .samples = 8,
          .predictions = 800,
          .epoch = 0.125,
          .step_s = 0.5,
          .data_wait_s = 0.0625,
          .comm_wait_s = 0.03125,
          .optimizer_s = 0.015625,
          .elapsed_s = 0.5 * static_cast<double>(step),
          .memory_bytes = 3 << 20};
}

std::vector<nlohmann::json> records(const std::filesystem::path& path) {
  std::vector<nlohmann::json> all;
  std::istringstream text(read_all(path));
  for (std::string line; std::getline(text, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

TEST(JsonlTest, RecordsContainTheReportedValues) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  {
    JsonlWriter writer(path);
    writer.on_step(step_report(1, 2.5));
    StepReport bad = step_report(2, kNan);
    bad.grad_norm = std::numeric_limits<double>::infinity();
    bad.skipped = true;
    writer.on_step(bad);
    writer.on_evaluation({.step = 2, .loss = 2.25, .accuracy = 0.5, .wall_s = 1});
    writer.on_checkpoint({.step = 2, .path = "a \"quoted\"\n\xff path", .wall_s = 1, .error = ""});
    writer.on_checkpoint({.step = 3, .path = "b", .wall_s = 1, .error = "No space left on device"});
  }
  const auto all = records(path);
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[0]["kind"], "step");
  EXPECT_EQ(all[0]["total_steps"], 100);
  EXPECT_EQ(all[0]["loss"], 2.5);
  EXPECT_EQ(all[0]["learning_rate"], 0.25);
  EXPECT_EQ(all[0]["predictions"], 800);
  EXPECT_EQ(all[0]["data_wait_s"], 0.0625);
  EXPECT_EQ(all[0]["comm_wait_s"], 0.03125);
  EXPECT_EQ(all[0]["optimizer_s"], 0.015625);
  EXPECT_EQ(all[0]["memory_bytes"], 3 << 20);
  EXPECT_TRUE(all[1]["loss"].is_null());
  EXPECT_TRUE(all[1]["grad_norm"].is_null());
  EXPECT_EQ(all[1]["skipped"], true);
  EXPECT_EQ(all[2]["kind"], "evaluation");
  EXPECT_EQ(all[2]["accuracy"], 0.5);
  EXPECT_EQ(all[3]["path"], "a \"quoted\"\n\xef\xbf\xbd path");
  EXPECT_FALSE(all[3].contains("error"));
  EXPECT_EQ(all[4]["error"], "No space left on device");
}

TEST(JsonlTest, AResumedRunDropsRepeatedSteps) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  {
    JsonlWriter writer(path);
    for (int64_t step = 1; step <= 7; ++step) {
      writer.on_step(step_report(step, 10.0 - static_cast<double>(step)));
      if (step == 4) writer.on_checkpoint({.step = 4, .path = "c", .wall_s = 1, .error = ""});
    }
  }
  // Killed in the middle of a line.
  write_all(path, read_all(path) + R"({"kind":"step","st)");
  {
    JsonlWriter writer(path, 4);
    writer.on_step(step_report(5, 50));
  }
  const auto all = records(path);
  ASSERT_EQ(all.size(), 6U);
  EXPECT_EQ(all[3]["step"], 4);
  EXPECT_EQ(all[4]["kind"], "checkpoint");
  EXPECT_EQ(all[5]["step"], 5);
  EXPECT_EQ(all[5]["loss"], 50);
  // A second resume from the same checkpoint: the same file up to its step.
  { const JsonlWriter writer(path, 4); }
  EXPECT_EQ(records(path).size(), 5U);
  // A new run drops all records.
  { const JsonlWriter writer(path); }
  EXPECT_EQ(read_all(path), "");
}

TEST(JsonlTest, AForeignFileIsNotChanged) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  for (const char* const text : {"my notes\n", "{\"step\":1}\n[1]\n", "{\"step\":\"one\"}\n", "{}\n"}) {
    write_all(path, text);
    try {
      const JsonlWriter writer(path, 1);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("metrics.jsonl:"), std::string::npos) << error.what();
    }
    EXPECT_EQ(read_all(path), text);
  }
}

TEST(JsonlTest, AFullDiskIsReported) {
  const TemporaryDirectory folder;
  JsonlWriter writer(folder / "metrics.jsonl");
  writer.on_step(step_report(1, 1));
  const FileSizeLimit limit(0);
  try {
    writer.on_evaluation({.step = 1});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl: cannot write: File too large"),
              std::string::npos);
  }
}

TEST(RecordFileTest, ARemovedFileIsCreatedAgain) {
  const TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  std::vector<std::string> messages;
  RecordFile file(path, [&](const std::string& text) { messages.push_back(text); });
  const auto write = [&](std::string_view record) {
    file.append(record);
    file.sync();
  };
  write("a\n");
  EXPECT_TRUE(messages.empty());
  std::filesystem::remove(path);
  write("b\n");
  EXPECT_EQ(read_all(path), "b\n");
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_NE(messages[0].find("earlier records are missing"), std::string::npos) << messages[0];
  std::filesystem::rename(path, folder / "moved");
  write("c\n");
  EXPECT_EQ(read_all(path), "c\n");
  EXPECT_EQ(read_all(folder / "moved"), "b\n");
  EXPECT_EQ(messages.size(), 1U) << "not exactly one message";

  // A foreign file at the path is not changed; records are kept in memory.
  std::filesystem::remove(path);
  write_all(path, "mine");
  write("d\n");
  write("e\n");
  EXPECT_EQ(read_all(path), "mine");
  EXPECT_THROW(file.check(), Error);
  EXPECT_EQ(messages.size(), 2U);
  std::filesystem::remove(path);
  write("f\n");
  EXPECT_EQ(read_all(path), "d\ne\nf\n");
  EXPECT_NO_THROW(file.check());
}

TEST(TensorBoardTest, Crc32cOfKnownVectors) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<char>(i));
  EXPECT_EQ(crc32c(ascending), 0x46dd794eU);
  EXPECT_EQ(crc32c(std::string(ascending.rbegin(), ascending.rend())), 0x113fdb5cU);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8U);
}

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

TEST(TensorBoardTest, RecordsHaveLengthsAndChecksums) {
  std::mt19937 random(std::random_device{}());
  for (const size_t size : {0UL, 1UL, 7UL, 1000UL}) {
    std::string data;
    for (size_t i = 0; i < size; ++i) data.push_back(static_cast<char>(random()));
    const std::string record = tf_record(data);
    ASSERT_EQ(record.size(), size + 16);
    EXPECT_EQ(little_endian(record.substr(0, 8)), size);
    EXPECT_EQ(little_endian(record.substr(8, 4)), masked_crc32c(record.substr(0, 8)));
    EXPECT_EQ(record.substr(12, size), data);
    EXPECT_EQ(little_endian(record.substr(12 + size)), masked_crc32c(data));
  }
}

TEST(TensorBoardTest, AFileIsASequenceOfRecords) {
  const TemporaryDirectory folder;
  {
    TensorBoardWriter writer(folder / "events", "images", 4);
    writer.on_step(step_report(5, 1.25));
    writer.on_evaluation({.step = 5, .loss = 2, .accuracy = 0.5});
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "events")) {
    ++files;
    EXPECT_TRUE(entry.path().filename().string().starts_with("events.out.tfevents."));
    std::string text = read_all(entry.path());
    std::vector<std::string> events;
    while (!text.empty()) {
      ASSERT_GE(text.size(), 16U);
      const uint64_t size = little_endian(text.substr(0, 8));
      ASSERT_LE(size + 16, text.size());
      events.push_back(text.substr(12, size));
      EXPECT_EQ(little_endian(text.substr(12 + size, 4)), masked_crc32c(events.back()));
      text.erase(0, size + 16);
    }
    ASSERT_EQ(events.size(), 4U);
    EXPECT_NE(events[0].find("brain.Event:2"), std::string::npos);
    EXPECT_NE(events[2].find("throughput/images_per_s"), std::string::npos);
    EXPECT_NE(events[3].find("eval/accuracy"), std::string::npos);
    // train/loss is 1.25: tag 2 of the value, a 32-bit float.
    const std::string loss = std::string("train/loss") + "\x15" + std::string("\x00\x00\xa0\x3f", 4);
    EXPECT_NE(events[2].find(loss), std::string::npos);
  }
  EXPECT_EQ(files, 1);
}

TEST(TensorBoardTest, ARunThatBeginsAgainDropsEarlierEvents) {
  const TemporaryDirectory folder;
  std::vector<size_t> sizes;
  for (int i = 0; i < 2; ++i) {
    TensorBoardWriter writer(folder / "events", "images");
    writer.on_step(step_report(1, 1.25));
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder / "events"))
    sizes.push_back(std::filesystem::file_size(entry.path()));
  ASSERT_EQ(sizes.size(), 2U);
  EXPECT_NE(sizes[0], sizes[1]) << "the second file has a session's start";
}

TEST(SummaryTest, ContainsTheDocumentedFields) {
  const TemporaryDirectory folder;
  Summary summary{.steps = 100,
                  .world_size = 2,
                  .loss = 1.5,
                  .val_loss = 1.75,
                  .items_per_s = 1234.5,
                  .wall_s = 12,
                  .peak_memory_bytes = int64_t{5} << 30,
                  .params_sha256 = "abc",
                  .exit_reason = "completed"};
  write_summary(folder / "summary.json", summary);
  const auto json = nlohmann::json::parse(read_all(folder / "summary.json"));
  for (const char* const key : {"steps", "world_size", "loss", "val_loss", "tokens_per_s", "wall_s",
                                "peak_memory_bytes", "params_sha256", "exit_reason"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["peak_memory_bytes"], int64_t{5} << 30);
  EXPECT_EQ(json["val_loss"], 1.75);
  EXPECT_EQ(json["tokens_per_s"], 1234.5);

  summary.item = "images";
  summary.loss = kNan;
  summary.val_loss.reset();
  write_summary(folder / "summary.json", summary);
  const auto images = nlohmann::json::parse(read_all(folder / "summary.json"));
  EXPECT_FALSE(images.contains("tokens_per_s"));
  EXPECT_EQ(images["images_per_s"], 1234.5);
  EXPECT_TRUE(images["loss"].is_null());
  EXPECT_TRUE(images["val_loss"].is_null());
  const Summary back = read_summary(folder / "summary.json");
  EXPECT_TRUE(std::isnan(back.loss));
  EXPECT_FALSE(back.val_loss.has_value());
  EXPECT_EQ(back.item, "images");
  EXPECT_EQ(back.params_sha256, "abc");

  write_all(folder / "summary.json", R"({"steps": "many"})");
  EXPECT_THROW(read_summary(folder / "summary.json"), Error);
  EXPECT_THROW(write_summary(folder / "no/such/place/summary.json", summary), Error);
}

TEST(SummaryTest, PeakMemoryIsThatOfTheProcess) {
  SinglePeer peer;
  const int64_t before = peak_memory_bytes(peer);
  const size_t size = 64 << 20;
  std::string block(size, 'x');
  EXPECT_GE(peak_memory_bytes(peer), before);
  EXPECT_GE(peak_memory_bytes(peer), static_cast<int64_t>(block.size()));
}

}  // namespace
}  // namespace tutti
