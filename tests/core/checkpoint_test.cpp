#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/file.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/error.h>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <random>

#include "tests/core/thread_peers.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

/// A training state whose every value follows from (seed, name, index), so that any part of it can be
/// checked.
class FakeTraining {
 public:
  /// Rank `rank` of `ranks`: weights whole, moments cut into flat shards, some statistics whole.
  FakeTraining(uint64_t seed, int rank, int ranks, const Stream& stream) : seed_(seed) {
    for (const auto& [name, shape, dtype] : tensors()) {
      state.model.push_back(StateTensor::whole(name, Tensor::zeros(shape, dtype, stream)));
      const int64_t total = numel(shape);
      const int64_t begin = total * rank / ranks;
      const int64_t end = total * (rank + 1) / ranks;
      state.optimizer.push_back(StateTensor::part("exp_avg." + name, shape, begin,
                                                  Tensor::zeros({end - begin}, DType::kFloat32, stream)));
      state.optimizer.push_back(
          StateTensor::whole("momentum." + name, Tensor::zeros(shape, DType::kFloat64, stream)));
    }
  }

  void fill() {
    each([](unsigned char& byte, unsigned char expected) { byte = expected; });
  }
  void clear() {
    each([](unsigned char& byte, unsigned char) { byte = 0xee; });
  }
  /// How many bytes are not what fill() gives.
  int64_t wrong() {
    int64_t count = 0;
    each([&](unsigned char& byte, unsigned char expected) { count += byte != expected ? 1 : 0; });
    return count;
  }

  TrainingState state;

 private:
  struct Row {
    std::string name;
    Shape shape;
    DType dtype;
  };
  /// Odd sizes, one of several checksum blocks, some smaller than the number of ranks, one empty.
  static std::vector<Row> tensors() {
    return {{"embedding.weight", {401, 701}, DType::kFloat32},
            {"blocks.0.weight", {33, 17}, DType::kFloat32},
            {"blocks.0.bias", {3}, DType::kBFloat16},
            {"blocks.1.weight", {5, 7, 3}, DType::kFloat32},
            {"scale", {}, DType::kFloat64},
            {"empty", {0, 4}, DType::kFloat32}};
  }

  template <class F>
  void each(F&& f) {
    for (auto* group : {&state.model, &state.optimizer}) {
      for (StateTensor& tensor : *group) {
        auto* bytes = static_cast<unsigned char*>(tensor.data.raw());
        const int64_t first = tensor.begin * size_of(tensor.data.dtype());
        const uint64_t key = seed_ * 31 + stable_hash(tensor.name);
        for (int64_t i = 0; i < tensor.data.bytes(); ++i) {
          const uint64_t mixed = (key + static_cast<uint64_t>(first + i)) * 0x9E3779B97F4A7C15ULL;
          f(bytes[i], static_cast<unsigned char>(mixed >> 56));
        }
      }
    }
  }

  uint64_t seed_;
};

