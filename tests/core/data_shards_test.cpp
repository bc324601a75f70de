#include <gtest/gtest.h>
#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/data/token_dataset.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/data/tokenizer.h>

#include <map>

#include "tests/core/data_helpers.h"

namespace tutti {
namespace {

using test::draw;
using test::expect_error;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;

std::vector<int32_t> random_ids(size_t n, int64_t vocabulary) {
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(draw(static_cast<size_t>(vocabulary)));
  return ids;
}

/// Writes ids in pieces of random length and the index, and opens the result.
TokenCorpus written(const std::filesystem::path& directory, const std::vector<int32_t>& ids,
                    int64_t vocabulary, int64_t shard_tokens) {
  const TokenSource source{vocabulary, "abc"};
  TokenShardWriter writer(directory, "train", source, shard_tokens);
  for (size_t at = 0; at < ids.size();) {
    const size_t n = std::min(1 + draw(50), ids.size() - at);
    writer.add(std::span(ids).subspan(at, n));
    at += n;
  }
  TokenIndex index;
  index.source = source;
  index.splits.push_back(writer.finish());
  write_file(directory / "tokens.json", index.to_json());
  return TokenCorpus::open(directory, "train");
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST(TokenShards, ReadBackWhatWasWritten) {
  for (const int64_t vocabulary : {2, 256, 65536, 65537, 200000}) {
    const TemporaryDirectory directory;
    const std::vector<int32_t> ids = random_ids(1 + draw(500), vocabulary);
    const auto shard_tokens = static_cast<int64_t>(20 + draw(70));
    const TokenCorpus corpus = written(directory.path(), ids, vocabulary, shard_tokens);
    const auto size = static_cast<int64_t>(ids.size());
    ASSERT_EQ(corpus.size(), size);
    EXPECT_EQ(static_cast<int64_t>(corpus.shards().size()), (size + shard_tokens - 1) / shard_tokens);
    for (int round = 0; round < 50; ++round) {
      const size_t begin = draw(ids.size() + 1);
      std::vector<int32_t> some(draw(ids.size() - begin + 1));
      corpus.read(static_cast<int64_t>(begin), some);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
    std::vector<int32_t> two(2);
    expect_error([&] { corpus.read(size - 1, two); }, "requested");
    expect_error([&] { corpus.read(-1, two); }, "requested");
    const SafetensorsFile file = SafetensorsFile::open(directory / "train-00000.safetensors");
    EXPECT_EQ(file.at("tokens").dtype, vocabulary <= 65536 ? "U16" : "I32");
  }
}

TEST(TokenShards, WriterRefusesIdsOutsideTheVocabulary) {
  const TemporaryDirectory directory;
  TokenShardWriter writer(directory.path(), "train", {10, "abc"}, 100);
  expect_error([&] { writer.add(std::vector<int32_t>{3, 10}); }, "id 10");
  expect_error([&] { writer.add(std::vector<int32_t>{-1}); }, "id -1");
}

TEST(TokenShards, TruncatedFilesAreRefusedWithTheirName) {
  const TemporaryDirectory directory;
  (void)written(directory.path(), random_ids(40, 300), 300, 100);
  const std::string good = read_file(directory / "train-00000.safetensors");
  const std::filesystem::path cut = directory / "cut.safetensors";
  for (size_t n = 0; n < good.size(); ++n) {
    write_file(cut, good.substr(0, n));
    expect_error([&] { (void)TokenShard::open(cut); }, "cut.safetensors");
  }
  write_file(cut, good + "x");
  expect_error([&] { (void)TokenShard::open(cut); }, "cut.safetensors");
  expect_error([&] { (void)TokenShard::open(directory / "missing"); }, "missing");
  expect_error([&] { (void)TokenShard::open(directory.path()); }, directory.path().string());
  write_file(cut, "PK\x03\x04 this is not a safetensors file, despite its name");
  expect_error([&] { (void)TokenShard::open(cut); }, "cut.safetensors");
}

TEST(TokenShards, DamagedHeadersGiveErrorsOrShards) {
  const TemporaryDirectory directory;
  (void)written(directory.path(), random_ids(40, 300), 300, 100);
  const std::string good = read_file(directory / "train-00000.safetensors");
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (size_t n = 1 + draw(3); n > 0; --n) {
      bad[draw(bad.size())] = static_cast<char>(static_cast<unsigned char>(draw(256)));
    }
    try {
      const TokenShard shard = TokenShard::parse(bytes_of(bad), "bad");
      std::vector<int32_t> ids(static_cast<size_t>(shard.size()));
      shard.read(0, ids);
      for (const int32_t id : ids) ASSERT_LT(id, shard.source().vocabulary);
    } catch (const Error&) {  // the only exception that is allowed
    }
  }
}

std::string shard_bytes(const std::vector<int32_t>& ids, const std::map<std::string, std::string>& metadata,
                        const std::string& name = "tokens", const Shape& shape = {}) {
  const TemporaryDirectory directory;
  const auto path = directory / "shard";
  SafetensorsWriter writer(
      path, {{name, "I32", shape.empty() ? Shape{static_cast<int64_t>(ids.size())} : shape}}, metadata);
  writer.write(std::as_bytes(std::span(ids)));
  writer.finish();
  return read_file(path);
}

TEST(TokenShards, ErrorsAreSpecific) {
  const std::map<std::string, std::string> good{{"vocabulary", "10"}, {"tokenizer_sha256", "abc"}};
  const auto parse = [](const std::string& bytes) { return TokenShard::parse(bytes_of(bytes), "shard 7"); };
  const std::vector<int32_t> ids{1, 2, 10, 3};
  const std::string bytes = shard_bytes(ids, good);
  const TokenShard shard = parse(bytes);
  std::vector<int32_t> out(2);
  shard.read(0, out);
  expect_error([&] { shard.read(1, out); }, "shard 7: token 2 has id 10; the vocabulary has 10");
  EXPECT_EQ(parse(shard_bytes({-5}, good)).size(), 1);
  expect_error([&] { parse(shard_bytes({-5}, good)).read(0, std::span(out).first(1)); }, "id -5");
  expect_error([&] { (void)parse(shard_bytes(ids, good, "weights")); }, "shard 7: not a token shard");
  expect_error([&] { (void)parse(shard_bytes(ids, good, "tokens", {2, 2})); }, "one dim");
  expect_error([&] { (void)parse(shard_bytes(ids, {{"vocabulary", "10"}})); }, "tokenizer_sha256");
  for (const char* vocabulary : {"0", "-3", "ten", "", "10 ", "99999999999999999999"}) {
    expect_error(
        [&] {
          (void)parse(shard_bytes(ids, {{"vocabulary", vocabulary}, {"tokenizer_sha256", "abc"}}));
        },
        "vocabulary");
  }
}

TEST(TokenCorpus, DetectsForeignShards) {
  const TemporaryDirectory directory;
  (void)written(directory.path(), random_ids(40, 300), 300, 16);
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "validation"); }, "it has: train");
  expect_error([&] { (void)TokenCorpus::open(directory / "no", "train"); }, "no such directory");

