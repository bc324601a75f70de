#include <gtest/gtest.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/data/split.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <regex>

namespace tutti {
namespace {

std::mt19937_64& random() {
  static std::mt19937_64 generator{[] {
    const uint64_t seed = std::random_device{}();
    std::printf("random seed %llu\n", static_cast<unsigned long long>(seed));
    return seed;
  }()};
  return generator;
}

size_t draw(size_t n) {
  return std::uniform_int_distribution<size_t>(0, n - 1)(random());
}

std::string random_bytes(size_t n) {
  std::string text(n, '\0');
  for (char& c : text) c = static_cast<char>(static_cast<unsigned char>(draw(256)));
  return text;
}

/// Text of repeated words, with apostrophes, numbers, runs of white space, several scripts and invalid
/// bytes.
std::string random_text(size_t pieces) {
  static const std::vector<std::string> kPieces = {"the",
                                                   " the",
                                                   " of",
                                                   "and",
                                                   " don't",
                                                   "'s",
                                                   "'ll",
                                                   "'re",
                                                   "''",
                                                   "'",
                                                   " ",
                                                   "  ",
                                                   "   ",
                                                   "\n",
                                                   "\n\n",
                                                   "\t ",
                                                   "\r\n",
                                                   "12",
                                                   " 345",
                                                   "³",
                                                   "Ⅷ",
                                                   "½",
                                                   "héé",
                                                   " ñandú",
                                                   "日本",
                                                   " 語",
                                                   "привет",
                                                   " мир",
                                                   "ß",
                                                   "\u00a0",
                                                   "　",
                                                   "\u2028",
                                                   "\u200b",
                                                   "🙂",
                                                   " 👩‍🚀",
                                                   "e\u0301",
                                                   "...",
                                                   " !?",
                                                   "#$%",
                                                   "\xff",
                                                   "\xc3",
                                                   "\xe2\x82",
                                                   "עברית",
                                                   " عرب",
                                                   "١٢٣",
                                                   "नमस्ते",
                                                   "\x01",
                                                   "a'b",
                                                   "'T",
                                                   "'sound",
                                                   "'v",
                                                   "'l",
                                                   "A1b2",
                                                   "_x_",
                                                   "\x7f",
                                                   "\u0085",
                                                   "𝔘𝔫𝔦",
                                                   "<|endoftext|>",
                                                   "<|end",
                                                   "ǅ"};
  std::string text;
  for (size_t i = 0; i < pieces; ++i) text += kPieces[draw(kPieces.size())];
  return text;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> all;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = word_end(text, begin);
    EXPECT_GT(end, begin);
    all.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return all;
}

Tokenizer trained(std::string_view text, int64_t vocabulary, int threads = 1) {
  ThreadPool pool(threads);
  const std::vector<std::string_view> texts{text};
  return train_bpe(texts, {.vocabulary = vocabulary}, pool);
}

TEST(Split, FollowsTheRuleOnKnownCases) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(words("don't we'll I'm he'd they've you're it's"),
            (Words{"don", "'t", " we", "'ll", " I", "'m", " he", "'d", " they", "'ve", " you", "'re", " it",
                   "'s"}));
  EXPECT_EQ(words("DON'T"), (Words{"DON", "'", "T"}));
  EXPECT_EQ(words("'sound"), (Words{"'s", "ound"}));
  EXPECT_EQ(words("a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(words("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(words("a \n"), (Words{"a", " \n"}));
  EXPECT_EQ(words("a\t b"), (Words{"a", "\t", " b"}));
  EXPECT_EQ(words("x=1,234.5"), (Words{"x", "=", "1", ",", "234", ".", "5"}));
  EXPECT_EQ(words(" ?! ok"), (Words{" ?!", " ok"}));
  EXPECT_EQ(words("!'s"), (Words{"!'", "s"}));
  EXPECT_EQ(words("\u00a0a"), (Words{"\u00a0", "a"}));        // no-break space is white space, but not ' '
  EXPECT_EQ(words("a\u200bb"), (Words{"a", "\u200b", "b"}));  // zero width space is not
  EXPECT_EQ(words("été 12³½Ⅷ"), (Words{"été", " 12³½Ⅷ"}));
  EXPECT_EQ(words("\xff\xfe a"), (Words{"\xff\xfe", " a"}));
  EXPECT_EQ(words(" "), (Words{" "}));
  EXPECT_TRUE(words("").empty());
}

/// The rule as an expression of std::regex, for ASCII text.
TEST(Split, MatchesRegexOnAscii) {
  const std::regex rule(R"('s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+)");
  const std::string letters = "ab 1 2'st\n remvld.\t!?  '";
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (size_t n = draw(40); n > 0; --n) text += letters[draw(letters.size())];
    std::vector<std::string> expected;
    for (auto it = std::sregex_iterator(text.begin(), text.end(), rule); it != std::sregex_iterator(); ++it) {
      expected.push_back(it->str());
    }
    EXPECT_EQ(words(text), expected) << text;
  }
}

TEST(Split, CutsDoNotChangeTheWords) {
  for (int round = 0; round < 200; ++round) {
    const std::string text = round % 2 == 0 ? random_text(draw(60)) : random_bytes(draw(60));
    const std::vector<std::string> whole = words(text);
    const size_t cut = cut_point(text, draw(text.size() + 1));
    std::vector<std::string> parts = words(std::string_view(text).substr(0, cut));
    for (std::string& word : words(std::string_view(text).substr(cut))) parts.push_back(std::move(word));
    EXPECT_EQ(parts, whole) << "cut at " << cut;
  }
}

TEST(Unicode, DecodesWhatItEncodesAndRefusesOtherBytes) {
  for (int round = 0; round < 2000; ++round) {
    auto code = static_cast<char32_t>(draw(0x110000));
    if (code >= 0xd800 && code <= 0xdfff) continue;
    std::string text;
    append_utf8(text, code);
    const Utf8Char back = decode_utf8(text, 0);
    EXPECT_EQ(back.code, code);
    EXPECT_EQ(back.bytes, text.size());
    for (size_t n = 1; n < text.size(); ++n) {
      EXPECT_EQ(decode_utf8(text.substr(0, n), 0).code, Utf8Char::kInvalid);
    }
  }
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_EQ(decode_utf8(bad, 0).code, Utf8Char::kInvalid) << bad;
    EXPECT_EQ(decode_utf8(bad, 0).bytes, 1U);
  }
}

TEST(Unicode, SpacesAreExactlyWhiteSpace) {
  int spaces = 0;
  for (char32_t code = 0; code < 0x110000; ++code) spaces += char_class(code) == CharClass::kSpace;
  EXPECT_EQ(spaces, 25);  // PropList.txt
}

TEST(ByteTokenizer, IdsAreTheBytes) {
  const Tokenizer tokenizer = Tokenizer::bytes();
  EXPECT_EQ(tokenizer.vocabulary(), 256);
  const std::string text = random_bytes(1000);
  const std::vector<int32_t> ids = tokenizer.encode(text);
  ASSERT_EQ(ids.size(), text.size());
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], static_cast<unsigned char>(text[i]));
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(Tokenizer::from_json(tokenizer.to_json(), "copy").encode(text), ids);
}