CheckpointMetadata metadata_of(int64_t step) {
  CheckpointMetadata metadata;
  metadata.step = step;
  metadata.next_sample = step * 37;
  metadata.seed = 0xfedcba9876543210U;
  metadata.run_file = "name: \"\xc3\xa9\"\nsteps: 5\n";
  metadata.version = "0.1.0";
  metadata.extra = {{"tokens", "12"}};
  return metadata;
}

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    dir = fs::path(testing::TempDir()) / fmt::format("checkpoint_test_{}", ::getpid());
    fs::remove_all(dir);
    fs::create_directories(dir);
    config.dir = (dir / "checkpoints").string();
  }
  void TearDown() override { fs::remove_all(dir); }

  Checkpoints checkpoints(Peers& peers) {
    return {config, peers, [this](const std::string& message) {
              const std::lock_guard lock(mutex);
              log.push_back(message);
            }};
  }

  /// Saves the state of seed `step` at `ranks` ranks; returns rank 0's report.
  CheckpointReport save(int64_t step, int ranks = 1) {
    CheckpointReport report;
    ThreadWorld::run(ranks, [&](Peers& peers) {
      FakeTraining training(static_cast<uint64_t>(step), peers.rank(), peers.size(), stream);
      training.fill();
      const CheckpointReport mine = checkpoints(peers).save(training.state, metadata_of(step));
      const std::vector<std::string> errors = peers.all_gather(mine.error);
      EXPECT_TRUE(std::all_of(errors.begin(), errors.end(), [&](const auto& e) { return e == errors[0]; }));
      if (peers.rank() == 0) report = mine;
    });
    return report;
  }

  /// The step that restore() finds at `ranks` ranks, -1 for none; all values are checked.
  int64_t restore(int ranks = 1) {
    int64_t step = -1;
    ThreadWorld::run(ranks, [&](Peers& peers) {
      FakeTraining probe(0, peers.rank(), peers.size(), stream);
      probe.clear();
      const auto metadata = checkpoints(peers).restore(probe.state);
      if (!metadata) return;
      const CheckpointMetadata expected = metadata_of(metadata->step);
      EXPECT_EQ(metadata->next_sample, expected.next_sample);
      EXPECT_EQ(metadata->seed, expected.seed);
      EXPECT_EQ(metadata->run_file, expected.run_file);
      EXPECT_EQ(metadata->extra, expected.extra);
      // The same tensors, now with the values that were expected.
      FakeTraining truth(static_cast<uint64_t>(metadata->step), peers.rank(), peers.size(), stream);
      std::swap(truth.state, probe.state);
      EXPECT_EQ(truth.wrong(), 0) << "rank " << peers.rank();
      if (peers.rank() == 0) step = metadata->step;
    });
    return step;
  }

  /// The message of what `work` throws; "" if it does not.
  template <class F>
  static std::string message(F&& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  [[nodiscard]] fs::path place(int64_t step) const { return fs::path(config.dir) / checkpoint_name(step); }
  [[nodiscard]] std::vector<int64_t> steps() const {
    std::vector<int64_t> all;
    for (const CheckpointPlace& at : list_checkpoints(config.dir)) all.push_back(at.step);
    return all;
  }
  [[nodiscard]] std::string last_log() const { return log.empty() ? "" : log.back(); }

  static std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
  static std::vector<std::string> file_names(const fs::path& at) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(at)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  uint64_t seed = std::random_device{}();
  testing::ScopedTrace trace{__FILE__, __LINE__, seed};
  std::mt19937_64 random{seed};
  fs::path dir;
  CheckpointConfig config;
  std::mutex mutex;
  std::vector<std::string> log;
  ThreadPool pool{1};
  Stream stream = Stream::inline_on(pool);
};

TEST_F(CheckpointTest, EverySaveLoadsAtEveryWorldSize) {
  EXPECT_EQ(restore(), -1);
  int64_t step = 1;
  for (const int saved : {1, 2, 3, 4}) {
    const CheckpointReport report = save(step, saved);
    EXPECT_EQ(report.error, "");
    EXPECT_EQ(report.step, step);
    EXPECT_EQ(report.path, place(step).string());
    EXPECT_EQ(read_manifest(place(step)).metadata.world_size, saved);
    for (const int loaded : {1, 2, 3, 4}) EXPECT_EQ(restore(loaded), step) << saved << " -> " << loaded;
    ++step;
  }
  EXPECT_TRUE(log.empty()) << last_log();
}

TEST_F(CheckpointTest, WeightsArePlainModelFiles) {
  for (const int ranks : {1, 4}) {
    save(ranks, ranks);
    FakeTraining truth(static_cast<uint64_t>(ranks), 0, 1, stream);
    truth.fill();
    const ModelFiles model = ModelFiles::open(place(ranks));
    EXPECT_EQ(model.names().size(), truth.state.model.size());
    for (const StateTensor& tensor : truth.state.model) {
      const Tensor got = model.tensor(tensor.name);
      ASSERT_EQ(got.shape(), tensor.shape);
      ASSERT_EQ(got.dtype(), tensor.data.dtype());
      if (got.numel() > 0) {
        EXPECT_EQ(std::memcmp(got.raw(), tensor.data.raw(), static_cast<size_t>(got.bytes())), 0);
      }
    }
  }
  EXPECT_EQ(file_names(place(1)),
            (std::vector<std::string>{"SHA256SUMS", "manifest.json", "model.safetensors",
                                      "optimizer-00001-of-00001.safetensors"}));
  EXPECT_EQ(file_names(place(4)).front(), "SHA256SUMS");
  EXPECT_TRUE(fs::exists(place(4) / "model-00004-of-00004.safetensors"));
  EXPECT_TRUE(fs::exists(place(4) / "model.safetensors.index.json"));
}