  const TemporaryDirectory other;
  (void)written(other.path(), random_ids(16, 200), 200, 16);
  const std::string shard = read_file(directory / "train-00001.safetensors");
  write_file(directory / "train-00001.safetensors", read_file(other / "train-00000.safetensors"));
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "train"); }, "train-00001.safetensors");
  write_file(directory / "train-00001.safetensors", read_file(directory / "train-00002.safetensors"));
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "train"); }, "8 tokens");
  std::filesystem::remove(directory / "train-00001.safetensors");
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "train"); }, "train-00001.safetensors");
  write_file(directory / "train-00001.safetensors", shard);
  EXPECT_EQ(TokenCorpus::open(directory.path(), "train").size(), 40);

  std::filesystem::remove(directory / "tokens.json");
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "train"); }, "tokens.json");
  write_file(directory / "tokens.json", "");
  expect_error([&] { (void)TokenCorpus::open(directory.path(), "train"); }, "empty");
}

TEST(TokenIndex, RefusesOtherFormats) {
  TokenIndex index;
  index.source = {300, "abc"};
  index.splits.push_back({"train", {{"a.safetensors", 5, "0f"}}});
  index.splits.push_back({"validation", {}});
  const std::string good = index.to_json();
  EXPECT_EQ(TokenIndex::parse(good, "index").to_json(), good);
  const auto refused = [&](const std::string& from, const std::string& to, const std::string& part) {
    std::string text = good;
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    expect_error([&] { (void)TokenIndex::parse(text, "index"); }, part);
  };
  refused("tutti.tokens", "other", "format");
  refused("300", "-1", "vocabulary");
  refused("300", "0", "vocabulary");
  refused("\"vocabulary\"", "\"vocab\"", "vocabulary");
  refused("a.safetensors", "../a.safetensors", "../a");
  refused("\"tokens\": 5", "\"tokens\": \"5\"", "tokens");
  refused("{", "{\"more\": 1,", "keys");
  for (size_t n = 0; n + 2 < good.size(); ++n) {
    EXPECT_THROW((void)TokenIndex::parse(good.substr(0, n), "index"), Error) << n;
  }
}

