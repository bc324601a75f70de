// The families of tests/oracle/tokenizer_oracle.py with small vocabularies and explicit ids.

#include <gtest/gtest.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <fmt/format.h>

#include <filesystem>

#include "tests/temporary_directory.h"

namespace tutti {
namespace {

using Ids = std::vector<int32_t>;

/// A tokenizer.json; `parts` are the members besides model and added tokens.
Tokenizer make(const std::string& model, const std::string& parts, const std::string& tokens = "") {
  return Tokenizer::from_json(fmt::format(R"({{"version": "1.0", "added_tokens": [{}], {} "model": {}}})",
                                          tokens, parts.empty() ? "" : parts + ",", model),
                              "test.json");
}

std::string added(const std::string& content, int id, const std::string& flags) {
  return fmt::format(R"({{"id": {}, "content": "{}", {}}})", id, content, flags);
}

const char* const kSpecial = R"("special": true, "normalized": false)";

Ids ids_of_sections(const Tokenizer& tokenizer, const std::string& text, size_t bytes) {
  TokenEncoder encoder(tokenizer);
  Ids ids;
  for (const TextSection& section : tokenizer.sections(text, bytes)) encoder.encode(section, ids);
  return ids;
}

std::string byte_vocabulary(const std::string& more) {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string symbol =
        symbols_of_bytes(std::string(1, static_cast<char>(static_cast<unsigned char>(byte))));
    vocab += fmt::format(R"("{}{}": {}, )", symbol == "\"" || symbol == "\\" ? "\\" : "", symbol, byte);
  }
  return "{" + vocab + more + "}";
}

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

Tokenizer llama3() {
  const std::string model =
      R"({"type": "BPE", "ignore_merges": true, "merges": ["1 2", "12 3", "' S"], "vocab": )" +
      byte_vocabulary(R"("12": 256, "123": 257, "'S": 258, "1234": 259, "abc": 260)") + "}";
  const std::string parts = fmt::format(
      R"("normalizer": null,
  "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [
    {{"type": "Split", "pattern": {{"Regex": "{}"}}, "behavior": "Isolated", "invert": false}},
    {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}}]}},
  "post_processor": {{"type": "Sequence", "processors": [{{"type": "ByteLevel"}}, {{"type": "TemplateProcessing",
    "single": [{{"SpecialToken": {{"id": "<b>", "type_id": 0}}}}, {{"Sequence": {{"id": "A", "type_id": 0}}}}],
    "special_tokens": {{"<b>": {{"id": "<b>", "ids": [261], "tokens": ["<b>"]}}}}}}]}},
  "decoder": {{"type": "ByteLevel"}})",
      kLlama3);
  return make(model, parts, added("<b>", 261, kSpecial));
}

