#include <gtest/gtest.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "tests/core/image_helpers.h"

namespace tutti {
namespace {

using test::draw;
using test::expect_error;
using test::TemporaryDirectory;
using test::write_file;

/// A PNG file of a uniform grey.
std::string grey_png(uint8_t value) {
  return test::png_bytes({4, 4, 1, std::vector<uint8_t>(16, value)}, PNG_FORMAT_GRAY);
}

/// Two classes of ten images; the grey value of sample i is 10 + i.
class SkipTest : public ::testing::Test {
 protected:
  SkipTest() {
    for (int i = 0; i < 20; ++i) {
      const std::string name = fmt::format("{}/{:02}.png", i < 10 ? "ant" : "bee", i % 10);
      write_file(directory_ / "train" / name, grey_png(static_cast<uint8_t>(10 + i)));
      write_file(directory_ / "val" / name, grey_png(static_cast<uint8_t>(10 + i)));
    }
    config_.path = directory_.path();
    config_.folder.size = 4;
    config_.folder.channels = 1;
  }

  void skip(const std::string& text) {
    write_file(directory_ / "skip.txt", text);
    config_.skip = directory_ / "skip.txt";
  }
  /// The grey values of samples, and their targets.
  std::vector<std::pair<int, int>> read(Split split, std::vector<int64_t> ids, AugmentKey key = {}) {
    ThreadPool pool(2);
    const Batch batch = open_dataset(config_, split)->read(ids, key, Stream::inline_on(pool));
    std::vector<std::pair<int, int>> all;
    for (size_t i = 0; i < ids.size(); ++i) {
      all.emplace_back(std::lround(batch.inputs.span<float>()[i * 16] * 255),
                       batch.targets.span<int32_t>()[i]);
    }
    return all;
  }
  std::vector<int64_t> everything() {
    std::vector<int64_t> ids(20);
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }

  TemporaryDirectory directory_;
  DataConfig config_{.kind = "folder"};
};

TEST_F(SkipTest, AReplacementDoesNotChangeOtherSamples) {
  const auto before = read(Split::kTraining, everything(), {3, 0});
  skip("# damaged\ntrain ant/03.png\r\n\ntrain bee/07.png\n");
  std::set<int> stand_ins;
  std::map<int, int> counts;
  for (uint64_t epoch = 0; epoch < 300; ++epoch) {
    const auto after = read(Split::kTraining, everything(), {3, epoch});
    for (size_t i = 0; i < 20; ++i) {
      if (i != 3 && i != 17) {
        ASSERT_EQ(after[i], before[i]);
        continue;
      }
      const int image = after[i].first - 10;
      EXPECT_TRUE(image != 3 && image != 17) << "a skipped image is a replacement";
      EXPECT_EQ(after[i].second, image < 10 ? 0 : 1);
      ++counts[image];
    }
    // Any part of a batch, as read by ranks, has the same replacements.
    if (epoch < 5) {
      EXPECT_EQ(read(Split::kTraining, {17, 3}, {3, epoch}), (std::vector{after[17], after[3]}));
    }
  }
  ASSERT_EQ(counts.size(), 18U);  // 600 draws of 18: 33 each
  for (const auto& [image, count] : counts) EXPECT_TRUE(count > 8 && count < 80) << image << ": " << count;
}

TEST_F(SkipTest, SkippedValidationSamplesAreNotCounted) {
  skip("validation bee/00.png\ntrain ant/00.png\n");
  const auto rows = read(Split::kValidation, everything());
  const auto data = open_dataset(config_, Split::kValidation);
  EXPECT_EQ(data->size(), 20);
  for (int i = 0; i < 20; ++i) {
    const auto row = static_cast<size_t>(i);
    EXPECT_EQ(rows[row].second, i == 10 ? -1 : i / 10);
    EXPECT_EQ(data->predictions(i), i == 10 ? 0 : 1);
  }
  EXPECT_EQ(open_dataset(config_, Split::kTraining)->predictions(0), 1);
}

TEST_F(SkipTest, AListedFileMayBeMissing) {
  const auto before = read(Split::kTraining, everything(), {5, 2});
  skip("train ant/00.png\ntrain bee/09.png\n");
  const auto listed = read(Split::kTraining, everything(), {5, 2});
  std::filesystem::remove(directory_ / "train/ant/00.png");
  std::filesystem::remove(directory_ / "train/bee/09.png");
  EXPECT_EQ(read(Split::kTraining, everything(), {5, 2}), listed);
  EXPECT_EQ(std::vector(listed.begin() + 1, listed.begin() + 19),
            std::vector(before.begin() + 1, before.begin() + 19));
  const std::string text = open_dataset(config_, Split::kTraining)->description();
  EXPECT_NE(text.find("20 images in 2 classes; data.skip skips 2 images"), std::string::npos) << text;
  EXPECT_NE(text.find("2 files of data.skip missing"), std::string::npos) << text;
}

TEST_F(SkipTest, InvalidEntriesAreRefused) {
  const auto refused = [&](const std::string& text, const std::string& part) {
    skip(text);
    expect_error([&] { (void)open_dataset(config_, Split::kTraining); }, part);
  };
  refused("test ant/00.png\n", "skip.txt:1: expected `train NAME`");
  refused("train ant/00.png\ntrain\n", "skip.txt:2");
  refused("train aunt/00.png\n", "did you mean 'ant'");
  refused("train ant/readme.txt\n", "cannot be an image");
  refused("train ant/../bee/00.png\n", "cannot be an image");
  refused("train ant/00.png\ntrain ant/00.png\n", "listed twice");
  refused("train ant/a\\b.png\n", "backslash");
  std::string all;
  for (int i = 0; i < 20; ++i) all += fmt::format("train {}/{:02}.png\n", i < 10 ? "ant" : "bee", i % 10);
  refused(all, "skips all 20");
  config_.skip = directory_ / "nowhere.txt";
  expect_error([&] { (void)open_dataset(config_, Split::kTraining); }, "nowhere.txt");
}

TEST_F(SkipTest, ADamagedImageIsNamedWithItsSample) {
  write_file(directory_ / "train/bee/02.png", "");
  try {
    (void)read(Split::kTraining, {11, 12});
    ADD_FAILURE() << "an empty image was read";
  } catch (const DamagedSample& error) {
    EXPECT_NE(
        std::string(error.what()).find("bee/02.png: the file is empty (sample 12 of the training data)"),
        std::string::npos)
        << error.what();
  }
}

TEST_F(SkipTest, OtherFilesAreCountedByReason) {
  write_file(directory_ / "train/ant/notes.txt", "text");
  write_file(directory_ / "train/bee/more.gif", "GIF89a");
  write_file(directory_ / "train/bee/.DS_Store", "x");
  write_file(directory_ / "train/list.csv", "x");
  write_file(directory_ / "train/stray.png", grey_png(1));
  write_file(directory_ / "train/bee/inner/x.png", grey_png(1));
  std::filesystem::create_symlink("nowhere", directory_ / "train/ant/link.png");
  std::filesystem::create_symlink("00.png", directory_ / "train/ant/good.png");
  const auto data = open_dataset(config_, Split::kTraining);
  EXPECT_EQ(data->size(), 21);  // the link to a file is a sample
  EXPECT_EQ(
      data->description(),
      "21 images in 2 classes; 7 files ignored: 3 not named as a JPEG, PNG or WebP file (list.csv, ...), 1 "
      "not "
      "in a class (stray.png), 1 dangling link (ant/link.png), 1 hidden (bee/.DS_Store), 1 a directory "
      "inside a "
      "class (bee/inner)");
}

TEST(SkipListTest, ReadsBackWhatItWrites) {
  SkipList list;
  std::set<std::string> used;
  for (int i = 0; i < 200; ++i) {
    std::string text(1 + draw(12), ' ');
    for (char& c : text) c = "ab /#\\\n\r\xc3\xa4.x"[draw(13)];
    const Split split = draw(2) == 0 ? Split::kTraining : Split::kValidation;
    if (!used.insert(std::string(name(split)) + text).second) continue;
    list.entries.push_back({split, text, draw(2) == 0 ? "a reason\nof two lines" : ""});
  }
  const SkipList back = SkipList::parse(list.to_text(), "list");
  EXPECT_EQ(back.names(Split::kTraining), list.names(Split::kTraining));
  EXPECT_EQ(back.names(Split::kValidation), list.names(Split::kValidation));
  EXPECT_EQ(back.sha256(), list.sha256());
  std::shuffle(list.entries.begin(), list.entries.end(), test::random());
  EXPECT_EQ(back.sha256(), list.sha256());
  list.entries.pop_back();
  EXPECT_NE(back.sha256(), list.sha256());
}

}  // namespace
}  // namespace tutti