TEST_F(CheckpointTest, KeepsTheLastAndEveryNth) {
  config.keep_last = 2;
  config.keep_every = 40;
  for (int64_t step = 10; step <= 100; step += 10) save(step, 2);
  EXPECT_EQ(steps(), (std::vector<int64_t>{100, 90, 80, 40}));
  EXPECT_EQ(file_names(config.dir).size(), 4U) << "a deletion left something behind";
  config.keep_last = 1;
  config.keep_every = 0;
  save(110);
  EXPECT_EQ(steps(), (std::vector<int64_t>{110}));
  EXPECT_EQ(restore(), 110);
}

TEST_F(CheckpointTest, GoingBackReplacesTheSameStepAndLeavesLaterOnes) {
  config.keep_last = 1;
  save(30);
  config.keep_last = 2;
  save(20, 2);
  EXPECT_EQ(steps(), (std::vector<int64_t>{30, 20}));
  // Step 20 again, over one of another world size with other files.
  save(20, 1);
  EXPECT_EQ(read_manifest(place(20)).metadata.world_size, 1);
  EXPECT_FALSE(fs::exists(place(20) / "model.safetensors.index.json"));
  EXPECT_EQ(file_names(config.dir).size(), 2U);
  fs::remove_all(place(30));
  EXPECT_EQ(restore(), 20);
}

TEST_F(CheckpointTest, TornFilesAreRefusedByNameAndTheOlderCommitIsTaken) {
  save(1, 2);
  save(2, 2);
  const Manifest manifest = read_manifest(place(2));
  int cuts = 0;
  for (const auto& [file, facts] : manifest.files) {
    const fs::path path = place(2) / file;
    const std::string whole = read(path);
    std::set<int64_t> boundaries = {0, 8, facts.bytes};
    for (const auto& [group, tensors] : manifest.groups) {
      for (const auto& [tensor, entry] : tensors) {
        for (const Manifest::Piece& piece : entry.pieces) {
          if (piece.file != file) continue;
          boundaries.insert(piece.offset);
          boundaries.insert(piece.offset + (piece.end - piece.begin) * size_of(entry.dtype));
        }
      }
    }
    for (const int64_t boundary : boundaries) {
      for (const int64_t length : {boundary - 1, boundary, boundary + 1}) {
        if (length < 0 || length == facts.bytes) continue;
        std::string torn = whole;
        torn.resize(static_cast<size_t>(length), '\0');
        write(path, torn);
        log.clear();
        ASSERT_EQ(restore(), 1) << file << " of " << length << " bytes";
        ASSERT_EQ(log.size(), 1U);
        EXPECT_TRUE(log[0].starts_with("checkpoint refused: " + path.string())) << log[0];
        EXPECT_NE(log[0].find(fmt::format("{} bytes long, expected {}", length, facts.bytes)),
                  std::string::npos);
        EXPECT_TRUE(log[0].ends_with("falling back to the one before it")) << log[0];
        ++cuts;
      }
    }
    fs::remove(path);
    EXPECT_EQ(restore(3), 1);
    EXPECT_NE(last_log().find(path.string() + ": cannot open: No such file"), std::string::npos)
        << last_log();
    write(path, whole);
  }
  EXPECT_GT(cuts, 50);
  EXPECT_EQ(restore(), 2);
  for (const char* file : {"manifest.json", "SHA256SUMS"}) {
    const std::string whole = read(place(2) / file);
    for (const size_t length : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
      write(place(2) / file, whole.substr(0, length));
      EXPECT_EQ(restore(), 1) << file << " of " << length << " bytes";
    }
    write(place(2) / file, whole);
  }
  fs::remove(place(2) / "manifest.json");
  EXPECT_EQ(restore(2), 1);
  EXPECT_NE(last_log().find("not a Tutti checkpoint: it has no manifest.json"), std::string::npos);
}

