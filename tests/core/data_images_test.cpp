#include <gtest/gtest.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/data/image/image.h>
#include <tutti/core/data/image_dataset.h>
#include <tutti/core/data/image_folder.h>

#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/core/image_helpers.h"

namespace tutti {
namespace {

using test::draw;
using test::expect_error;
using test::png_bytes;
using test::random_image;
using test::TemporaryDirectory;
using test::write_file;

TEST(Resize, FollowsTheTriangleFilter) {
  for (int round = 0; round < 20; ++round) {
    const Image image =
        random_image(static_cast<int64_t>(1 + draw(30)), static_cast<int64_t>(1 + draw(30)), 3);
    const auto height = static_cast<int64_t>(1 + draw(30));
    const auto width = static_cast<int64_t>(1 + draw(30));
    const Image small = resize(image, height, width);
    ASSERT_EQ(static_cast<int64_t>(small.pixels.size()), height * width * 3);
    const auto weight = [](int64_t to, int64_t from, int64_t i, int64_t k) {
      const double scale = static_cast<double>(from) / static_cast<double>(to);
      const double distance = std::abs(static_cast<double>(k) + 0.5 - (static_cast<double>(i) + 0.5) * scale);
      return std::max(0.0, 1 - distance / std::max(1.0, scale));
    };
    for (int check = 0; check < 50; ++check) {
      const auto y = static_cast<int64_t>(draw(static_cast<size_t>(height)));
      const auto x = static_cast<int64_t>(draw(static_cast<size_t>(width)));
      double sum = 0;
      double total = 0;
      for (int64_t v = 0; v < image.height; ++v) {
        for (int64_t u = 0; u < image.width; ++u) {
          const double w = weight(height, image.height, y, v) * weight(width, image.width, x, u);
          sum += w * image.pixels[static_cast<size_t>((v * image.width + u) * 3 + 1)];
          total += w;
        }
      }
      EXPECT_NEAR(small.pixels[static_cast<size_t>((y * width + x) * 3 + 1)], sum / total, 0.51);
    }
  }
}

TEST(Resize, CropsTheMiddle) {
  const Image image = random_image(9, 6, 2);
  const Image middle = crop_middle(image, 4, 3);
  for (size_t y = 0; y < 4; ++y) {
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(middle.pixels[y * 6 + i], image.pixels[(y + 2) * 12 + 2 + i]);
  }
  expect_error([&] { (void)crop_middle(image, 10, 3); }, "out of 9");
}

TEST(ImageFolder, SortsClassesAndFiles) {
  const TemporaryDirectory directory;
  const Image a = random_image(8, 8, 3);
  const Image b = random_image(8, 8, 3);
  const Image wide = random_image(16, 40, 3);
  write_file(directory / "train/cat/2.png", png_bytes(b, PNG_FORMAT_RGB));
  write_file(directory / "train/cat/10.PNG", png_bytes(a, PNG_FORMAT_RGB));
  write_file(directory / "train/cat/notes.txt", "not an image");
  write_file(directory / "train/ant/x.png", png_bytes(wide, PNG_FORMAT_RGB));
  write_file(directory / "train/.hidden/x.txt", "");
  DataConfig config{.kind = "folder", .path = directory.path()};
  config.folder.size = 8;
  const auto data = open_dataset(config, Split::kTraining);
  EXPECT_EQ(open_dataset(config, Split::kValidation), nullptr);
  ASSERT_EQ(data->size(), 3);
  EXPECT_EQ(data->classes(), 2);
  EXPECT_EQ(data->sample_shape(), (Shape{8, 8, 3}));
  ThreadPool pool(2);
  const Batch batch = data->read(std::vector<int64_t>{0, 1, 2}, {}, Stream::inline_on(pool));
  EXPECT_EQ(std::vector<int32_t>(batch.targets.data<int32_t>(), batch.targets.data<int32_t>() + 3),
            (std::vector<int32_t>{0, 1, 1}));
  const auto values = batch.inputs.span<float>();
  const Image expected = crop_middle(resize(wide, 8, 20), 8, 8);
  for (size_t i = 0; i < 192; ++i) {
    ASSERT_FLOAT_EQ(values[i], static_cast<float>(expected.pixels[i]) / 255);
    ASSERT_FLOAT_EQ(values[192 + i], static_cast<float>(a.pixels[i]) / 255);
    ASSERT_FLOAT_EQ(values[384 + i], static_cast<float>(b.pixels[i]) / 255);
  }
  config.validation_path = directory / "train";
  EXPECT_EQ(open_dataset(config, Split::kValidation)->size(), 3);

  // A class is missing in the validation data: the others keep their training numbers.
  write_file(directory / "val/cat/v.png", png_bytes(a, PNG_FORMAT_RGB));
  config.validation_path.clear();
  const auto validation = open_dataset(config, Split::kValidation);
  EXPECT_EQ(validation->classes(), 2);
  EXPECT_EQ(*validation->read(std::vector<int64_t>{0}, {}, Stream::inline_on(pool)).targets.data<int32_t>(),
            1);
  write_file(directory / "val/cats/v.png", png_bytes(a, PNG_FORMAT_RGB));
  expect_error([&] { (void)open_dataset(config, Split::kValidation); },
               "cats: the training data has no such class; did you mean 'cat'?");
  config.validation_path = directory / "train";

  write_file(directory / "train/cat/2.png", "not a picture");
  expect_error([&] { (void)data->read(std::vector<int64_t>{2}, {}, Stream::inline_on(pool)); }, "cat/2.png");
  write_file(directory / "train/dog/readme", "");
  expect_error([&] { (void)open_dataset(config, Split::kTraining); }, "dog: no JPEG, PNG or WebP");
  config.path = directory / "train/dog";
  expect_error([&] { (void)open_dataset(config, Split::kTraining); }, "no directories");
  config.path = directory / "nowhere";
  expect_error([&] { (void)open_dataset(config, Split::kTraining); }, "no such directory");
}

TEST(ImageFolder, RandomCropsHaveTheAreaAndAspectOfTheirKey) {
  // Red is the column, green the row: they give the position of a crop.
  Image ramp{120, 160, 3, {}};
  for (int y = 0; y < 120; ++y) {
    for (int x = 0; x < 160; ++x)
      ramp.pixels.insert(ramp.pixels.end(), {static_cast<uint8_t>(x), static_cast<uint8_t>(y), 0});
  }
  const TemporaryDirectory directory;
  write_file(directory / "train/a/ramp.png", png_bytes(ramp, PNG_FORMAT_RGB));
  DataConfig config{.kind = "folder", .path = directory.path()};
  config.validation_path = directory / "train";
  config.folder.size = 40;
  config.folder.crop_area = 0.25;
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const auto training = open_dataset(config, Split::kTraining);
  const uint64_t seed = draw(1U << 30);
  double least = 1, most = 0, leftmost = 160, rightmost = 0;
  for (uint64_t epoch = 0; epoch < 100; ++epoch) {
    const Batch batch = training->read(std::vector<int64_t>{0}, {seed, epoch}, stream);
    const auto values = batch.inputs.span<float>();
    const auto at = [&](size_t y, size_t x, size_t c) { return 255.0 * values[(y * 40 + x) * 3 + c]; };
    // A ramp is still a ramp, except at the edges.
    const double width = (at(20, 29, 0) - at(20, 10, 0)) / 19 * 40;
    const double height = (at(29, 20, 1) - at(10, 20, 1)) / 19 * 40;
    const double area = width * height / (120.0 * 160.0);
    EXPECT_GT(area, 0.25 * 0.9);
    EXPECT_LT(area, 1.1);
    if (area < 0.95) {  // the whole image, 4:3, is used if no crop fits
      EXPECT_GT(width / height, 0.75 * 0.92);
      EXPECT_LT(width / height, 4.0 / 3 * 1.08);
    }
    least = std::min(least, area);
    most = std::max(most, area);
    leftmost = std::min(leftmost, at(20, 0, 0));
    rightmost = std::max(rightmost, at(20, 39, 0));
    const Batch again = training->read(std::vector<int64_t>{0, 0}, {seed, epoch}, stream);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], again.inputs.span<float>()[4800 + i]);
  }
  EXPECT_LT(least, 0.4);
  EXPECT_GT(most, 0.6);
  EXPECT_LT(leftmost, 15);
  EXPECT_GT(rightmost, 145);