TEST(TokenizerFamilies, Llama3SplitsByItsExpression) {
  const Tokenizer tokenizer = llama3();
  // Digits in groups of three; a word that is a token is not split, although there are no merges for it.
  EXPECT_EQ(tokenizer.encode("1234"), (Ids{257, '4'}));
  EXPECT_EQ(tokenizer.encode("abc'S<b>"), (Ids{260, 258, 261}));
  EXPECT_EQ(Ids(tokenizer.before().begin(), tokenizer.before().end()), (Ids{261}));
  EXPECT_TRUE(tokenizer.behind().empty());
  EXPECT_TRUE(tokenizer.lossless());
  const std::string text = "\xff\xfeHe said 12345 \xc3 d\r\n\r\n\xe2\x82";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

Tokenizer llama2(const std::string& more = "") {
  std::string vocab = R"("<unk>": 0, "<s>": 1, "</s>": 2, )";
  for (int byte = 0; byte < 256; ++byte) vocab += fmt::format(R"("<0x{:02X}>": {}, )", byte, byte + 3);
  vocab += R"("▁": 259, "t": 260, "h": 261, "e": 262, "▁t": 263, "he": 264, "▁the": 265)";
  return make(R"({"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
    "merges": [["▁", "t"], ["h", "e"], ["▁t", "he"]], "vocab": {)" +
                  vocab + "}}",
              R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
              added("<s>", 1, kSpecial) + "," + added("</s>", 2, kSpecial) + more);
}

TEST(TokenizerFamilies, Llama2PrependsASpaceAndFallsBackToBytes) {
  const Tokenizer tokenizer = llama2();
  EXPECT_EQ(tokenizer.encode("the the"), (Ids{265, 265}));
  EXPECT_EQ(tokenizer.encode("the</s>the"), (Ids{265, 2, 265}));
  EXPECT_EQ(tokenizer.encode("é"), (Ids{259, 0xc3 + 3, 0xa9 + 3}));
  EXPECT_EQ(tokenizer.encode(""), Ids());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("the é🙂 the")), "the é🙂 the");
  EXPECT_EQ(tokenizer.end_of_text(), 2);
  EXPECT_FALSE(tokenizer.lossless());
  EXPECT_THROW((void)tokenizer.encode("the \xff"), Error);
  // Token by token: the first space is removed, others are kept, and incomplete characters are not returned.
  TokenDecoder decoder(tokenizer);
  std::string text;
  for (const int32_t id : tokenizer.encode("the é🙂 the")) {
    const std::string piece = decoder.add(id);
    EXPECT_EQ(piece.find("\ufffd"), std::string::npos);
    text += piece;
  }
  EXPECT_EQ(text + decoder.finish(), "the é🙂 the");
}

TEST(TokenizerFamilies, LongRunsOfBytesAreDecodedPerCharacter) {
  const Tokenizer tokenizer = llama2();
  std::string text = "the ";
  for (int i = 0; i < 200; ++i) text += i % 3 == 0 ? "日" : i % 3 == 1 ? "🙂" : "é";
  TokenDecoder decoder(tokenizer);
  std::string decoded;
  for (const int32_t id : tokenizer.encode(text)) decoded += decoder.add(id);
  EXPECT_EQ(decoded + decoder.finish(), text);
}

TEST(TokenizerFamilies, CharacterClassesMatchTokenizers) {
  // In its tables, U+166D is punctuation, and U+2E52 is not assigned.
  const Tokenizer tokenizer =
      make(R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "a": 1, "a⹒a": 2}})",
           R"("pre_tokenizer": {"type": "Punctuation", "behavior": "Removed"})");
  EXPECT_EQ(tokenizer.encode("a\u166da"), (Ids{1, 1}));
  EXPECT_EQ(tokenizer.encode("a⹒a"), Ids{2});
}

TEST(TokenizerFamilies, IdsOfSectionsAreThoseOfTheWhole) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += i % 7 == 0 ? "the</s>  the " : i % 5 == 0 ? "th\n the é 12 " : " the he ";
  for (const Tokenizer& tokenizer : {llama2(), llama3(), Tokenizer::bytes()}) {
    EXPECT_GT(tokenizer.sections(text, 40).size(), 60U);
    for (const size_t bytes : {1U, 7U, 40U, 5000U}) {
      EXPECT_EQ(ids_of_sections(tokenizer, text, bytes), tokenizer.encode(text)) << bytes;
    }
  }
}

TEST(TokenizerFamilies, LongTextWithoutSpacesIsNotQuadratic) {
  const std::string text(4 << 20, 'e');  // quadratic time would be far too long
  EXPECT_EQ(llama2().encode(text).size(), text.size() + 1);
  const Tokenizer unigram =
      make(R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["e", -2], ["ee", -3]]})", "");
  EXPECT_EQ(unigram.encode(text).size(), text.size() / 2);
}