/// A message about damage names the file, and the tensor whose bytes hold `byte`.
void expect_names(const std::string& text, const Manifest& manifest, const std::string& file, int64_t byte) {
  EXPECT_NE(text.find(file + ": checksum mismatch in "), std::string::npos) << text;
  for (const auto& [group, tensors] : manifest.groups) {
    for (const auto& [tensor, entry] : tensors) {
      for (const Manifest::Piece& piece : entry.pieces) {
        const int64_t end = piece.offset + (piece.end - piece.begin) * size_of(entry.dtype);
        if (piece.file != file || byte < piece.offset || byte >= end) continue;
        EXPECT_NE(text.find(fmt::format("{} tensor '{}', bytes ", group, tensor)), std::string::npos) << text;
        const size_t at = text.find("bytes ") + 6;
        const int64_t from = std::stoll(text.substr(at));
        const int64_t to = std::stoll(text.substr(text.find(" to ", at) + 4));
        EXPECT_TRUE(from <= byte && byte < to && to - from <= kChecksumBlock) << byte << ": " << text;
        return;
      }
    }
  }
  EXPECT_NE(text.find("checksum mismatch in the header"), std::string::npos) << text;
}

TEST_F(CheckpointTest, FlippedBitsAreFoundAndLocated) {
  save(1, 3);
  const Manifest manifest = read_manifest(place(1));
  std::vector<std::string> files;
  int headers = 0;
  for (const auto& [file, facts] : manifest.files) {
    if (file.ends_with(".json")) continue;
    files.push_back(file);
    const std::string bytes = read(place(1) / file);
    const auto header = static_cast<size_t>(SafetensorsFile::open(place(1) / file).header().data_begin);
    // Every byte of the header is covered; the whole file is hashed each time, so small files do.
    if (facts.bytes > 100'000) continue;
    ++headers;
    for (size_t i = 0; i < header; ++i) {
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << (random() % 8)));
      write(place(1) / file, flipped);
      expect_names(message([&] { verify_files(place(1), manifest); }), manifest, file,
                   static_cast<int64_t>(i));
    }
    write(place(1) / file, bytes);
  }
  EXPECT_GT(headers, 0);
  verify_files(place(1), manifest);

  for (int i = 0; i < 1000; ++i) {
    const std::string& file = files[random() % files.size()];
    const auto byte = static_cast<int64_t>(random() % static_cast<uint64_t>(manifest.files.at(file).bytes));
    std::fstream stream_of(place(1) / file, std::ios::in | std::ios::out | std::ios::binary);
    stream_of.seekg(byte);
    const int old = stream_of.get();
    stream_of.seekp(byte);
    stream_of.put(static_cast<char>(old ^ (1 << (random() % 8))));
    stream_of.flush();
    // Only that file's share of the check, to keep 1,000 of them quick.
    const auto number = static_cast<int>(std::distance(manifest.files.begin(), manifest.files.find(file)));
    const ShardOf share{number, static_cast<int>(manifest.files.size())};
    expect_names(message([&] { verify_files(place(1), manifest, share); }), manifest, file, byte);
    stream_of.seekp(byte);
    stream_of.put(static_cast<char>(old));
  }
  EXPECT_EQ(restore(), 1);

  for (const char* file : {"manifest.json", "SHA256SUMS"}) {
    const std::string whole = read(place(1) / file);
    for (int i = 0; i < 300; ++i) {
      std::string flipped = whole;
      flipped[random() % whole.size()] ^= static_cast<char>(1 << (random() % 8));
      write(place(1) / file, flipped);
      EXPECT_NE(message([&] { (void)read_manifest(place(1)); }), "");
    }
    write(place(1) / file, whole);
  }
}

