#include <tutti/core/checkpoint/safetensors.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <set>

#include "tests/core/checkpoint_fixture.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

using CheckpointFaultTest = CheckpointTest;

TEST_F(CheckpointFaultTest, TruncatedFilesAreNamedAndTheOlderCheckpointIsUsed) {
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
        const std::string refusal = message([&] { verify_files(place(2), manifest); });
        EXPECT_TRUE(refusal.starts_with(path.string())) << refusal;
        EXPECT_NE(refusal.find(fmt::format("{} bytes long, expected {}", length, facts.bytes)),
                  std::string::npos)
            << refusal;
        if (cuts % 8 == 0) {
          log.clear();
          ASSERT_EQ(restore(), 1) << refusal;
          EXPECT_EQ(log, std::vector<std::string>{"checkpoint rejected: " + refusal +
                                                  "; falling back to the one before it"});
        }
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

/// Checks that a message about damage names the file, and the tensor that contains `byte`.
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

TEST_F(CheckpointFaultTest, FlippedBitsAreDetectedAndLocated) {
  save(1, 3);
  const Manifest manifest = read_manifest(place(1));
  std::vector<std::string> files;
  int headers = 0;
  for (const auto& [file, facts] : manifest.files) {
    if (file.ends_with(".json")) continue;
    files.push_back(file);
    const std::string bytes = read(place(1) / file);
    const auto header = static_cast<size_t>(SafetensorsFile::open(place(1) / file).header().data_begin);
    // Every byte of the header is covered. The whole file is hashed each time, so the files are small.
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
    // Checks only that file, so that 1,000 checks are fast.
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

TEST_F(CheckpointFaultTest, FullDiskKeepsTheLastCheckpointAndTrainingContinues) {
  ASSERT_EQ(save(1, 2).error, "");
  // Writes beyond the limit fail as on a full disk. The files of ranks have different sizes, so that for some
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

TEST_F(CheckpointFaultTest, UnwritableDirectoryIsReported) {
  write(config.dir, "a file where the directory should be");
  const CheckpointReport report = save(1, 2);
  EXPECT_NE(report.error.find(config.dir), std::string::npos) << report.error;
  SinglePeer alone;
  EXPECT_THROW(Checkpoints(config, alone, nullptr).prepare(0), AgreedError);
}

TEST_F(CheckpointFaultTest, ANewTrainingDoesNotReplaceCheckpoints) {
  SinglePeer alone;
  Checkpoints(config, alone, nullptr).prepare(0);
  EXPECT_TRUE(fs::is_directory(config.dir));
  save(3, 2);
  Checkpoints(config, alone, nullptr).prepare(3);
  EXPECT_THROW(Checkpoints(config, alone, nullptr).prepare(0), AgreedError);
}

/// Saves steps until it is killed. On one thread, because other threads do not survive a fork.
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

TEST_F(CheckpointFaultTest, AKilledWriterLeavesALoadableCheckpoint) {
  config.keep_last = 1;
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(save(1).error, "");
  const std::chrono::duration<double, std::micro> one_save = std::chrono::steady_clock::now() - start;
  int64_t newest = 1;
  int64_t killed_inside = 0;
  // At least 30 attempts; more on a busy machine, until a write was interrupted and another one completed.
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
    ASSERT_TRUE(log.empty()) << "a committed checkpoint is incomplete: " << last_log();
    newest = step;
  }
  EXPECT_GT(killed_inside, 0) << "no process was killed during a write";
  EXPECT_GT(newest, 1) << "no write was completed";
  // The next save removes the remains of the killed processes.
  ASSERT_EQ(save(newest + 1).error, "");
  EXPECT_EQ(file_names(config.dir), std::vector<std::string>{checkpoint_name(newest + 1)});
}

/// Damages the newest checkpoint after its commit, before older ones are deleted.
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

TEST_F(CheckpointFaultTest, OlderOnesAreKeptIfTheNewestCannotBeVerified) {
  config.keep_last = 1;
  save(1);
  Saboteur saboteur(place(2) / "model.safetensors");
  FakeTraining training(2, 0, 1, stream);
  training.fill();
  EXPECT_EQ(checkpoints(saboteur).save(training.state, metadata_of(2)).error, "");
  EXPECT_EQ(steps(), (std::vector<int64_t>{2, 1}));
  EXPECT_NE(last_log().find("older checkpoints are kept: the new one cannot be verified: "),
            std::string::npos);
  EXPECT_NE(last_log().find((place(2) / "model.safetensors").string()), std::string::npos) << last_log();
  EXPECT_EQ(restore(), 1);
}

}  // namespace
}  // namespace tutti
