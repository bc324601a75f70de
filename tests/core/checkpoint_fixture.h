#pragma once

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/error.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <mutex>
#include <random>

#include "tests/core/thread_peers.h"

namespace tutti {

/// A training state in which every value is a function of (seed, name, index), so that any part of it can
/// be checked.
class FakeTraining {
 public:
  /// The state of rank `rank` of `ranks`: weights and some statistics replicated, moments in flat shards.
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
  /// The number of bytes that differ from those of fill().
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

inline CheckpointMetadata metadata_of(int64_t step) {
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
    dir = std::filesystem::path(testing::TempDir()) / fmt::format("tutti_checkpoints_{}", ::getpid());
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
    config.dir = (dir / "checkpoints").string();
  }
  void TearDown() override { std::filesystem::remove_all(dir); }

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

  /// The step that is restored on `ranks` ranks, -1 for none; checks all values.
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
      // The same tensors with the expected values.
      FakeTraining truth(static_cast<uint64_t>(metadata->step), peers.rank(), peers.size(), stream);
      std::swap(truth.state, probe.state);
      EXPECT_EQ(truth.wrong(), 0) << "rank " << peers.rank();
      if (peers.rank() == 0) step = metadata->step;
    });
    return step;
  }

  /// The message of the exception of `work`; "" if there is none.
  template <class F>
  static std::string message(F&& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  [[nodiscard]] std::filesystem::path place(int64_t step) const {
    return std::filesystem::path(config.dir) / checkpoint_name(step);
  }
  [[nodiscard]] std::vector<int64_t> steps() const {
    std::vector<int64_t> all;
    for (const CheckpointPlace& at : list_checkpoints(config.dir)) all.push_back(at.step);
    return all;
  }
  [[nodiscard]] std::string last_log() const { return log.empty() ? "" : log.back(); }

  static std::string read(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
  static std::vector<std::string> file_names(const std::filesystem::path& at) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(at))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  uint64_t seed = std::random_device{}();
  testing::ScopedTrace trace{__FILE__, __LINE__, seed};
  std::mt19937_64 random{seed};
  std::filesystem::path dir;
  CheckpointConfig config;
  std::mutex mutex;
  std::vector<std::string> log;
  ThreadPool pool{1};
  Stream stream = Stream::inline_on(pool);
};

}  // namespace tutti