TEST(TokenizerFamilies, AddedTokensAreNumberedAsInTokenizers) {
  const char* const model = R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "a": 1, "b": 2}})";
  // Ids in the file are ignored: tokens of the vocabulary keep theirs, others follow in order.
  const Tokenizer tokenizer = make(model, "",
                                   added("<y>", 9, kSpecial) + "," + added("b", 7, kSpecial) + "," +
                                       added("<x>", 5, kSpecial) + "," + added("<y>", 4, kSpecial));
  EXPECT_EQ(tokenizer.added("<y>"), 3);
  EXPECT_EQ(tokenizer.added("b"), 2);
  EXPECT_EQ(tokenizer.added("<x>"), 4);
  EXPECT_EQ(tokenizer.vocabulary(), 5);
  EXPECT_EQ(tokenizer.encode("<x>b<y>a"), (Ids{4, 2, 3, 1}));
}

TEST(TokenizerFamilies, AddedTokensMayIncludeSpacesAndMatchWholeWords) {
  const char* const model = R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, " ": 1}})";
  const Tokenizer tokenizer =
      make(model, "",
           added("<l>", 2, R"("special": true, "normalized": false, "lstrip": true)") + "," +
               added("<r>", 3, R"("special": true, "normalized": false, "rstrip": true)") + "," +
               added("word", 4, R"("special": false, "normalized": false, "single_word": true)"));
  EXPECT_EQ(tokenizer.encode(" \t<l> <r>\n word"), (Ids{2, 1, 3, 4}));
  EXPECT_EQ(tokenizer.encode("words"), Ids{0});
}

TEST(TokenizerFamilies, UnigramSelectsTheMostProbablePieces) {
  const Tokenizer tokenizer = make(
      R"({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
    "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["b", -3.0], ["ab", -4.0], ["▁a", -3.5]]})",
      R"("pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
    "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})");
  EXPECT_EQ(tokenizer.encode("ab ab"), (Ids{1, 4, 1, 4}));
  EXPECT_EQ(tokenizer.encode("xyb"), (Ids{1, 0, 3}));  // consecutive unknown characters are one token
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("ab ab")), "ab ab");
}

TEST(TokenizerFamilies, BertCleansAndSelectsTheLongestPieces) {
  const Tokenizer tokenizer = make(
      R"({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 6,
    "vocab": {"[UNK]": 0, "un": 1, "##able": 2, "##a": 3, "a": 4, "!": 5, "é": 6}})",
      R"("normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
      "strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["!", 5], "cls": ["a", 4]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true})");
  EXPECT_EQ(tokenizer.encode("UNable\tá!xx"), (Ids{1, 2, 4, 5, 0}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa"), Ids{0});
  EXPECT_EQ(tokenizer.decode(Ids{1, 2, 5}), "unable!");
  EXPECT_EQ(tokenizer.before()[0], 4);
  EXPECT_EQ(tokenizer.behind()[0], 5);
}

TEST(TokenizerFamilies, NewerCharactersAreNotNormalized) {
  // U+1E030 (Unicode 15) has a compatibility decomposition that is not in the tables of tokenizers.
  const Tokenizer tokenizer =
      make(R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "𞀰": 1, "fi": 2}})",
           R"("normalizer": {"type": "NFKC"})");
  EXPECT_EQ(tokenizer.encode("𞀰"), Ids{1});
  EXPECT_EQ(tokenizer.encode("ﬁ"), Ids{2});
}

TEST(TokenizerFamilies, ExcessiveBacktrackingIsAnError) {
  const Tokenizer tokenizer = make(R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0}})",
                                   R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"},
      "behavior": "Isolated", "invert": false})");
  try {
    (void)tokenizer.encode(std::string(64, 'a') + "b");
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("(a+)+$"), std::string::npos) << error.what();
  }
}