TEST(TokenDataset, DividesTheSequenceAndPadsTheLastSample) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  for (const int64_t context : {1, 7, 10, 39, 40, 100}) {
    for (const size_t n : {2U, 3U, 40U, 41U, 42U}) {
      const TemporaryDirectory directory;
      const std::vector<int32_t> ids = random_ids(n, 300);
      const TokenDataset data(written(directory.path(), ids, 300, 13), context);
      std::vector<int64_t> samples(static_cast<size_t>(data.size()));
      for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<int64_t>(i);
      const Batch batch = data.read(samples, {}, stream);
      EXPECT_EQ(batch.inputs.shape(), (Shape{data.size(), context}));
      EXPECT_EQ(batch.targets.dtype(), DType::kInt32);
      // All tokens except the first are predicted once, from the previous one.
      std::vector<int32_t> inputs, targets;
      for (size_t i = 0; i < batch.targets.span<int32_t>().size(); ++i) {
        const int32_t target = batch.targets.span<int32_t>()[i];
        if (target >= 0) {
          inputs.push_back(batch.inputs.span<int32_t>()[i]);
          targets.push_back(target);
        } else {
          EXPECT_EQ(target, -1);
          EXPECT_EQ(batch.inputs.span<int32_t>()[i], 0);
        }
      }
      EXPECT_EQ(inputs, std::vector<int32_t>(ids.begin(), ids.end() - 1));
      EXPECT_EQ(targets, std::vector<int32_t>(ids.begin() + 1, ids.end()));
      int64_t predictions = 0;
      for (const int64_t id : samples) predictions += data.predictions(id);
      EXPECT_EQ(predictions, static_cast<int64_t>(n) - 1);
      expect_error([&] { (void)data.read(std::vector<int64_t>{data.size()}, {}, stream); }, "sample");
    }
  }
}

TEST(TokenDataset, NeedsTwoTokens) {
  const TemporaryDirectory directory;
  expect_error([&] { TokenDataset(written(directory.path(), {5}, 300, 13), 4); }, "at least two");
}

std::string random_document(size_t words) {
  static const std::vector<std::string> kWords = {"in ",  "the ", "beginning ", "God's ",
                                                  "été ", "\n",   "\xff ",      "語",
                                                  "12 ",  "'ll",  ", ",         "<|endoftext|>"};
  std::string text;
  for (size_t i = 0; i < words; ++i) text += kWords[draw(kWords.size())];
  return text + "end";
}

