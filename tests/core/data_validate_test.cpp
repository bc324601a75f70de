#include <gtest/gtest.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/data/validate/validate.h>

#include "tests/core/image_helpers.h"
#include "tests/core/thread_peers.h"

#include <algorithm>

namespace tutti {
namespace {

using test::draw;
using test::random_image;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;

/// The report of a validation on `ranks` ranks, which must be the same on all.
DataReport validated(const DataConfig& config, int ranks) {
  std::vector<DataReport> reports(static_cast<size_t>(ranks));
  ThreadWorld::run(ranks, [&](Peers& peers) {
    ThreadPool pool(2);
    reports[static_cast<size_t>(peers.rank())] = validate_data(config, peers, pool);
  });
  for (const DataReport& report : reports) {
    EXPECT_EQ(report.errors, reports.front().errors);
    EXPECT_EQ(report.warnings, reports.front().warnings);
    EXPECT_EQ(report.splits.size(), reports.front().splits.size());
  }
  return reports.back();
}

std::string png(int64_t height, int64_t width) {
  return test::png_bytes(random_image(height, width, 3), PNG_FORMAT_RGB);
}

TEST(ValidateData, FindsAllErrorsOfAFolder) {
  const TemporaryDirectory directory;
  std::vector<std::string> files;
  for (int i = 0; i < 23; ++i) {
    files.push_back(png(8 + i % 5, 30 - i));
    write_file(directory / fmt::format("train/{}/{:02}.png", i % 2 == 0 ? "ant" : "bee", i), files.back());
  }
  write_file(directory / "train/ant/cut.png", files[0].substr(0, files[0].size() / 2));
  write_file(directory / "train/bee/empty.jpg", "");
  write_file(directory / "train/bee/text.webp", "<html>not found</html>");
  write_file(directory / "train/bee/again.png", files[1]);  // bee/01.png
  write_file(directory / "train/bee/other.png", files[2]);  // ant/02.png: another class
  write_file(directory / "train/ant/notes.txt", "x");
  write_file(directory / "val/ant/x.png", files[4]);  // in training too
  write_file(directory / "val/ant/y.png", png(9, 9));
  write_file(directory / "train/cat/only.gif.png", png(40, 40));
  std::filesystem::create_symlink("nowhere", directory / "train/cat/gone.png");
  DataConfig config{.kind = "folder", .path = directory.path()};
  config.folder.size = 10;
  for (const int ranks : {1, 2, 3}) {
    const DataReport report = validated(config, ranks);
    EXPECT_FALSE(report.good());
    EXPECT_TRUE(report.errors.empty());
    ASSERT_EQ(report.splits.size(), 2U);
    const SplitReport& train = report.splits[0];
    EXPECT_EQ(train.samples, 29);
    EXPECT_EQ(train.class_names, (std::vector<std::string>{"ant", "bee", "cat"}));
    EXPECT_EQ(train.class_counts, (std::vector<int64_t>{13, 15, 1}));
    ASSERT_EQ(train.problems.size(), 3U);
    EXPECT_EQ(train.problems[0].name, "ant/cut.png");
    EXPECT_EQ(train.problems[1].name, "bee/empty.jpg");
    EXPECT_NE(train.problems[1].reason.find("empty"), std::string::npos);
    EXPECT_NE(train.problems[2].reason.find("text.webp: not a JPEG, PNG or WebP file but text"),
              std::string::npos);
    EXPECT_EQ(train.least_height, 8);
    EXPECT_EQ(train.most_height, 40);
    EXPECT_EQ(train.least_width, 8);
    EXPECT_EQ(train.duplicates.samples, 2);
    EXPECT_EQ(train.duplicates.conflicts, 1);
    EXPECT_EQ(train.left_out.size(), 2U);
    EXPECT_EQ(report.shared.samples, 1);
    EXPECT_EQ(report.shared.examples[0].first, "train ant/04.png");
    EXPECT_EQ(report.shared.examples[0].second, "validation ant/x.png");
    EXPECT_EQ(report.splits[1].samples, 2);
    EXPECT_GT(train.scaled_up, 0);

    // With the list of damaged samples there are no errors; entries of a list are kept in the next one.
    const SkipList list = report.skip_list({});
    EXPECT_EQ(list.names(Split::kTraining),
              (std::vector<std::string>{"ant/cut.png", "bee/empty.jpg", "bee/text.webp"}));
    write_file(directory / "skip.txt", list.to_text());
    DataConfig skipping = config;
    skipping.skip = directory / "skip.txt";
    const DataReport mended = validated(skipping, ranks);
    EXPECT_TRUE(mended.good());
    EXPECT_EQ(mended.splits[0].skipped, 3);
    EXPECT_EQ(mended.splits[0].class_counts, (std::vector<int64_t>{12, 13, 1}));
    EXPECT_EQ(mended.skip_list(list).sha256(), list.sha256());

    // A misspelt name skips no image, and none is counted for it.
    write_file(directory / "skip.txt", list.to_text() + "train ant/ct.png\n");
    const DataReport misspelt = validated(skipping, ranks);
    EXPECT_EQ(misspelt.splits[0].samples, 29);
    EXPECT_EQ(misspelt.splits[0].skipped, 3);
    EXPECT_EQ(misspelt.splits[0].class_counts, mended.splits[0].class_counts);
    const auto& warnings = misspelt.warnings;
    EXPECT_EQ(
        std::count(warnings.begin(), warnings.end(), "train: data.skip lists 1 missing image: ant/ct.png"),
        1);
  }
}

TEST(ValidateData, IncompleteReportsHaveErrors) {
  const TemporaryDirectory directory;
  write_file(directory / "train/ant/x.png", png(9, 9));
  write_file(directory / "train/bee/text.png", "<html>not found</html>");
  write_file(directory / "val/ant/cut.png", png(9, 9).substr(0, 40));
  DataConfig config{.kind = "folder", .path = directory.path()};
  config.folder.size = 8;
  for (const int ranks : {1, 3}) EXPECT_TRUE(validated(config, ranks).complete);
  std::filesystem::create_directory(directory / "train/cat");
  for (const int ranks : {1, 3}) {
    const DataReport report = validated(config, ranks);
    EXPECT_FALSE(report.complete);
    EXPECT_FALSE(report.good());
    ASSERT_EQ(report.errors.size(), 1U);
    EXPECT_NE(report.errors[0].find("train/cat: no JPEG"), std::string::npos) << report.errors[0];
    ASSERT_EQ(report.splits.size(), 1U);  // the other split is checked nevertheless
    EXPECT_EQ(report.splits[0].problems.at(0).name, "ant/cut.png");
  }
}

TEST(ValidateData, FindsDamageInTokenShards) {
  const TemporaryDirectory directory;
  ThreadPool pool(1);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>('a' + draw(26));
  text += std::string(640, 'x');  // equal samples
  write_file(directory / "in.txt", text);
  (void)tokenize_files({.inputs = {directory / "in.txt"},
                        .out = directory / "d",
                        .shard_tokens = 500,
                        .validation_fraction = 0.1},
                       pool);
  const DataConfig config{.path = directory / "d", .context = 16};
  for (const int ranks : {1, 3}) {
    const DataReport report = validated(config, ranks);
    EXPECT_TRUE(report.good());
    ASSERT_EQ(report.splits.size(), 2U);
    EXPECT_EQ(report.splits[0].tokens + report.splits[1].tokens, 3640);
    EXPECT_EQ(report.splits[0].ids_used, 26);
    EXPECT_GT(report.shared.samples, 5);
  }
  const auto shard = directory / "d/train-00002.safetensors";
  std::string bytes = read_file(shard);
  bytes[bytes.size() - 31] = static_cast<char>(bytes[bytes.size() - 31] ^ 1);
  write_file(shard, bytes);
  for (const int ranks : {1, 2, 3}) {
    const DataReport report = validated(config, ranks);
    EXPECT_FALSE(report.good());
    ASSERT_FALSE(report.splits[0].problems.empty());
    EXPECT_EQ(report.splits[0].problems[0].name, "train-00002.safetensors");
    EXPECT_NE(report.splits[0].problems[0].reason.find("SHA-256"), std::string::npos);
  }
  bytes[bytes.size() - 31] = '\x7f';  // of 16 bits, the high byte or the low one
  bytes[bytes.size() - 32] = '\x7f';
  write_file(shard, bytes);
  const DataReport report = validated(config, 2);
  ASSERT_GE(report.splits[0].problems.size(), 2U);
  EXPECT_NE(report.splits[0].problems.back().reason.find("the vocabulary has 256"), std::string::npos);
  std::filesystem::remove(shard);
  EXPECT_NE(validated(config, 2).errors.at(0).find("train-00002.safetensors"), std::string::npos);
}

TEST(ValidateData, ReadsLabelledFiles) {
  const TemporaryDirectory directory;
  const auto idx = [](const std::vector<int>& sizes, const std::string& values) {
    std::string file{0, 0, 8, static_cast<char>(sizes.size())};
    for (const int n : sizes) file += std::string{0, 0, static_cast<char>(n >> 8), static_cast<char>(n)};
    return file + values;
  };
  std::string pixels = test::random_bytes(30 * 16);
  pixels.replace(29 * 16, 16, pixels.substr(0, 16));
  std::string labels;
  for (int i = 0; i < 30; ++i) labels += static_cast<char>(i % 3 == 0 ? 4 : 1);
  write_file(directory / "train-images-idx3-ubyte", idx({30, 4, 4}, pixels));
  write_file(directory / "train-labels-idx1-ubyte", idx({30}, labels));
  write_file(directory / "t10k-images-idx3-ubyte", idx({2, 4, 4}, test::random_bytes(32)));
  write_file(directory / "t10k-labels-idx1-ubyte", idx({2}, std::string("\5\1", 2)));
  const DataConfig config{.kind = "idx", .path = directory.path()};
  const DataReport report = validated(config, 2);
  EXPECT_EQ(report.splits[0].class_counts, (std::vector<int64_t>{0, 20, 0, 0, 10}));
  EXPECT_EQ(report.splits[0].duplicates.samples, 1);
  EXPECT_EQ(report.splits[0].duplicates.conflicts, 1);
  ASSERT_EQ(report.errors.size(), 1U);
  EXPECT_EQ(report.errors[0], "the validation data has 6 classes, the training data 5");
  EXPECT_NE(report.warnings.at(0).find("3 classes without a sample (class 0)"), std::string::npos);
  write_file(directory / "t10k-labels-idx1-ubyte", idx({3}, "abc"));
  EXPECT_NE(validated(config, 2).errors.at(0).find("t10k-images"), std::string::npos);
}

}  // namespace
}  // namespace tutti
