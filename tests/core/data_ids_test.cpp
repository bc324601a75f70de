#include <gtest/gtest.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/data/prepare/id_shards.h>
#include <tutti/core/data/tokenizer.h>
#include "core/data/prepare/id_file.h"

#include <limits>

#include "tests/core/data_helpers.h"

namespace tutti {
namespace {

using namespace std::string_literals;
using test::bytes_of;
using test::draw;
using test::expect_error;
using test::TemporaryDirectory;
using test::write_file;

template <class Stored>
std::string numbers(const std::vector<int64_t>& ids) {
  std::string bytes;
  for (const int64_t id : ids) {
    const auto stored = static_cast<Stored>(id);
    bytes.append(reinterpret_cast<const char*>(&stored), sizeof stored);
  }
  return bytes;
}

std::string npy(const std::string& descr, const std::string& shape, const std::string& data, int version = 1,
                const std::string& order = "False") {
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}", descr, order, shape);
  const size_t prefix = version == 1 ? 10 : 12;
  while ((prefix + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  const size_t n = header.size();
  std::string file = "\x93NUMPY"s + static_cast<char>(version) + '\0' + static_cast<char>(n & 255) +
                     static_cast<char>(n >> 8);
  if (version > 1) file += "\0\0"s;
  return file + header + data;
}

std::string llmc(int32_t magic, int32_t version, int32_t tokens, const std::string& data) {
  std::vector<int64_t> header(256);
  header[0] = magic, header[1] = version, header[2] = tokens;
  return numbers<int32_t>(header) + data;
}

std::vector<int64_t> random_ids(size_t n, int64_t vocabulary) {
  std::vector<int64_t> ids(n);
  for (int64_t& id : ids) id = static_cast<int64_t>(draw(static_cast<size_t>(vocabulary)));
  return ids;
}

std::vector<int64_t> read(const std::string& bytes, int64_t vocabulary, IdType type = IdType::kAuto) {
  const IdFile file = IdFile::parse(bytes_of(bytes), "ids", type, vocabulary);
  std::vector<int32_t> ids(static_cast<size_t>(file.size()));
  const size_t half = draw(ids.size() + 1);
  file.read(0, std::span(ids).first(half));
  file.read(static_cast<int64_t>(half), std::span(ids).subspan(half));
  return {ids.begin(), ids.end()};
}

TEST(IdFile, ReadsAllFormats) {
  for (int round = 0; round < 20; ++round) {
    const size_t n = 1 + draw(50);
    const std::string shape = fmt::format("({},)", n);
    const std::vector<int64_t> small = random_ids(n, 50257);
    const std::vector<int64_t> large = random_ids(n, 128256);
    if (n > 8) {
      EXPECT_EQ(read(numbers<uint16_t>(small), 50257), small);  // nanoGPT
    }
    EXPECT_EQ(read(numbers<uint32_t>(large), 128256), large);
    EXPECT_EQ(read(numbers<int32_t>(small), 50257, IdType::kInt32), small);
    EXPECT_EQ(read(numbers<int64_t>(small), 50257, IdType::kInt64), small);
    const auto count = static_cast<int32_t>(n);
    EXPECT_EQ(read(llmc(20240520, 1, count, numbers<uint16_t>(small)), 50257), small);
    EXPECT_EQ(read(llmc(20240801, 7, count, numbers<uint32_t>(large)), 128256), large);
    EXPECT_EQ(read(npy("<u2", shape, numbers<uint16_t>(small)), 50257), small);
    EXPECT_EQ(read(npy("<i4", shape, numbers<int32_t>(large), 2), 128256), large);
    EXPECT_EQ(read(npy("<i8", shape, numbers<int64_t>(large), 3), 128256), large);
    EXPECT_EQ(read(npy("<u8", fmt::format("(1, {})", n), numbers<uint64_t>(large)), 128256), large);
  }
  EXPECT_EQ(read(npy("|u1", "(2,)", "\x01\xff"s), 256), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(read("\x01\xff"s, 256, IdType::kUint8), (std::vector<int64_t>{1, 255}));
}

TEST(IdFile, SaysWhatIsWrong) {
  const auto refused = [](const std::string& bytes, int64_t vocabulary, const std::string& part,
                          IdType type = IdType::kAuto) {
    expect_error([&] { (void)read(bytes, vocabulary, type); }, part);
  };
  refused("", 100, "empty");
  refused("abc", 100, "not a multiple of the size of uint16");
  refused(numbers<uint16_t>({1, 2, 99, 100, 3}), 100,
          "ids: id 100 at position 3 of raw numbers of uint16; --vocabulary 100");
  refused(numbers<int32_t>({1, -1}), 100, "id -1 at position 1", IdType::kInt32);
  refused(numbers<uint64_t>({1, std::numeric_limits<int64_t>::min()}), 100, "id 9223372036854775808",
          IdType::kUint64);
  refused(numbers<int64_t>({int64_t{1} << 32}), 100, "id 4294967296", IdType::kInt64);  // not truncated to 0
  refused(numbers<int32_t>({1, 2, 3, 4, 5}), 100, "--ids-type int32");
  refused(llmc(20240520, 2, 1, "ab"), 100, "version 2");
  refused(llmc(20240520, 1, 2, "ab"), 100, "declares 2");
  refused(npy("<f4", "(1,)", "abcd"), 100, "dtype '<f4'");
  refused(npy(">i4", "(1,)", "abcd"), 100, "little-endian");
  refused(npy("<i4", "(2,)", "abcd"), 100, "2 numbers of 4 bytes");
  refused(npy("<i4", "(1,)", "abcdefgh"), 100, "8 bytes of data");
  refused(npy("<i4", "(0,)", ""), 100, "no ids");
  refused(npy("<i4", "(4611686018427387904, 4611686018427387904)", ""), 100, "invalid sizes");
  refused(npy("<i4", "(2, 2)", std::string(16, '\0'), 1, "True"), 100, "Fortran");
  refused(npy("<i4", "(2, -2)", ""), 100, "expected a size");
  refused(npy("<i4", "(2,", ""), 100, "header");
  refused("\x93NUMPY\x01\0\xff\xff{}"s, 100, "a header of 65535 bytes");
  expect_error([] { (void)id_type_from_name("float"); }, "expected auto");
}

TEST(ShardIds, TrainWithoutATokenizer) {
  const TemporaryDirectory directory;
  const std::vector<int64_t> a = random_ids(1000, 300), b = random_ids(77, 300);
  write_file(directory / "a.bin", numbers<uint16_t>(a));
  write_file(directory / "b.npy", npy("<i4", "(77,)", numbers<int32_t>(b)));
  ShardIdsConfig config{.train = {directory / "a.bin", directory / "b.npy"},
                        .out = directory / "out",
                        .vocabulary = 300,
                        .shard_tokens = 64,
                        .validation_fraction = 0.1};
  const TokenizeReport report = shard_ids(config);
  EXPECT_EQ(report.train_tokens, 970);
  EXPECT_EQ(report.validation_tokens, 107);
  std::vector<int64_t> all;
  for (const char* split : {"train", "validation"}) {
    const TokenCorpus corpus = TokenCorpus::open(config.out, split);
    std::vector<int32_t> ids(static_cast<size_t>(corpus.size()));
    corpus.read(0, ids);
    all.insert(all.end(), ids.begin(), ids.end());
  }
  std::vector<int64_t> expected = a;
  expected.insert(expected.end(), b.begin(), b.end());
  EXPECT_EQ(all, expected);
  const DataConfig data{.path = config.out, .context = 16};
  EXPECT_EQ(open_tokenizer(data), std::nullopt);
  EXPECT_EQ(open_dataset(data, Split::kTraining)->classes(), 300);

  // Separate files for validation, and a tokenizer.
  Tokenizer::bytes().save(directory / "tokenizer.json");
  write_file(directory / "bytes.bin", numbers<uint16_t>({104, 101, 108, 108, 111, 32, 97, 98, 99}));
  config = {.train = {directory / "bytes.bin"},
            .validation = {directory / "bytes.bin"},
            .out = directory / "out2",
            .tokenizer = directory / "tokenizer.json"};
  EXPECT_EQ(shard_ids(config).validation_tokens, 9);
  EXPECT_EQ(open_tokenizer({.path = config.out})->vocabulary(), 256);

  config.vocabulary = 100;
  config.out = directory / "out3";
  expect_error([&] { (void)shard_ids(config); }, "has 256 tokens");
  config.tokenizer.clear();
  expect_error([&] { (void)shard_ids(config); }, "bytes.bin: id 104 at position 0");
  config.vocabulary = 0;
  expect_error([&] { (void)shard_ids(config); }, "--vocabulary");
  EXPECT_FALSE(std::filesystem::exists(config.out));
}

}  // namespace
}  // namespace tutti