  const Batch whole = open_dataset(config, Split::kValidation)->read(std::vector<int64_t>{0}, {}, stream);
  const Image expected = crop_middle(resize(ramp, 40, 53), 40, 40);
  for (size_t i = 0; i < 4800; ++i)
    ASSERT_FLOAT_EQ(whole.inputs.span<float>()[i], static_cast<float>(expected.pixels[i]) / 255);
}

/// Images in which all pixels are different.
class Numbered final : public ImageSource {
 public:
  [[nodiscard]] int64_t size() const override { return 50; }
  [[nodiscard]] int64_t classes() const override { return 50; }
  [[nodiscard]] Shape image_shape() const override { return {7, 9, 3}; }
  [[nodiscard]] int32_t label(int64_t id) const override { return static_cast<int32_t>(id); }
  void load(int64_t id, std::span<uint8_t> pixels, const RandomKey*) const override {
    for (size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<uint8_t>(1 + (i + static_cast<size_t>(id)) % 251);
  }
};

TEST(ImageDataset, NormalisesByChannel) {
  ThreadPool pool(1);
  const ImageConfig config{.mean = {0.1, 0.2, 0.3}, .deviation = {0.5, 0.25, 2}};
  const ImageDataset data(std::make_unique<Numbered>(), config, Augment::kOff);
  const Batch batch = data.read(std::vector<int64_t>{4}, {}, Stream::inline_on(pool));
  for (size_t i = 0; i < 189; ++i) {
    const double pixel = static_cast<double>(1 + (i + 4) % 251) / 255;
    EXPECT_NEAR(batch.inputs.span<float>()[i], (pixel - config.mean[i % 3]) / config.deviation[i % 3], 1e-6);
  }
  expect_error(
      [] {
        ImageDataset(std::make_unique<Numbered>(), {.mean = {1, 2}}, Augment::kOff);
      },
      "2 values");
}

TEST(ImageDataset, CropsAndFlipsDependOnlyOnTheKey) {
  ThreadPool one(1), three(3);
  const Stream stream = Stream::inline_on(one);
  const ImageConfig config{.crop_padding = 2, .flip = true};
  const ImageDataset data(std::make_unique<Numbered>(), config, Augment::kOn);
  const ImageDataset plain(std::make_unique<Numbered>(), config, Augment::kOff);
  std::map<std::array<int64_t, 3>, int> seen;
  for (uint64_t epoch = 0; epoch < 40; ++epoch) {
    for (int64_t id = 0; id < data.size(); ++id) {
      const Batch batch = data.read(std::vector{id}, {7, epoch}, stream);
      const Batch original = plain.read(std::vector{id}, {7, epoch}, stream);
      const auto got = batch.inputs.span<float>();
      const auto from = original.inputs.span<float>();
      int matches = 0;
      for (int64_t down = -2; down <= 2; ++down) {
        for (int64_t right = -2; right <= 2; ++right) {
          for (int64_t flip = 0; flip < 2; ++flip) {
            bool same = true;
            for (int64_t y = 0; y < 7 && same; ++y) {
              for (int64_t x = 0; x < 9 && same; ++x) {
                const int64_t v = y + down;
                const int64_t u = (flip == 1 ? 8 - x : x) + right;
                const bool inside = v >= 0 && v < 7 && u >= 0 && u < 9;
                const float expected = inside ? from[static_cast<size_t>((v * 9 + u) * 3)] : 0;
                same = got[static_cast<size_t>((y * 9 + x) * 3)] == expected;
              }
            }
            if (same) ++matches, ++seen[{down, right, flip}];
          }
        }
      }
      ASSERT_EQ(matches, 1) << "sample " << id;
    }
  }
  ASSERT_EQ(seen.size(), 50U);  // 2000 draws of 50 ways: 40 each
  for (const auto& [way, count] : seen) {
    EXPECT_GT(count, 12);
    EXPECT_LT(count, 80);
  }
  // The same in any batch and with any number of threads; other seeds and epochs give other crops.
  std::vector<int64_t> ids(50);
  std::iota(ids.rbegin(), ids.rend(), 0);
  const Batch all = data.read(ids, {7, 3}, Stream::inline_on(three));
  int same_epoch = 0, same_seed = 0;
  for (int64_t id = 0; id < 50; ++id) {
    const auto row = all.inputs.span<float>().subspan(static_cast<size_t>(49 - id) * 189, 189);
    const auto equal = [&](AugmentKey key) {
      const Batch batch = data.read(std::vector{id}, key, stream);
      return std::equal(row.begin(), row.end(), batch.inputs.data<float>());
    };
    EXPECT_TRUE(equal({7, 3}));
    same_epoch += equal({7, 4});
    same_seed += equal({8, 3});
  }
  EXPECT_LT(same_epoch, 15);
  EXPECT_LT(same_seed, 15);
}

TEST(DataConfig, ReadsFromARunFile) {
  DataConfig config;
  read_text(
      "kind: folder\npath: x\nimage: {crop_padding: 4, flip: true, mean: [0.5]}\nfolder: {size: 32, resize: "
      "40}\n",
      "run.yaml", config);
  EXPECT_EQ(config.image.crop_padding, 4);
  EXPECT_EQ(config.folder.resize, 40);
  const auto refused = [](const std::string& text, const std::string& part) {
    expect_error(
        [&] {
          DataConfig other;
          read_text(text, "run.yaml", other);
        },
        part);
  };
  refused("kind: token\n", "tokens");
  refused("kind: idx\ncontext: 12\n", "context");
  refused("kind: folder\nfolder: {size: 32, resize: 8}\n", "resize");
  refused("kind: idx\nimage: {deviation: [0]}\n", "deviation");
}

}  // namespace
}  // namespace tutti
