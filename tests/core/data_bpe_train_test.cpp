#include <gtest/gtest.h>
#include <tutti/core/data/bpe_train.h>
#include "core/data/prepare/bpe_words.h"
#include "core/data/split.h"

#include <map>

#include "tests/core/data_helpers.h"

namespace tutti {
namespace {

using test::draw;

using Pair = std::pair<int32_t, int32_t>;

std::string letters(size_t n, std::string_view alphabet) {
  std::string text(n, ' ');
  for (char& c : text) c = alphabet[draw(alphabet.size())];
  return text;
}

/// Merges by the definition: counts all pairs again for each merge.
std::vector<Pair> slow_merges(std::string_view text, size_t most) {
  std::vector<std::vector<int32_t>> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = word_end(text, begin);
    std::vector<int32_t>& word = words.emplace_back();
    for (; begin < end; ++begin) word.push_back(static_cast<unsigned char>(text[begin]));
  }
  std::vector<Pair> merges;
  std::map<std::string, int32_t> ids;
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) tokens.emplace_back(1, static_cast<char>(i));
  while (tokens.size() < 256 + most) {
    std::map<Pair, int64_t> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    Pair best{-1, -1};
    int64_t count = 1;
    for (const auto& [pair, n] : counts) {
      if (n > count) best = pair, count = n;
    }
    if (best.first < 0) break;
    const std::string joined =
        tokens[static_cast<size_t>(best.first)] + tokens[static_cast<size_t>(best.second)];
    const auto [known, fresh] = ids.emplace(joined, static_cast<int32_t>(tokens.size()));
    if (fresh) tokens.push_back(joined);
    merges.push_back(best);
    for (auto& word : words) {
      std::vector<int32_t> next;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool pair = i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
        next.push_back(pair ? known->second : word[i]);
        i += pair ? 1 : 0;
      }
      word = next;
    }
  }
  return merges;
}

TEST(BpeTraining, MergesByTheDefinition) {
  ThreadPool pool(2);
  for (int round = 0; round < 60; ++round) {
    // Few letters, for runs of one token and overlapping pairs.
    const std::string text = letters(20 + draw(600), round % 3 == 0   ? "aab "
                                                     : round % 3 == 1 ? "abc  "
                                                                      : "aaaaaab ");
    const size_t most = 1 + draw(60);
    const std::vector<std::string_view> texts{text};
    const Tokenizer tokenizer =
        train_bpe(texts, {.vocabulary = static_cast<int64_t>(256 + most), .special_tokens = {}}, pool);
    EXPECT_EQ(tokenizer.model().merges, slow_merges(text, most)) << text;
  }
}

TEST(BpeTraining, UsesWordsOfAnyLength) {
  ThreadPool pool(2);
  // One word of 3 MB: there would be no merges if long words were ignored.
  const std::string text = letters(3 << 20, "ACGT");
  const std::vector<std::string_view> texts{text};
  BpeTrainReport report;
  const Tokenizer tokenizer = train_bpe(texts, {.vocabulary = 400, .report = &report}, pool);
  EXPECT_EQ(tokenizer.vocabulary(), 400);
  EXPECT_EQ(report.learned, 400);
  EXPECT_EQ(report.cut_words, 1);
  EXPECT_EQ(report.cut_bytes, 3 << 20);
  EXPECT_EQ(report.kept_long_bytes, report.long_bytes);
  ASSERT_EQ(report.notes().size(), 1U);
  EXPECT_NE(report.notes()[0].find("1 word was longer than 1024 bytes (3.1 MB in all)"), std::string::npos)
      << report.notes()[0];
  // All pairs of random letters have about the same frequency: the first 16 merges are of single letters.
  for (size_t i = 0; i < 4; ++i) EXPECT_LT(tokenizer.model().merges[i].first, 256);
}

TEST(BpeTraining, CutsLongWordsBetweenCharacters) {
  ThreadPool pool(1);
  std::string text = "ab";
  for (int i = 0; i < 2000; ++i) text += "語";
  const std::vector<std::string_view> texts{text};
  const AddedTokenFinder none{{}};
  const WordCounts words = WordCounts::of(texts, none, pool);
  size_t bytes = 0;
  for (const auto& [piece, count] : words.counts()) {
    EXPECT_LE(piece.size(), kLongestPiece);
    EXPECT_NE(static_cast<unsigned char>(piece.front()) & 0xc0U, 0x80U) << "begins within a character";
    bytes += piece.size() * static_cast<size_t>(count);
  }
  EXPECT_EQ(bytes, text.size());
}

TEST(BpeTraining, NotesReportUnmetRequests) {
  ThreadPool pool(1);
  const std::vector<std::string_view> texts{"aaaa bbbb"};
  BpeTrainReport report;
  const Tokenizer tokenizer = train_bpe(texts, {.vocabulary = 1000, .report = &report}, pool);
  EXPECT_EQ(report.asked, 1000);
  EXPECT_EQ(report.learned, tokenizer.vocabulary());
  ASSERT_EQ(report.notes().size(), 1U);
  EXPECT_EQ(report.notes()[0],
            fmt::format("learned {} tokens of 1,000: no more pairs of tokens occur 2 times within words",
                        tokenizer.vocabulary()));
}

TEST(WordCounts, SampleOfLongWordsDoesNotDependOnOrder) {
  ThreadPool pool(3);
  const AddedTokenFinder none{{}};
  std::vector<std::string> lines;
  std::map<std::string, int64_t> whole;
  for (int i = 0; i < 36000; ++i) {
    lines.push_back(
        fmt::format("\n{}", letters(1000, "ACGT")));  // 36 MB of different words, more than are kept
    if (i % 9 == 0) lines.push_back(lines[draw(lines.size())]);
  }
  std::string text, shuffled;
  for (const std::string& line : lines) {
    text += line + " the";
    ++whole[line.substr(1)];
  }
  std::shuffle(lines.begin(), lines.end(), test::random());
  for (const std::string& line : lines) shuffled += line + " the";
  const std::vector<std::string_view> texts{text};
  const WordCounts counts = WordCounts::of(texts, none, pool);
  size_t kept = 0;
  for (const auto& [word, count] : counts.counts()) {
    if (word.size() <= kLongPiece) continue;
    kept += word.size();
    ASSERT_EQ(count, whole.at(word));
  }
  EXPECT_LE(kept, kMostLongBytes);
  EXPECT_GT(kept, kMostLongBytes / 4);
  EXPECT_LT(counts.kept_long_bytes(), counts.long_bytes());
  EXPECT_EQ(counts.counts().find(" the")->second, static_cast<int64_t>(lines.size()));
  const std::vector<std::string_view> halves{
      std::string_view(shuffled).substr(0, shuffled.find('\n', 9000000)),
      std::string_view(shuffled).substr(shuffled.find('\n', 9000000))};
  const WordCounts again = WordCounts::of(halves, none, pool);
  EXPECT_TRUE(again.counts() == counts.counts());
}

}  // namespace
}  // namespace tutti
