#include <gtest/gtest.h>
#include <tutti/core/data/cifar.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/data/idx.h>

#include <zlib.h>

#include "tests/core/data_helpers.h"

// Images in IDX files and in CIFAR's.
namespace tutti {
namespace {

using test::bytes_of;
using test::draw;
using test::expect_error;
using test::random_bytes;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;

uint8_t byte_at(const std::string& bytes, size_t i) {
  return static_cast<uint8_t>(bytes[i]);
}

std::string idx_bytes(const std::vector<size_t>& sizes, const std::string& values) {
  std::string bytes{0, 0, 8, static_cast<char>(sizes.size())};
  for (const size_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((size >> shift) & 0xff);
  }
  return bytes + values;
}

std::string gzipped(const std::string& bytes) {
  z_stream zip{};
  EXPECT_EQ(deflateInit2(&zip, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&zip, bytes.size()), '\0');
  zip.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  zip.avail_in = static_cast<uInt>(bytes.size());
  zip.next_out = reinterpret_cast<Bytef*>(out.data());
  zip.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&zip, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - zip.avail_out);
  deflateEnd(&zip);
  return out;
}

TEST(Idx, ReadsPlainAndGzipped) {
  const std::string values = random_bytes(5 * 3 * 7);
  for (const bool zip : {false, true}) {
    const std::string plain = idx_bytes({5, 3, 7}, values);
    const std::string file = zip ? gzipped(plain) : plain;
    const IdxArray array = parse_idx(bytes_of(file), 3, "images");
    EXPECT_EQ(array.shape, (Shape{5, 3, 7}));
    EXPECT_EQ(std::string(array.values.begin(), array.values.end()), values);
    for (size_t n = 0; n < file.size(); ++n) {
      expect_error([&] { (void)parse_idx(bytes_of(file.substr(0, n)), 3, "images"); }, "images");
    }
    expect_error([&] { (void)parse_idx(bytes_of(file + "x"), 3, "images"); }, "images");
  }
  // Larger than the buffer.
  const std::string many = random_bytes(10'000'001);
  EXPECT_EQ(parse_idx(bytes_of(gzipped(idx_bytes({many.size()}, many))), 1, "many").values.size(),
            many.size());
}

TEST(Idx, SaysWhatIsWrong) {
  const std::string good = idx_bytes({2, 2, 2}, "abcdefgh");
  const auto with = [&](size_t at, int value) {
    std::string bad = good;
    bad[at] = static_cast<char>(value);
    return bad;
  };
  const auto parse = [](const std::string& file, int dims = 3) {
    (void)parse_idx(bytes_of(file), dims, "file");
  };
  expect_error([&] { parse(""); }, "file: the file is empty");
  expect_error([&] { parse(with(0, 1)); }, "not an IDX file");
  expect_error([&] { parse(with(2, 0x0d)); }, "type 0x0d");
  expect_error([&] { parse(with(3, 1)); }, "1 dims; expected 3");
  expect_error([&] { parse(good, 1); }, "3 dims; expected 1");
  expect_error([&] { parse(with(7, 3)); }, "truncated");
  expect_error([&] { parse(with(7, 1)); }, "more data");
  // A header that declares far more data than the file has must not cause an allocation.
  expect_error([&] { parse(idx_bytes({0x7fffffff, 0x7fff, 1}, "abc")); }, "truncated");
  expect_error([&] { parse(idx_bytes({0xffffffff, 0xffffffff, 0xffffffff}, "abc")); }, "file: invalid sizes");
  std::string damaged = gzipped(good);
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 1);  // checksum
  expect_error([&] { parse(damaged); }, "gzip");
}

void write_idx_set(const std::filesystem::path& directory, const std::string& prefix, size_t n,
                   const std::string& end) {
  std::string labels;
  for (size_t i = 0; i < n; ++i) labels += static_cast<char>(i % 7);
  const std::string images = idx_bytes({n, 5, 4}, random_bytes(n * 20));
  write_file(directory / (prefix + "-images-idx3-ubyte" + end), end.empty() ? images : gzipped(images));
  const std::string file = idx_bytes({n}, labels);
  write_file(directory / (prefix + "-labels-idx1-ubyte" + end), end.empty() ? file : gzipped(file));
}