// Each of these is refused by tokenizers 0.23.3, or has different ids there.
TEST(TokenizerFamilies, RefusesWhatTokenizersRefuses) {
  const auto refused = [](const std::string& model, const std::string& parts, const std::string& reason) {
    try {
      (void)make(model, parts);
      ADD_FAILURE() << "accepted: " << model << parts;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  const std::string words = R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "a": 1}})";
  const auto stage = [&](const char* part, const std::string& step, const char* reason) {
    refused(words, fmt::format(R"("{}": {{"type": {}}})", part, step), reason);
  };
  stage("pre_tokenizer", R"("ByteLevel")", "'add_prefix_space' is missing");
  stage("pre_tokenizer", R"("Digits")", "'individual_digits' is missing");
  stage("pre_tokenizer", R"("Split", "pattern": {"String": "a"}, "invert": false)", "'behavior' is missing");
  stage("pre_tokenizer", R"("Split", "pattern": {"String": "a"}, "behavior": "Removed")",
        "'invert' is missing");
  stage("normalizer", R"("Strip", "strip_left": true)", "'strip_right' is missing");
  stage("normalizer", R"("BertNormalizer", "clean_text": true, "lowercase": true)",
        "'handle_chinese_chars' is missing");
  stage("decoder", R"("WordPiece", "prefix": "##")", "'cleanup' is missing");
  stage("decoder", R"("BPEDecoder")", "'suffix' is missing");
  stage("decoder", R"("Strip", "content": " ", "start": 0)", "'stop' is missing");
  for (const char* const part : {"pre_tokenizer", "decoder"}) {
    stage(part, R"("Metaspace")", "'replacement' is missing");
    stage(part, R"("Metaspace", "replacement": "_", "add_prefix_space": false)", "add_prefix_space is false");
    stage(part, R"("Metaspace", "replacement": "_", "add_prefix_space": false, "prepend_scheme": "first")",
          "prepend_scheme is first");
  }
  const std::string framed = R"({"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["a", 1]})";
  stage("post_processor", fmt::format(R"("Sequence", "processors": [{0}, {0}])", framed),
        "post_processor.processors[1]: a second template");
  refused(R"({"type": "WordLevel", "vocab": {"<unk>": 0}})", "", "'unk_token' is missing");
  refused(
      R"({"type": "WordPiece", "unk_token": "u", "vocab": {"a": 0}, "continuing_subword_prefix": "##",
          "max_input_chars_per_word": 100})",
      "", "unk_token 'u' is not in the vocabulary");
  EXPECT_THROW((void)Tokenizer::from_json("\ufeff" + make(words, "").to_json(), "bom.json"), Error);
  EXPECT_EQ(make(words, R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_",
                          "add_prefix_space": false, "prepend_scheme": "never"})")
                .encode("a"),
            Ids{1});
}

TEST(TokenizerFamilies, FoldersAndPairsOfFilesAreRead) {
  const TemporaryDirectory directory;
  const Tokenizer source = llama2();
  std::filesystem::create_directory(directory / "model");
  source.save(directory / "model/tokenizer.json");
  write_file_atomically(
      directory / "model/tokenizer_config.json",
      R"({"add_bos_token": true, "add_eos_token": false, "bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  const Tokenizer tokenizer = Tokenizer::load(directory / "model");
  EXPECT_EQ(tokenizer.to_json(), source.to_json());
  EXPECT_EQ(Ids(tokenizer.before().begin(), tokenizer.before().end()), Ids{1});
  EXPECT_TRUE(tokenizer.behind().empty());
  EXPECT_EQ(tokenizer.end_of_text(), 2);
  std::filesystem::create_directory(directory / "run");
  tokenizer.save(directory / "run/tokenizer.json");  // with its configuration
  EXPECT_EQ(Tokenizer::load(directory / "run/tokenizer.json").before().size(), 1U);

  std::filesystem::create_directory(directory / "gpt2");
  write_file_atomically(directory / "gpt2/vocab.json", byte_vocabulary(R"("ab": 256, "<|endoftext|>": 257)"));
  write_file_atomically(directory / "gpt2/merges.txt", "#version: 0.2\na b\n");
  const Tokenizer pair = Tokenizer::load(directory / "gpt2");
  EXPECT_EQ(pair.encode("ab<|endoftext|>a"), (Ids{256, 257, 'a'}));

  std::filesystem::create_directory(directory / "old");
  write_file_atomically(directory / "old/tokenizer.model", "x");
  try {
    (void)Tokenizer::load(directory / "old");
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("save_pretrained"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tutti