/// A reference implementation: counts all pairs, merges the most frequent one, and repeats.
std::vector<std::pair<int32_t, int32_t>> slow_merges(const std::string& text, int64_t vocabulary) {
  std::map<std::vector<int32_t>, int64_t> counts;
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin < text.size();) {  // without occurrences of the special token
    const size_t end = std::min(text.find(kEndOfText, begin), text.size());
    for (std::string& word : words(std::string_view(text).substr(begin, end - begin))) {
      std::vector<int32_t> ids;
      for (const char c : word) ids.push_back(static_cast<unsigned char>(c));
      ++counts[ids];
    }
    begin = end + kEndOfText.size();
  }
  std::vector<std::string> tokens(256);
  for (size_t b = 0; b < 256; ++b)
    tokens[b] = std::string(1, static_cast<char>(static_cast<unsigned char>(b)));
  std::vector<std::pair<int32_t, int32_t>> merges;
  while (static_cast<int64_t>(tokens.size()) < vocabulary - 1) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;
    for (const auto& [ids, count] : counts) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) pairs[{ids[i], ids[i + 1]}] += count;
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, count] : pairs) {
      if (count > most) best = pair, most = count;
    }
    if (most < 2) break;
    const std::string joined =
        tokens[static_cast<size_t>(best.first)] + tokens[static_cast<size_t>(best.second)];
    const auto known = std::find(tokens.begin(), tokens.end(), joined);
    const auto id = static_cast<int32_t>(known - tokens.begin());
    if (known == tokens.end()) tokens.push_back(joined);
    merges.push_back(best);
    std::map<std::vector<int32_t>, int64_t> next;
    for (const auto& [ids, count] : counts) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (i + 1 < ids.size() && std::pair(ids[i], ids[i + 1]) == best) {
          merged.push_back(id);
          ++i;
        } else {
          merged.push_back(ids[i]);
        }
      }
      next[merged] += count;
    }
    counts = std::move(next);
  }
  return merges;
}

