#include <tutti/core/data/cifar.h>
#include <tutti/core/data/image_folder.h>
#include <tutti/core/data/token_dataset.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/data/verify.h>
#include <tutti/core/io/sha256.h>
#include "core/checkpoint/verify_weights.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>

#include "tests/core/checkpoint_fixture.h"
#include "tests/core/thread_peers.h"
#include "tests/temporary_directory.h"

namespace tutti {
namespace {

namespace fs = std::filesystem;

SharedWork quiet(int threads = 2) {
  return {.name = "test", .threads = threads, .cancelled = {}, .log = {}};
}

/// The result of a world of `ranks` ranks, which must be the same on all.
std::optional<DataIdentity> identify_at(int ranks, const DataContent& content,
                                        DataCheck check = DataCheck::kFull) {
  std::mutex mutex;
  std::vector<std::optional<DataIdentity>> all;
  ThreadWorld::run(ranks, [&](Peers& peers) {
    const auto identity = identify(content, check, peers, quiet());
    const std::scoped_lock lock(mutex);
    all.push_back(identity);
  });
  for (const auto& identity : all) {
    EXPECT_EQ(identity.has_value(), all[0].has_value());
    if (!identity) continue;
    EXPECT_EQ(identity->listed, all[0]->listed);
    EXPECT_EQ(identity->contents, all[0]->contents);
  }
  return all[0];
}

std::string refusal(int ranks, const DataContent& content, DataCheck check = DataCheck::kFull) {
  try {
    (void)identify_at(ranks, content, check);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Token shards of a text of `lines` random lines.
void write_tokens(const fs::path& directory, int lines, unsigned seed) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < lines; ++i) text += fmt::format("line {} of {}\n", i, random() % 1000);
  const fs::path input = directory.string() + ".txt";
  write_all(input, text);
  TokenizeConfig config;
  config.inputs = {input.string()};
  config.out = directory.string();
  config.tokenizer = "bytes";
  config.shard_tokens = 500;
  config.validation_fraction = 0.2;
  ThreadPool pool(1);
  (void)tokenize_files(config, pool);
}

void flip(const fs::path& path, int64_t at) {
  std::string text = read_all(path);
  text[static_cast<size_t>(at)] = static_cast<char>(text[static_cast<size_t>(at)] ^ 1);
  write_all(path, text);
}

TEST(DataVerifyTest, EveryFlippedByteOfEveryShardIsDetected) {
  const TemporaryDirectory folder;
  write_tokens(folder / "tokens", 200, 1);
  for (const char* split : {"train", "validation"}) {
    const DataContent content = TokenCorpus::open(folder / "tokens", split).content();
    ASSERT_GE(content.files.size(), 2U);
    const auto whole = identify_at(1, content);
    for (const int ranks : {2, 3}) EXPECT_EQ(identify_at(ranks, content)->listed, whole->listed);
    std::mt19937 random(std::random_device{}());
    for (const ContentFile& file : content.files) {
      // Not in the header: its errors are detected when the file is opened.
      const int64_t at = file.bytes - 1 - static_cast<int64_t>(random() % 300);
      flip(file.path, at);
      for (const int ranks : {1, 2, 3}) {
        const std::string message = refusal(ranks, content);
        EXPECT_NE(message.find(file.path.string() + ": checksum mismatch"), std::string::npos) << message;
        EXPECT_NE(message.find("tokens.json"), std::string::npos) << message;
      }
      EXPECT_EQ(refusal(2, content, DataCheck::kQuick), "");
      flip(file.path, at);
    }
    EXPECT_EQ(refusal(3, content), "");
  }
}

TEST(DataVerifyTest, AllDamagedFilesAreNamedInOneMessage) {
  const TemporaryDirectory folder;
  write_tokens(folder / "tokens", 200, 1);
  write_tokens(folder / "other", 200, 2);
  const DataContent content = TokenCorpus::open(folder / "tokens", "train").content();
  ASSERT_GE(content.files.size(), 3U);
  std::string zeroed = read_all(content.files[0].path);
  std::fill(zeroed.end() - 100, zeroed.end(), '\0');
  write_all(content.files[0].path, zeroed);
  fs::copy_file(folder / "other" / content.files[1].name, content.files[1].path,
                fs::copy_options::overwrite_existing);
  fs::resize_file(content.files[2].path, static_cast<uintmax_t>(content.files[2].bytes) - 1);
  for (const int ranks : {1, 2, 3}) {
    const std::string message = refusal(ranks, content);
    for (int i = 0; i < 3; ++i) {
      EXPECT_NE(message.find(content.files[static_cast<size_t>(i)].path.string()), std::string::npos)
          << message;
    }
    EXPECT_NE(message.find("bytes long, expected"), std::string::npos) << message;
  }
  // Another corpus with correct checksums has another identity.
  EXPECT_NE(identify_at(1, TokenCorpus::open(folder / "other", "train").content())->listed,
            identify_at(1,
                        [&] {
                          write_tokens(folder / "again", 200, 1);
                          return TokenCorpus::open(folder / "again", "train").content();
                        }())
                ->listed);
}

/// A folder of `count` small files in two classes, which are not decoded here.
void write_folder(const fs::path& directory, int count) {
  for (const char* name : {"cat", "dog"}) {
    fs::create_directories(directory / name);
    for (int i = 0; i < count; ++i)
      write_all(directory / name / fmt::format("{:04}.png", i), fmt::format("{}{}", name, i));
  }
}

TEST(DataVerifyTest, FoldersAreIdentifiedByNamesSizesAndContents) {
  const TemporaryDirectory folder;
  write_folder(folder / "a", 400);
  const ImageFolderConfig config;
  const auto of = [&](const std::string& name, int ranks = 1) {
    return *identify_at(ranks, ImageFolder(folder / name, config).content());
  };
  const DataIdentity first = of("a");
  EXPECT_EQ(first.files, 800);
  EXPECT_EQ(first.classes, (std::vector<std::string>{"cat", "dog"}));
  for (const int ranks : {2, 3}) {
    EXPECT_EQ(of("a", ranks).listed, first.listed);
    EXPECT_EQ(of("a", ranks).contents, first.contents);
  }
  // Another directory with the same files is the same data.
  fs::copy(folder / "a", folder / "b", fs::copy_options::recursive);
  EXPECT_EQ(of("b").listed, first.listed);
  EXPECT_EQ(of("b").contents, first.contents);
  flip(folder / "b" / "dog" / "0007.png", 1);
  EXPECT_EQ(of("b").listed, first.listed);
  EXPECT_NE(of("b").contents, first.contents);
  fs::rename(folder / "b" / "dog" / "0007.png", folder / "b" / "dog" / "0007x.png");
  EXPECT_NE(of("b").listed, first.listed);
  fs::remove_all(folder / "b");
  // The same images with exchanged class names.
  fs::copy(folder / "a", folder / "b", fs::copy_options::recursive);
  fs::rename(folder / "b" / "cat", folder / "b" / "x");
  fs::rename(folder / "b" / "dog", folder / "b" / "cat");
  fs::rename(folder / "b" / "x", folder / "b" / "dog");
  EXPECT_NE(of("b").contents, first.contents);
}

TEST(DataVerifyTest, CifarFilesAreIdentifiedByTheirContent) {
  const TemporaryDirectory folder;
  const std::string record(1 + 3 * 32 * 32, '\3');
  write_all(folder / "test_batch.bin", record + record);
  const auto first = identify_at(1, CifarImages::test(folder.path())->content());
  EXPECT_EQ(identify_at(3, CifarImages::test(folder.path())->content())->contents, first->contents);
  flip(folder / "test_batch.bin", 5000);
  const auto second = identify_at(2, CifarImages::test(folder.path())->content());
  EXPECT_EQ(second->listed, first->listed);
  EXPECT_NE(second->contents, first->contents);
}

TEST(DataVerifyTest, AStopOnOneRankCancelsTheWorkOnAll) {
  const TemporaryDirectory folder;
  write_tokens(folder / "tokens", 200, 1);
  const DataContent content = TokenCorpus::open(folder / "tokens", "train").content();
  std::atomic<int> empty{0};
  ThreadWorld::run(3, [&](Peers& peers) {
    SharedWork work = quiet();
    const int rank = peers.rank();
    work.cancelled = [rank] { return rank == 2; };
    if (!identify(content, DataCheck::kFull, peers, work)) ++empty;
  });
  EXPECT_EQ(empty, 3);
}

TEST(SharedWorkTest, EachUnitIsProcessedOnceForAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3}) {
    for (const size_t units : {0U, 1U, 2U, 17U}) {
      std::vector<int64_t> costs;
      for (size_t i = 0; i < units; ++i) costs.push_back(static_cast<int64_t>(i * i % 7));
      std::vector<std::atomic<int>> done(units);
      ThreadWorld::run(ranks, [&](Peers& peers) {
        const auto results =
            share_work(costs, peers, quiet(3), [&](size_t unit, const WorkProgress& progress) {
              ++done[unit];
              progress(1);
              return unit % 3 == 0 ? std::string() : fmt::format("result {}", unit);
            });
        ASSERT_TRUE(results.has_value());
        ASSERT_EQ(results->size(), units);
        for (size_t i = 0; i < units; ++i)
          EXPECT_EQ((*results)[i], i % 3 == 0 ? "" : fmt::format("result {}", i));
      });
      for (const auto& count : done) EXPECT_EQ(count, 1);
    }
  }
}

