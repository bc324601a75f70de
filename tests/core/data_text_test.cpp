#include <gtest/gtest.h>
#include <tutti/core/data/token_writer.h>
#include "core/data/prepare/character_tokenizer.h"
#include "core/data/prepare/documents.h"
#include "core/data/unicode.h"

#include "tests/core/data_helpers.h"

namespace tutti {
namespace {

using namespace std::string_literals;
using test::draw;
using test::expect_error;
using test::random_bytes;
using test::TemporaryDirectory;
using test::write_file;

/// Characters of one to four bytes.
std::string random_text(size_t characters) {
  static const std::vector<std::string> kSome = {"a", "B", " ", "\n", "é", "Ж", "語", "한", "€", "😀", "𝔘"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += kSome[draw(kSome.size())];
  return text;
}

TextFaults slow_faults(std::string_view bytes) {
  TextFaults faults;
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Char c = decode_utf8(bytes, i);
    const bool invalid = c.code == Utf8Char::kInvalid;
    faults.invalid += invalid;
    faults.zeros += c.code == 0;
    if ((invalid || c.code == 0) && faults.first_fault < 0) faults.first_fault = static_cast<int64_t>(i);
    i += c.bytes;
  }
  return faults;
}

TEST(TextFaults, DoNotDependOnTheDivisionIntoParts) {
  ThreadPool pool(3);
  for (int round = 0; round < 6; ++round) {
    std::string text = round < 3 ? random_text(900000) : random_bytes(2500000);  // several parts of 1 MiB
    if (round == 0) {
      EXPECT_EQ(find_text_faults(text, pool).first_fault, -1);
    }
    for (int i = 0; i < round * 3; ++i) text[draw(text.size())] = "\0\xff\x80\xe8"[draw(4)];
    // Errors at the boundaries of parts.
    for (size_t at : {size_t{1} << 20, size_t{2} << 20}) {
      if (round == 2 && at + 2 < text.size()) text[at - 1 + draw(3)] = '\xe8';
    }
    const TextFaults expected = slow_faults(text);
    const TextFaults found = find_text_faults(text, pool);
    EXPECT_EQ(found.zeros, expected.zeros);
    EXPECT_EQ(found.invalid, expected.invalid);
    EXPECT_EQ(found.first_fault, expected.first_fault);
  }
}

class TextFileTest : public ::testing::Test {
 protected:
  TextFile open(const std::string& bytes, TextInput input = TextInput::kUtf8) {
    write_file(directory_ / "in.txt", bytes);
    return open_text_file(directory_ / "in.txt", input, pool_);
  }
  void refused(const std::string& bytes, const std::string& part) {
    expect_error([&] { (void)open(bytes); }, part);
    EXPECT_EQ(open(bytes, TextInput::kBytes).text, bytes);
  }
  TemporaryDirectory directory_;
  ThreadPool pool_{2};
};

TEST_F(TextFileTest, OtherFormatsAreNamed) {
  refused("\x1f\x8b\x08\0\0\0\0\0"s,
          "in.txt: not text but a gzip file: unpack it first (gunzip); use --as-bytes");
  refused("\x28\xb5\x2f\xfd\x04\0"s, "zstd");
  refused("\xfd"s + "7zXZ\0\0"s, "an xz file");
  refused("BZh91AY&SY\xff\0"s, "bzip2");
  refused("PK\x03\x04\x14\0\0\0"s, "zip");
  refused("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "PDF");
  refused("\x7f"s + "ELF\x02\x01\x01\0"s, "a program");
  refused("PAR1\x15\0"s, "Parquet");
  refused("\x93NUMPY\x01\0v\0"s, "--ids");
  refused("\xff\xfeh\0i\0"s, "UTF-16 text: convert it first (iconv");
  refused("\xfe\xff\0h\0i"s, "UTF-16");
  refused("\xff\xfe\0\0h\0\0\0"s, "UTF-32");
  refused("h\0e\0l\0l\0o\0"s, "5 zero bytes, the first at byte 1 (line 1); UTF-16?");
  refused("one\ntwo\nthree and more text\0"s, "1 zero byte, the first at byte 27 (line 3); use --as-bytes");
  refused("one\ncaf\xe9 \xe9t\xe9\n", "3 invalid bytes, the first at byte 7 (line 2)");
  refused("cut off: \xe8\xaa", "2 invalid bytes");
  EXPECT_EQ(open("BZh is text if all of it is").text, "BZh is text if all of it is");
  EXPECT_EQ(open("caf\xc3\xa9").text, "caf\xc3\xa9");
  expect_error([&] { (void)open(""); }, "the file is empty");
}

TEST_F(TextFileTest, AByteOrderMarkIsRemoved) {
  const TextFile file = open("\xef\xbb\xbfhello");
  EXPECT_EQ(file.text, "hello");
  EXPECT_TRUE(file.had_mark);
  EXPECT_FALSE(open("hello").had_mark);
  EXPECT_FALSE(open("\xef\xbb\xbfhello", TextInput::kBytes).had_mark);
  expect_error([&] { (void)open("\xef\xbb\xbf"); }, "empty");
}

TEST(ValidationBegin, LeavesAPartOfAnyText) {
  const auto part = [](const std::string& text, double fraction) {
    const size_t cut = validation_begin(text, fraction);
    EXPECT_GT(cut, 0U);
    EXPECT_LT(cut, text.size());
    return static_cast<double>(text.size() - cut) / static_cast<double>(text.size());
  };
  EXPECT_NEAR(part(std::string(8 << 20, 'x'), 0.05), 0.05, 0.001);
  EXPECT_NEAR(part(std::string(1 << 20, 'x') + "\n", 0.05), 0.05, 0.001);  // not only the last line end
  EXPECT_NEAR(part("title\n" + std::string(1 << 20, 'x'), 0.05), 0.05, 0.001);
  EXPECT_NEAR(part(std::string(1 << 20, 'x') + " " + std::string(1000, 'y'), 0.05), 0.05, 0.001);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(2 + draw(round < 1000 ? 6 : 400));
    const double fraction = static_cast<double>(1 + draw(89)) / 100;
    const size_t cut = validation_begin(text, fraction);
    ASSERT_GT(cut, 0U);
    ASSERT_LT(cut, text.size()) << text << fraction;
    EXPECT_EQ(slow_faults(text.substr(0, cut)).invalid + slow_faults(text.substr(cut)).invalid, 0);
  }
  EXPECT_EQ(validation_begin("\xf0\x9f\x98\x80\xc3\xa9", 0.7), 4U);  // within the first character
  EXPECT_EQ(validation_begin("\xf0\x9f\x98\x80", 0.5), 4U);          // the only one: no validation part
  // At a line, if one is near enough.
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "a line of words\n";
  const size_t cut = validation_begin(lines, 0.1);
  EXPECT_EQ(lines[cut - 1], '\n');
  EXPECT_NEAR(static_cast<double>(cut), 0.9 * 16000, 17);
  EXPECT_EQ(validation_begin(lines, 0), lines.size());
}

TEST(Documents, AreCheckedBeforeAnyWork) {
  const TemporaryDirectory directory;
  ThreadPool pool(1);
  write_file(directory / "good.txt", std::string(1000, 'x'));
  write_file(directory / "bad.txt", "\x1f\x8b\x08");
  write_file(directory / "tiny.txt", "x");
  const auto open = [&](const std::string& name, double fraction) {
    return open_documents({directory / name}, fraction, TextInput::kUtf8, pool);
  };
  expect_error([&] { (void)open("bad.txt", 0); }, "gzip");
  expect_error([&] { (void)open("tiny.txt", 0.5); }, "too short");
  expect_error([&] { (void)open("good.txt", 0.0005); }, "leaves 1 bytes for validation");
  EXPECT_EQ(open("good.txt", 0.05).front().validation.size(), 50U);
  // A text of one word gives shards with all of its bytes.
  const TokenizeReport report = tokenize_files(
      {.inputs = {directory / "good.txt"}, .out = directory / "out", .validation_fraction = 0.05}, pool);
  EXPECT_EQ(report.train_tokens + report.validation_tokens, 1000);
}

TEST(CharacterTokenizer, HasATokenForEachCharacter) {
  ThreadPool pool(3);
  const std::string text = random_text(400000) + "end";
  const std::vector<std::string_view> texts{text, "ñ"};
  const Tokenizer tokenizer = character_tokenizer(texts, pool);
  std::string sample = text.substr(0, 1000);
  while (slow_faults(sample).invalid > 0) sample.pop_back();
  const std::vector<int32_t> ids = tokenizer.encode(sample, AddedTokens::kAsText);
  size_t characters = 0;
  for (size_t i = 0; i < sample.size(); i += decode_utf8(sample, i).bytes) ++characters;
  EXPECT_EQ(ids.size(), characters);
  EXPECT_EQ(tokenizer.decode(ids), sample);
  EXPECT_EQ(tokenizer.encode("ñ").size(), 1U);
  EXPECT_EQ(tokenizer.encode("ö").size(), 2U);  // unknown: its bytes
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("ö語")), "ö語");
  // The prefixes of 語 and 한 (3 bytes), € (3), 😀 and 𝔘 (4, with the same first byte).
  EXPECT_EQ(tokenizer.vocabulary(), 256 + 8 + 3 + 4 + 1);
  EXPECT_EQ(Tokenizer::from_json(tokenizer.to_json(), "json").encode(sample), tokenizer.encode(sample));
}

}  // namespace
}  // namespace tutti