TEST_F(CheckpointTest, NothingUsableIsAnErrorNotAFreshStart) {
  save(5);
  write(place(5) / "manifest.json", "{}");
  const std::string text = message([&] { restore(2); });
  EXPECT_NE(text.find("no checkpoint in it can be used; the newest: "), std::string::npos) << text;
}

TEST_F(CheckpointTest, ForeignDirectoriesAreRefused) {
  SinglePeer alone;
  FakeTraining training(1, 0, 1, stream);
  write_safetensors(dir / "model.safetensors", {});
  EXPECT_NE(
      message([&] { checkpoints(alone).restore_from(dir, training.state); }).find("not a Tutti checkpoint"),
      std::string::npos);
  EXPECT_NE(message([&] { checkpoints(alone).restore_from(dir / "none", training.state); }).find("no such"),
            std::string::npos);
  // Directories that only look a little like ours are not looked at.
  fs::create_directories(fs::path(config.dir) / "step-12");
  fs::create_directories(fs::path(config.dir) / "step-0000001x");
  fs::create_directories(fs::path(config.dir) / "notes");
  EXPECT_EQ(restore(), -1);
}

TEST_F(CheckpointTest, TensorsThatDoNotFitAreNamedAndNothingIsWritten) {
  save(1, 2);
  ThreadWorld::run(2, [&](Peers& peers) {
    FakeTraining training(1, peers.rank(), peers.size(), stream);
    training.clear();
    TrainingState& state = training.state;
    state.model[0].name = "embedding.weights";
    state.model[1] = StateTensor::whole("blocks.0.weight", Tensor::zeros({17, 33}, DType::kFloat32, stream));
    state.model[2] = StateTensor::whole("blocks.0.bias", Tensor::zeros({3}, DType::kFloat32, stream));
    const std::string text = message([&] { checkpoints(peers).restore(state); });
    EXPECT_EQ(
        text,
        place(1).string() +
            ": the model tensors are not this run's: 'embedding.weights' is missing in the checkpoint; did "
            "you mean 'embedding.weight'?; 'blocks.0.weight' has shape (33, 17) in the checkpoint, (17, 33) "
            "in this run; 'blocks.0.bias' is bf16 in the checkpoint, fp32 in this run; 'embedding.weight' "
            "stands in the checkpoint only");
  });
  SinglePeer alone;
  FakeTraining training(1, 0, 1, stream);
  training.clear();
  training.state.optimizer.pop_back();
  const std::string text = message([&] { checkpoints(alone).restore(training.state); });
  EXPECT_NE(
      text.find("the optimizer tensors are not this run's: 'momentum.empty' stands in the checkpoint only"),
      std::string::npos);
  EXPECT_EQ(static_cast<unsigned char*>(training.state.model[0].data.raw())[5], 0xee);
}

TEST_F(CheckpointTest, UnfitStatesAreRefusedOnAllRanks) {
  const auto refused = [&](auto&& spoil) {
    std::string text;
    ThreadWorld::run(3, [&](Peers& peers) {
      FakeTraining training(1, peers.rank(), peers.size(), stream);
      CheckpointMetadata metadata = metadata_of(1);
      spoil(training.state, metadata, peers.rank());
      const std::string mine = message([&] { checkpoints(peers).save(training.state, metadata); });
      EXPECT_NE(mine, "");
      if (peers.rank() == 0) text = mine;
    });
    return text;
  };
  EXPECT_EQ(refused([](TrainingState& s, CheckpointMetadata&, int) { s.model[1].name = s.model[0].name; }),
            "checkpoint: model tensor 'embedding.weight' stands twice");
  EXPECT_EQ(refused([](TrainingState& s, CheckpointMetadata&, int rank) {
              if (rank == 1) s.model[0].data = Tensor();
            }),
            "rank 1: checkpoint: model tensor 'embedding.weight' is not a contiguous tensor");
  EXPECT_EQ(refused([](TrainingState& s, CheckpointMetadata&, int) {
              s.model[1].data = s.model[1].data.view({17, 33}).transpose(0, 1);
            }),
            "checkpoint: model tensor 'blocks.0.weight' is not a contiguous tensor");
  EXPECT_EQ(refused([](TrainingState& s, CheckpointMetadata&, int rank) {
              if (rank == 2) s.optimizer.pop_back();
            }),
            "checkpoint: rank 2 lists other tensors than rank 0");
  EXPECT_EQ(refused([](TrainingState& s, CheckpointMetadata&, int) { s.model[0].spread = Spread::kSharded; }),
            "checkpoint: model tensor 'embedding.weight' is sharded; weights are saved whole");
  EXPECT_EQ(refused([](TrainingState&, CheckpointMetadata& m, int) { m.run_file = "\xff"; }),
            "checkpoint: a text of the metadata is not UTF-8");
  EXPECT_EQ(steps(), std::vector<int64_t>{});
}