TEST(VerifyWeightsTest, FilesOfACheckpointMustHaveItsChecksums) {
  for (const int ranks : {1, 2, 3}) {
    const TemporaryDirectory folder;
    CheckpointConfig config;
    config.dir = (folder / "checkpoints").string();
    ThreadWorld::run(ranks, [&](Peers& peers) {
      ThreadPool pool(1);
      FakeTraining training(7, peers.rank(), peers.size(), Stream::inline_on(pool));
      training.fill();
      Checkpoints checkpoints(config, peers, nullptr);
      checkpoints.prepare(0);
      ASSERT_EQ(checkpoints.save(training.state, {.step = 4}).error, "");
    });
    const fs::path place = folder / "checkpoints" / checkpoint_name(4);
    const auto verify = [&](const fs::path& path) -> std::string {
      try {
        std::atomic<int64_t> count{0};
        ThreadWorld::run(ranks, [&](Peers& peers) { count = *verify_weights(path, peers, quiet()); });
        return fmt::format("{}", count.load());
      } catch (const Error& error) {
        return error.what();
      }
    };
    const std::string good = verify(place);
    EXPECT_EQ(good, std::to_string(ranks == 1 ? 2 : ranks + 2));
    for (const auto& entry : fs::directory_iterator(place)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("model") || name.ends_with(".json")) continue;
      flip(entry.path(), static_cast<int64_t>(entry.file_size()) - 3);
      EXPECT_NE(verify(place).find("checksum mismatch in model tensor '"), std::string::npos)
          << verify(place);
      // The path of a file, as in model.weights.
      EXPECT_NE(verify(entry.path()).find("checksum mismatch"), std::string::npos);
      flip(entry.path(), static_cast<int64_t>(entry.file_size()) - 3);
    }
    flip(place / "manifest.json", 30);
    EXPECT_NE(verify(place).find("checksum mismatch"), std::string::npos) << verify(place);
    flip(place / "manifest.json", 30);
    EXPECT_EQ(verify(place), good);
    // Files of a checkpoint in another directory, without recorded checksums.
    fs::create_directories(folder / "bare");
    for (const auto& entry : fs::directory_iterator(place)) {
      if (entry.path().filename().string().starts_with("model"))
        fs::copy_file(entry.path(), folder / "bare" / entry.path().filename());
    }
    EXPECT_EQ(verify(folder / "bare"), "0");
    // A list without the file verifies nothing.
    std::ofstream(folder / "bare" / "SHA256SUMS") << std::string(64, 'a') << "  other.safetensors\n";
    EXPECT_NE(verify(folder / "bare").find("SHA256SUMS: does not list model"), std::string::npos)
        << verify(folder / "bare");
    fs::remove(place / "SHA256SUMS");
    EXPECT_NE(verify(place).find("no SHA256SUMS"), std::string::npos) << verify(place);
  }
}

}  // namespace
}  // namespace tutti