TEST(BpeTraining, MatchesAReferenceImplementation) {
  for (int round = 0; round < 5; ++round) {
    std::string text = random_text(300);
    for (int i = 0; i < 200; ++i) text += "abcab"[draw(5)];  // overlapping pairs and equal joined tokens
    EXPECT_EQ(trained(text, 330).model().merges, slow_merges(text, 330));
  }
}

TEST(BpeTraining, DependsOnlyOnTheText) {
  const std::string text = random_text(20000);
  const size_t cut = cut_point(text, text.size() / 3);
  const std::vector<std::string_view> parts{std::string_view(text).substr(cut),
                                            std::string_view(text).substr(0, cut)};
  ThreadPool pool(3);
  const Tokenizer a = trained(text, 400);
  EXPECT_EQ(a.vocabulary(), 400);
  EXPECT_EQ(train_bpe(parts, {.vocabulary = 400}, pool).to_json(), a.to_json());
}

TEST(BpeTraining, EndsWithoutPairsToMerge) {
  const Tokenizer tokenizer = trained("aaaa bbbb", 1000);  // one word each: aa occurs twice
  EXPECT_LT(tokenizer.vocabulary(), 270);
  EXPECT_EQ(tokenizer.added(kEndOfText), tokenizer.vocabulary() - 1);
  ThreadPool pool(1);
  EXPECT_THROW((void)train_bpe({}, {.vocabulary = 256}, pool), Error);
  EXPECT_EQ(train_bpe({}, {.vocabulary = 257}, pool).vocabulary(), 257);
}

/// Merges by the definition: the lowest rank first, of equal ones the leftmost, one at a time.
std::vector<int32_t> slow_encode(const Tokenizer& tokenizer, std::string_view text) {
  std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> ranks;
  const BpeModel& model = tokenizer.model();
  std::map<std::string, int32_t> ids;
  for (size_t i = 0; i < model.tokens.size(); ++i) ids.emplace(model.tokens[i], static_cast<int32_t>(i));
  for (size_t r = 0; r < model.merges.size(); ++r) {
    const auto [a, b] = model.merges[r];
    ranks[{a, b}] = {r, ids.at(model.tokens[static_cast<size_t>(a)] + model.tokens[static_cast<size_t>(b)])};
  }
  std::vector<int32_t> all;
  for (const std::string& word : words(text)) {
    std::vector<int32_t> symbols;
    for (const char c : word) symbols.push_back(ids.at(std::string(1, c)));
    while (true) {
      size_t best = 0;
      auto rank = std::pair<size_t, int32_t>{model.merges.size(), -1};
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto found = ranks.find({symbols[i], symbols[i + 1]});
        if (found != ranks.end() && found->second.first < rank.first) best = i, rank = found->second;
      }
      if (rank.second < 0) break;
      symbols[best] = rank.second;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    all.insert(all.end(), symbols.begin(), symbols.end());
  }
  return all;
}

TEST(Bpe, EncodesByTheDefinition) {
  const Tokenizer tokenizer = trained(random_text(5000), 500);
  TokenEncoder encoder(tokenizer);
  for (int round = 0; round < 60; ++round) {
    std::string text = random_text(draw(200));
    // Words of lengths around which the encoder changes its algorithm.
    for (const size_t n : {30U, 31U, 32U, 33U, 200U}) {
      text += ' ';
      for (size_t i = 0; i < n; ++i) text += "theandof"[draw(8)];
    }
    std::vector<int32_t> ids;
    encoder.encode(text, ids, AddedTokens::kAsText);
    EXPECT_EQ(ids, slow_encode(tokenizer, text));
  }
}