TEST(IdxImages, ImagesAndLabelsMustMatch) {
  const TemporaryDirectory directory;
  write_idx_set(directory.path(), "train", 11, "");
  write_idx_set(directory.path(), "t10k", 9, ".gz");
  const DataConfig config{.kind = "idx", .path = directory.path()};
  const auto training = open_dataset(config, Split::kTraining);
  EXPECT_EQ(training->size(), 11);
  EXPECT_EQ(training->classes(), 7);
  EXPECT_EQ(training->sample_shape(), (Shape{5, 4, 1}));
  EXPECT_EQ(open_dataset(config, Split::kValidation)->size(), 9);
  const auto images = [&](const std::string& a, const std::string& b) {
    (void)IdxImages(directory / (a + "-images-idx3-ubyte"), directory / (b + "-labels-idx1-ubyte.gz"));
  };
  expect_error([&] { images("train", "t10k"); }, "contains 9 labels");
  expect_error([&] { images("none", "t10k"); }, "none-images");
  std::filesystem::remove(directory / "t10k-labels-idx1-ubyte.gz");
  expect_error([&] { (void)open_dataset(config, Split::kValidation); }, "t10k-labels-idx1-ubyte");
  write_file(directory / "train-images-idx3-ubyte", idx_bytes({0, 5, 4}, ""));
  expect_error([&] { (void)open_dataset(config, Split::kTraining); }, "no images");
}

TEST(IdxImages, ReadFashionMnist) {
  // The directory of the package dataset-fashion-mnist of Debian and Ubuntu, one of the test packages.
  const std::filesystem::path directory = "/usr/share/datasets/fashion-mnist";
  const auto test = IdxImages::from_directory(directory, "t10k");
  EXPECT_EQ(test->size(), 10000);
  EXPECT_EQ(test->classes(), 10);
  std::vector<int> counts(10);
  for (int64_t i = 0; i < test->size(); ++i) ++counts[static_cast<size_t>(test->label(i))];
  EXPECT_EQ(counts, std::vector<int>(10, 1000));
  // The published mean of the test images.
  std::vector<uint8_t> pixels(784);
  double sum = 0;
  for (int64_t i = 0; i < test->size(); ++i) {
    test->load(i, pixels, nullptr);
    sum += std::accumulate(pixels.begin(), pixels.end(), 0.0);
  }
  EXPECT_NEAR(sum / 7840000 / 255, 0.2868, 0.0001);
}

std::string cifar_bytes(const std::vector<int>& labels, const std::string& pixels) {
  std::string bytes;
  for (size_t i = 0; i < labels.size(); ++i) {
    bytes += static_cast<char>(labels[i]);
    bytes += pixels.substr(i * 3072, 3072);
  }
  return bytes;
}

TEST(Cifar, ConvertsPlanesToPixels) {
  const TemporaryDirectory directory;
  const std::string pixels = random_bytes(15 * 3072);
  std::vector<int> labels;
  for (size_t i = 0; i < 15; ++i) labels.push_back(static_cast<int>(draw(10)));
  for (size_t i = 0; i < 5; ++i) {
    const std::vector<int> some(labels.begin() + static_cast<std::ptrdiff_t>(3 * i),
                                labels.begin() + static_cast<std::ptrdiff_t>(3 * i + 3));
    write_file(directory / ("data_batch_" + std::to_string(i + 1) + ".bin"),
               cifar_bytes(some, pixels.substr(3 * i * 3072)));
  }
  write_file(directory / "test_batch.bin", cifar_bytes({9}, pixels));
  const auto images = CifarImages::training(directory.path());
  ASSERT_EQ(images->size(), 15);
  std::vector<uint8_t> out(3072);
  for (size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(images->label(static_cast<int64_t>(i)), labels[i]);
    images->load(static_cast<int64_t>(i), out, nullptr);
    for (size_t y = 0; y < 32; ++y) {
      for (size_t x = 0; x < 32; ++x) {
        for (size_t c = 0; c < 3; ++c) {
          ASSERT_EQ(out[(y * 32 + x) * 3 + c], byte_at(pixels, i * 3072 + c * 1024 + y * 32 + x));
        }
      }
    }
  }
  const DataConfig config{.kind = "cifar10", .path = directory.path()};
  EXPECT_EQ(open_dataset(config, Split::kTraining)->size(), 15);
  EXPECT_EQ(open_dataset(config, Split::kValidation)->size(), 1);

  const auto refused = [&](const std::string& bytes, const std::string& part) {
    write_file(directory / "test_batch.bin", bytes);
    expect_error([&] { (void)open_dataset(config, Split::kValidation); }, "test_batch.bin");
    expect_error([&] { (void)open_dataset(config, Split::kValidation); }, part);
  };
  const std::string good = cifar_bytes({9, 1}, pixels);
  for (const size_t n : {size_t{0}, size_t{1}, size_t{3072}, size_t{3074}, good.size() - 1}) {
    refused(good.substr(0, n), "bytes");
  }
  refused(cifar_bytes({9, 10}, pixels), "record 1 has label 10");
  std::filesystem::remove(directory / "data_batch_3.bin");
  expect_error([&] { (void)CifarImages::training(directory.path()); }, "data_batch_3.bin");
}

}  // namespace
}  // namespace tutti