TEST_F(CheckpointTest, ShardsThatDoNotCoverTheirTensorAreNotCommitted) {
  save(1, 2);
  ThreadWorld::run(2, [&](Peers& peers) {
    FakeTraining training(1, peers.rank(), peers.size(), stream);
    StateTensor& tensor = training.state.optimizer[0];
    if (peers.rank() == 1) {
      tensor = StateTensor::part(tensor.name, tensor.shape, tensor.begin + 1,
                                 tensor.data.slice(0, 1, tensor.data.numel()).clone(stream));
    }
    const CheckpointReport report = checkpoints(peers).save(training.state, metadata_of(2));
    EXPECT_NE(report.error.find("optimizer tensor 'exp_avg.embedding.weight': elements 140550 to 140551 are "
                                "missing or stand twice"),
              std::string::npos)
        << report.error;
  });
  EXPECT_EQ(steps(), std::vector<int64_t>{1});
  EXPECT_EQ(file_names(config.dir).size(), 1U);
}

TEST_F(CheckpointTest, FullDiskKeepsTheLastCommitAndTrainingGoesOn) {
  ASSERT_EQ(save(1, 2).error, "");
  // Writes beyond the limit fail as on a full disk. Each rank's file is of another size, so that for some
  // limits only one rank fails.
  struct sigaction ignore {};
  struct sigaction old_action {};
  ignore.sa_handler = SIG_IGN;
  ASSERT_EQ(::sigaction(SIGXFSZ, &ignore, &old_action), 0);
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{2048}, rlim_t{1} << 20, rlim_t{2'000'000}}) {
    rlimit small = old_limit;
    small.rlim_cur = limit;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const CheckpointReport report = save(2, 3);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    EXPECT_NE(report.error.find("File too large"), std::string::npos) << limit << ": " << report.error;
    EXPECT_NE(report.error.find("safetensors"), std::string::npos) << report.error;
    EXPECT_NE(last_log().find("checkpoint of step 2 failed: "), std::string::npos) << last_log();
    EXPECT_EQ(file_names(config.dir), std::vector<std::string>{"step-00000001"});
    EXPECT_EQ(restore(2), 1);
  }
  ASSERT_EQ(::sigaction(SIGXFSZ, &old_action, nullptr), 0);
  EXPECT_EQ(save(2, 3).error, "");
  EXPECT_EQ(restore(2), 2);
}

TEST_F(CheckpointTest, UnwritableDirectoryIsReported) {
  write(config.dir, "a file where the directory should be");
  const CheckpointReport report = save(1, 2);
  EXPECT_NE(report.error.find(config.dir), std::string::npos) << report.error;
}

/// Saves one step after another until it is killed. On one thread: other threads do not survive a fork.
[[noreturn]] void save_for_ever(const CheckpointConfig& config, int64_t first_step, const Stream& stream) {
  try {
    SinglePeer alone;
    Checkpoints writer(config, alone, nullptr);
    for (int64_t step = first_step;; ++step) {
      FakeTraining training(static_cast<uint64_t>(step), 0, 1, stream);
      training.fill();
      (void)writer.save(training.state, metadata_of(step));
    }
  } catch (...) {
    ::_exit(3);
  }
}