TEST(Bpe, DecodesToTheSameBytes) {
  const Tokenizer tokenizer = trained(random_text(3000) + random_bytes(3000), 600);
  for (int round = 0; round < 100; ++round) {
    const std::string text = random_bytes(draw(300)) + random_text(draw(100)) + random_bytes(draw(30));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, AddedTokens::kAsText)), text);
  }
  EXPECT_THROW((void)tokenizer.decode(std::vector<int32_t>{600}), Error);
  EXPECT_THROW((void)tokenizer.decode(std::vector<int32_t>{-1}), Error);
}

TEST(Bpe, LongWordsAreNotQuadratic) {
  const Tokenizer tokenizer = trained("aaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa aaaaaaaa", 262);
  const std::string text(1 << 20, 'a');  // quadratic time would be far too long
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(Bpe, AddedTokensAreFoundLongestFirst) {
  BpeModel model = Tokenizer::bytes().model();
  for (const char* content : {"<a>", "<a>b", "b<", "xx"}) {
    model.added.push_back({.content = content, .id = static_cast<int32_t>(model.tokens.size())});
    model.tokens.emplace_back(content);
  }
  model.added.back().special = false;
  model.added.back().normalized = true;
  const Tokenizer tokenizer(model);
  EXPECT_EQ(tokenizer.encode("<a><a>b<"), (std::vector<int32_t>{256, 257, '<'}));
  EXPECT_EQ(tokenizer.encode("b<a>xxx"), (std::vector<int32_t>{258, 'a', '>', 259, 'x'}));
  EXPECT_EQ(tokenizer.encode("<a>", AddedTokens::kAsText), (std::vector<int32_t>{'<', 'a', '>'}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("<a>bxx")), "<a>bxx");
}

TEST(TokenizerJson, ReadsWhatItWrites) {
  const Tokenizer tokenizer = trained(random_text(3000), 420);
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("tutti_tokenizer_" + std::to_string(random()()) + ".json");
  tokenizer.save(path);
  const Tokenizer copy = Tokenizer::load(path);
  std::filesystem::remove(path);
  EXPECT_EQ(copy.to_json(), tokenizer.to_json());
  EXPECT_EQ(copy.sha256(), tokenizer.sha256());
  EXPECT_EQ(copy.added(kEndOfText), tokenizer.added(kEndOfText));
  const std::string text = random_text(500);
  EXPECT_EQ(copy.encode(text), tokenizer.encode(text));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(TokenizerJson, ReadsMergesAsPairs) {
  const Tokenizer tokenizer = trained("ab ab ab ab", 260);
  const std::string text = tokenizer.to_json();
  ASSERT_NE(text.find("\"a b\""), std::string::npos) << text;
  const std::string as_pairs = replaced(text, "\"a b\"", R"(["a", "b"])");
  const Tokenizer pairs = Tokenizer::from_json(as_pairs, "pairs");
  EXPECT_EQ(pairs.encode("ab cab a b"), tokenizer.encode("ab cab a b"));
  EXPECT_TRUE(pairs.to_json() == as_pairs);  // the text that was read
}

void expect_refused(const std::string& text, const std::string& part) {
  try {
    (void)Tokenizer::from_json(text, "some.json");
    ADD_FAILURE() << "accepted; expected an error with " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("some.json"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(TokenizerJson, RefusesEntriesThatWouldGiveOtherIds) {
  const std::string good = trained("ab ab ab ab", 260).to_json();
  expect_refused("", "empty");
  expect_refused("[]", "object");
  expect_refused(replaced(good, "\"type\": \"BPE\"", "\"type\": \"Other\""), "Other");
  expect_refused(replaced(good, "\"normalizer\": null", R"("normalizer": {"type": "Odd"})"),
                 "normalizer 'Odd'");
  expect_refused(replaced(good, "\"pre_tokenizer\": {\"type\": \"ByteLevel\"",
                          R"("pre_tokenizer": {"type": "UnicodeScripts")"),
                 "UnicodeScripts");
  expect_refused(replaced(good, "\"decoder\": {\"type\": \"ByteLevel\"", R"("decoder": {"type": "CTC")"),
                 "CTC");
  expect_refused(
      replaced(good, "\"post_processor\": null", R"("post_processor": {"type": "TemplateProcessing"})"),
      "post_processor");
  expect_refused(replaced(good, "\"dropout\": null", "\"dropout\": 0.1"), "dropout");
  expect_refused(replaced(good, "\"a b\"", "\"a c\""), "which is not in the vocabulary");
  expect_refused(replaced(good, "\"a b\"", "\"a zz\""), "zz");
  expect_refused(replaced(good, "\"a b\"", "\"a  b\""), "merge 0");
  expect_refused(replaced(good, "\"a b\"", "7"), "merge 0");
  expect_refused(replaced(good, "\"a\": 97", "\"a\": 98"), "98");
  expect_refused(replaced(good, "\"a\": 97", "\"a\": -1"), "id");
  expect_refused(replaced(good, "\"a\": 97", "\"a\": 4000000"), "4000000");
  expect_refused(replaced(good, "\"a\": 97", "\"b\": 97"), "duplicate key");
  expect_refused(replaced(good, "\"a\": 97", "\"aa\": 97"), "merge");
  expect_refused(replaced(good, "{\"id\": 258", "{\"id\": -1"), "added_tokens[0]");
}

TEST(Tokenizers, DifferenceNamesTheFirstDifferentToken) {
  const std::string text = "the cat and the dog and the cow ";
  const Tokenizer trained_one = trained(text + text, 270);
  const std::string json = trained_one.to_json();
  const auto difference = [&](const std::string& other) {
    return Tokenizer::from_json(other, "other").difference(trained_one).value_or("none");
  };
  // Another JSON layout and other rules for batches are the same tokenizer.
  EXPECT_EQ(difference(replaced(json, "\"padding\": null", "\"padding\":   {}")), "none");
  // Bytes have the same ids, but words have different ones.
  const std::string of_bytes = Tokenizer::bytes().difference(trained_one).value_or("none");
  EXPECT_NE(of_bytes.find("expected ids "), std::string::npos) << of_bytes;
  EXPECT_EQ(trained_one.difference(Tokenizer::bytes()).value_or("none").find("id 256 is "), 0U);
}

TEST(TokenizerJson, TruncatedFilesAreRefused) {
  const std::string good = trained("ab ab ab ab", 260).to_json();
  for (size_t n = 0; n + 2 < good.size(); n += 1 + draw(97)) {
    EXPECT_THROW((void)Tokenizer::from_json(good.substr(0, n), "cut"), Error) << n;
  }
}

TEST(TokenizerJson, DamagedFilesGiveErrorsOrTokenizers) {
  const std::string good = trained(random_text(500), 300).to_json();
  for (int round = 0; round < 300; ++round) {
    std::string text = good;
    for (size_t n = 1 + draw(4); n > 0; --n) {
      text[draw(text.size())] = static_cast<char>(static_cast<unsigned char>(draw(256)));
    }
    try {
      const Tokenizer tokenizer = Tokenizer::from_json(text, "damaged");
      if (tokenizer.lossless()) {
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
      }
    } catch (const Error&) {  // the only exception that is allowed
    }
  }
}

TEST(ByteSymbols, MatchTheAlphabetOfGpt2) {
  EXPECT_EQ(symbols_of_bytes(" the\n"), "ĠtheĊ");
  EXPECT_EQ(byte_symbol(0), 0x100U);
  EXPECT_EQ(byte_symbol(0xad), 0x143U);
  std::string all(256, '\0');
  for (size_t b = 0; b < 256; ++b) all[b] = static_cast<char>(static_cast<unsigned char>(b));
  EXPECT_EQ(bytes_of_symbols(symbols_of_bytes(all)), all);
  EXPECT_EQ(bytes_of_symbols("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_symbols("語"), std::nullopt);
}

}  // namespace
}  // namespace tutti