std::string decoded(const Tokenizer& tokenizer, const TokenCorpus& corpus) {
  std::vector<int32_t> ids(static_cast<size_t>(corpus.size()));
  corpus.read(0, ids);
  return tokenizer.decode(ids);
}

TEST(TokenizeFiles, WritesAllTextForAnyNumberOfThreads) {
  const TemporaryDirectory directory;
  const std::vector<std::string> texts{random_document(300000), random_document(50), random_document(2000)};
  TokenizeConfig config{.tokenizer = "train",
                        .vocabulary = 320,
                        .shard_tokens = 50001,
                        .validation_fraction = 0.25,
                        .as_bytes = true};
  for (size_t i = 0; i < texts.size(); ++i) {
    config.inputs.push_back(directory / (std::to_string(i) + ".txt"));
    write_file(config.inputs.back(), texts[i]);
  }
  std::map<std::string, std::string> first;
  for (const int threads : {1, 3}) {
    config.out = directory / ("out" + std::to_string(threads)) / "";
    ThreadPool pool(threads);
    int64_t reported = 0;
    const TokenizeReport report = tokenize_files(config, pool, [&](const TokenizeReport& now) {
      EXPECT_GE(now.bytes, reported);
      reported = now.bytes;
    });
    EXPECT_EQ(reported, report.total_bytes);
    EXPECT_EQ(reported, static_cast<int64_t>(texts[0].size() + texts[1].size() + texts[2].size()));
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(config.out)) {
      files[entry.path().filename()] = read_file(entry.path());
    }
    if (threads == 1) first = files;
    EXPECT_EQ(files, first);

    const Tokenizer tokenizer = *open_tokenizer({.path = config.out});
    EXPECT_EQ(tokenizer.vocabulary(), 320);
    const TokenCorpus train = TokenCorpus::open(config.out, "train");
    const TokenCorpus validation = TokenCorpus::open(config.out, "validation");
    EXPECT_EQ(train.size(), report.train_tokens);
    EXPECT_EQ(validation.size(), report.validation_tokens);
    EXPECT_GT(train.shards().size(), 1U);
    // Each text is complete: its first part in one split, the rest in the other.
    std::string a = decoded(tokenizer, train);
    std::string b = decoded(tokenizer, validation);
    std::vector<int32_t> ids(static_cast<size_t>(train.size()));
    train.read(0, ids);
    EXPECT_EQ(ids.back(), *tokenizer.added(kEndOfText));
    for (const std::string& text : texts) {
      size_t cut = 0;
      while (cut < text.size() && cut < a.size() && a[cut] == text[cut]) ++cut;
      // The boundary is at or before the first difference (both may continue with the same bytes).
      bool found = false;
      for (; !found; --cut) {
        const std::string head = text.substr(0, cut) + std::string(kEndOfText);
        const std::string tail = text.substr(cut) + std::string(kEndOfText);
        found = a.starts_with(head) && b.starts_with(tail);
        if (found) {
          EXPECT_NEAR(static_cast<double>(cut), 0.75 * static_cast<double>(text.size()), 1000.0);
          a.erase(0, head.size());
          b.erase(0, tail.size());
        }
        if (cut == 0) break;
      }
      ASSERT_TRUE(found);
    }
    EXPECT_TRUE(a.empty() && b.empty());
  }
}