TEST_F(CheckpointTest, AKilledWriterLeavesALoadableCommit) {
  config.keep_last = 1;
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(save(1).error, "");
  const std::chrono::duration<double, std::micro> one_save = std::chrono::steady_clock::now() - start;
  int64_t newest = 1;
  int64_t killed_inside = 0;
  // At least 30 windows; more on a machine so busy that none of them hit a write or let one end.
  for (int round = 0; round < 30 || (round < 300 && (killed_inside == 0 || newest == 1)); ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_for_ever(config, newest + 1, stream);
    ::usleep(static_cast<useconds_t>(one_save.count() * 3 * static_cast<double>(random() % 1024) / 1024));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    for (const std::string& name : file_names(config.dir)) killed_inside += name.starts_with(".tmp-") ? 1 : 0;
    const int64_t step = restore();
    ASSERT_GE(step, newest);
    ASSERT_TRUE(log.empty()) << "a committed checkpoint was torn: " << last_log();
    newest = step;
  }
  EXPECT_GT(killed_inside, 0) << "no kill hit a write";
  EXPECT_GT(newest, 1) << "no write was finished";
  // The next save clears what the killed ones left.
  ASSERT_EQ(save(newest + 1).error, "");
  EXPECT_EQ(file_names(config.dir), std::vector<std::string>{checkpoint_name(newest + 1)});
}

/// Damages the newest checkpoint right after its commit, before older ones are deleted.
class Saboteur final : public Peers {
 public:
  explicit Saboteur(fs::path file) : file_(std::move(file)) {}
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  std::vector<std::string> all_gather(const std::string& mine) override {
    if (fs::exists(file_)) std::ofstream(file_, std::ios::binary | std::ios::app) << "x";
    return {mine};
  }

 private:
  fs::path file_;
};

TEST_F(CheckpointTest, OlderOnesAreKeptWhileTheNewestDoesNotReadBack) {
  config.keep_last = 1;
  save(1);
  Saboteur saboteur(place(2) / "model.safetensors");
  FakeTraining training(2, 0, 1, stream);
  training.fill();
  EXPECT_EQ(checkpoints(saboteur).save(training.state, metadata_of(2)).error, "");
  EXPECT_EQ(steps(), (std::vector<int64_t>{2, 1}));
  EXPECT_NE(last_log().find("older checkpoints are kept: the new one does not read back: "),
            std::string::npos);
  EXPECT_NE(last_log().find((place(2) / "model.safetensors").string()), std::string::npos) << last_log();
  EXPECT_EQ(restore(), 1);
}

TEST_F(CheckpointTest, ManifestReadsBack) {
  save(3, 3);
  const std::string text = read(place(3) / "manifest.json");
  EXPECT_EQ(to_json(parse_manifest(text, "m")), text);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    const size_t at = other.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    other.replace(at, from.size(), to);
    return message([&] { (void)parse_manifest(other, "m"); });
  };
  EXPECT_EQ(changed("tutti-checkpoint", "other"), "m: not the manifest of a Tutti checkpoint");
  EXPECT_EQ(changed("\"format_version\": 1", "\"format_version\": 2"),
            "m: format version 2; this program reads version 1");
  EXPECT_EQ(changed("\"step\": 3", "\"step\": -3"),
            "m: manifest.training.step: expected a whole number from 0 on");
  EXPECT_EQ(changed("\"step\": 3", "\"stop\": 3"), "m: manifest.training: key 'step' is missing");
  EXPECT_EQ(changed("\"extra\": {", "\"extra\": {\"tokens\": \"3\","),
            "m: key 'tokens' stands twice in a JSON object");
  EXPECT_NE(changed("\"model-00001-of-00003.safetensors\"", "\"../model-00001-of-00003.safetensors\""), "");
  EXPECT_NE(changed("\"end\": 281101", "\"end\": 281100"), "");
  EXPECT_NE(changed("\"dtype\": \"BF16\"", "\"dtype\": \"U16\""), "");
  for (size_t length = 0; length + 2 < text.size(); length += 97) {
    EXPECT_NE(message([&] { (void)parse_manifest(text.substr(0, length), "m"); }), "") << length;
  }
}

}  // namespace
}  // namespace tutti
