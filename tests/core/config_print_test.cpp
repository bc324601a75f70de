#include "tests/core/config_settings.h"

#include "core/config/utf8.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace tutti::test {
namespace {

std::string random_text(std::mt19937_64& random) {
  std::string text;
  const size_t length = random() % 12;
  while (text.size() < length) {
    const auto code = static_cast<uint32_t>(random() % 3 == 0 ? random() % 0x11000 : random() % 0x80);
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
    } else if (code < 0x10000) {
      text += {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3f)),
               static_cast<char>(0x80 | (code & 0x3f))};
    }
    if (!is_utf8(text)) text.clear();  // a surrogate
  }
  return text;
}

TEST(Config, ResolvedFileReadsBack) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::vector<std::string> hard = {"null",
                                         "~",
                                         "true",
                                         "no",
                                         "1",
                                         "1e5",
                                         "-",
                                         "",
                                         " ",
                                         "a: b",
                                         "#",
                                         "a #b",
                                         "{",
                                         "[",
                                         "*a",
                                         "&a",
                                         "!t",
                                         "'",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\r\n",
                                         "\t",
                                         "---",
                                         "...",
                                         "a\nb",
                                         "\x7f",
                                         "\xc2\x85",
                                         "\xe2\x80\xa8",
                                         "\xef\xbb\xbf",
                                         "@",
                                         "`",
                                         "%",
                                         "|",
                                         ">",
                                         "?",
                                         ":",
                                         ",",
                                         "0x10",
                                         "/tmp/a b",
                                         "/tmp/x-1.y"};
  for (size_t round = 0; round < 600; ++round) {
    const auto text = [&] { return round < hard.size() ? hard[round] : random_text(random); };
    const auto number = [&] {
      double value = 0;
      while (!std::isfinite(value = std::bit_cast<double>(random()))) {
      }
      return std::abs(value);
    };
    Settings in;
    in.name = "n" + text();
    in.shuffle = random() % 2 == 0;
    in.tags.assign(random() % 4, text());
    in.sizes.assign(random() % 3, static_cast<int64_t>(random() >> 1));
    if (random() % 2 == 0) in.comment = text();
    if (random() % 2 == 0) in.seed = static_cast<int64_t>(random());
    if (random() % 2 == 0) in.flag = random() % 2 == 0;
    if (random() % 2 == 0) in.dtype = static_cast<DType>(random() % 7);
    in.model.dtype = static_cast<DType>(random() % 7);
    in.optimizer.learning_rate = number();
    in.optimizer.clip_norm = number();
    const std::string yaml = to_yaml(in, round % 2 == 0 ? YamlComments::kHelp : YamlComments::kNone);
    SCOPED_TRACE(yaml);
    Settings out;
    out.name = "other";
    out.tags = {"other"};
    out.comment = "other";
    out.seed = 1;
    out.flag = true;
    out.dtype = DType::kUInt8;
    read_text(yaml, "resolved.yaml", out);
    ASSERT_EQ(out.name, in.name);
    ASSERT_EQ(out.shuffle, in.shuffle);
    ASSERT_EQ(out.tags, in.tags);
    ASSERT_EQ(out.sizes, in.sizes);
    ASSERT_EQ(out.comment, in.comment);
    ASSERT_EQ(out.seed, in.seed);
    ASSERT_EQ(out.flag, in.flag);
    ASSERT_EQ(out.dtype, in.dtype);
    ASSERT_EQ(out.model.dtype, in.model.dtype);
    ASSERT_EQ(out.optimizer.learning_rate, in.optimizer.learning_rate);
    ASSERT_EQ(out.optimizer.clip_norm, in.optimizer.clip_norm);
    ASSERT_EQ(to_yaml(out), to_yaml(in));
  }
}

TEST(Config, WriterRefusesValuesThatYamlCannotRepresent) {
  Settings settings;
  settings.name = "\xff";
  EXPECT_THROW((void)to_yaml(settings), Error);
  settings.name = "a";
  settings.optimizer.learning_rate = std::numeric_limits<double>::infinity();
  EXPECT_THROW((void)to_yaml(settings), Error);
}

TEST(Config, HelpShowsEveryKey) {
  const std::string help = help_text(Settings{});
  for (const char* wanted : {"optimizer.learning_rate", "0.0003", "peak of the schedule (above 0)",
                             "sgd, adamw, muon", "model.dropout", "(at least 0, below 1)", "[0.9, 0.95]",
                             "integer", "choice", "optimizer: how weights are updated"}) {
    EXPECT_NE(help.find(wanted), std::string::npos) << wanted << "\n" << help;
  }
}

}  // namespace
}  // namespace tutti::test