TEST(TokenizeFiles, IdsAreThoseOfTheWholeText) {
  const TemporaryDirectory directory;
  const std::string text = random_document(200000);  // longer than the pieces that are encoded in parallel
  write_file(directory / "in.txt", text);
  ThreadPool pool(2);
  for (const bool split : {true, false}) {
    BpeModel model = Tokenizer::bytes().model();
    model.split = split;
    model.tokens.insert(model.tokens.end(), {"in", "in ", "e b", "the beginning"});
    model.merges = {{'i', 'n'}, {256, ' '}};
    model.tokens.erase(model.tokens.begin() + 258);
    model.added = {{.content = "the beginning", .id = 258}};  // an added token with white space inside
    const Tokenizer tokenizer(model);
    tokenizer.save(directory / "tokenizer.json");
    (void)tokenize_files({.inputs = {directory / "in.txt"},
                          .out = directory / "out",
                          .force = true,
                          .tokenizer = directory / "tokenizer.json",
                          .validation_fraction = 0,
                          .as_bytes = true},
                         pool);
    const TokenCorpus corpus = TokenCorpus::open(directory / "out", "train");
    std::vector<int32_t> ids(static_cast<size_t>(corpus.size()));
    corpus.read(0, ids);
    EXPECT_TRUE(ids == tokenizer.encode(text)) << split;
    const DataConfig config{.path = directory / "out"};
    EXPECT_EQ(open_dataset(config, Split::kValidation), nullptr);
    EXPECT_EQ(open_dataset(config, Split::kTraining)->classes(), 259);
  }
}

TEST(TokenizeFiles, SaysWhatIsWrong) {
  const TemporaryDirectory directory;
  ThreadPool pool(1);
  write_file(directory / "empty.txt", "");
  write_file(directory / "one.txt", "x");
  write_file(directory / "good.txt", "some words\nand more of them\n");
  const auto run = [&](const std::string& input, const std::string& out, double fraction = 0,
                       bool force = false) {
    return tokenize_files({.inputs = {directory / input},
                           .out = directory / out,
                           .force = force,
                           .validation_fraction = fraction},
                          pool);
  };
  expect_error([&] { (void)run("none.txt", "out"); }, "none.txt");
  expect_error([&] { (void)run("empty.txt", "out"); }, "empty.txt: the file is empty");
  expect_error([&] { (void)run("one.txt", "out"); }, "one.txt: too short");
  expect_error([&] { (void)run("one.txt", "out", 0.5); }, "one.txt: too short");
  EXPECT_FALSE(std::filesystem::exists(directory / "out"));
  write_file(directory / "mine/letter.txt", "precious");
  expect_error([&] { (void)run("good.txt", "mine"); }, "--force");
  EXPECT_EQ(read_file(directory / "mine/letter.txt"), "precious");
  EXPECT_EQ(run("good.txt", "out").train_tokens, 28);
  EXPECT_EQ(run("good.txt", "out", 0.3, true).vocabulary, 256);  // earlier shards are replaced
  EXPECT_GT(TokenCorpus::open(directory / "out", "validation").size(), 0);
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
  }
}

TEST(OpenDataset, RefusesTokensOfTwoTokenizers) {
  const TemporaryDirectory directory;
  ThreadPool pool(1);
  write_file(directory / "in.txt", "aaab aaab aaab aaab aaab aaab aaab\naaab aaab aaab aaab\n");
  for (const auto& [out, tokenizer] : {std::pair{"a", "bytes"}, std::pair{"b", "train"}}) {
    (void)tokenize_files({.inputs = {directory / "in.txt"},
                          .out = directory / out,
                          .tokenizer = tokenizer,
                          .vocabulary = 260,
                          .validation_fraction = 0.3},
                         pool);
  }
  DataConfig config{.path = directory / "a", .validation_path = directory / "b", .context = 4};
  expect_error([&] { (void)open_dataset(config, Split::kValidation); }, "another tokenizer");
  config.validation_path.clear();
  EXPECT_EQ(open_dataset(config, Split::kValidation)->sample_shape(), (Shape{4}));
  std::filesystem::copy_file(directory / "b" / "tokenizer.json", directory / "a" / "tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  expect_error([&] { (void)open_tokenizer(config); }, "not the tokenizer");
  expect_error([&] { (void)open_dataset({}, Split::kTraining); }, "data.path");
}

}  // namespace
}  // namespace tutti
