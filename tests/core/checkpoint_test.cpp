#include <tutti/core/checkpoint/model_files.h>

#include <cstring>

#include "tests/core/checkpoint_fixture.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

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
  EXPECT_EQ(file_names(config.dir).size(), 4U) << "a deletion is incomplete";
  config.keep_last = 1;
  config.keep_every = 0;
  save(110);
  EXPECT_EQ(steps(), (std::vector<int64_t>{110}));
  EXPECT_EQ(restore(), 110);
}

TEST_F(CheckpointTest, ForeignFilesAreNotDeleted) {
  config.keep_last = 1;
  save(10);
  fs::create_directories(place(5));
  write(place(5) / "thesis.txt", "mine");
  write(place(10) / "notes.txt", "mine");
  fs::create_directories(place(20));
  write(place(20) / "model.safetensors", "an export");
  save(20);
  EXPECT_EQ(read_manifest(place(20)).metadata.step, 20);
  EXPECT_TRUE(fs::exists(place(20).string() + ".kept-1/model.safetensors"));
  EXPECT_TRUE(fs::exists(place(10) / "notes.txt"));
  EXPECT_TRUE(fs::exists(place(5) / "thesis.txt"));
  save(30);
  EXPECT_EQ(steps(), (std::vector<int64_t>{30, 10, 5})) << "20 is of this training";
  EXPECT_EQ(restore(), 30);
}

TEST_F(CheckpointTest, ResumingFromAnOlderStepReplacesThatStepAndKeepsLaterOnes) {
  config.keep_last = 1;
  save(30);
  config.keep_last = 2;
  save(20, 2);
  EXPECT_EQ(steps(), (std::vector<int64_t>{30, 20}));
  // Step 20 again, which replaces one of another world size with other files.
  save(20, 1);
  EXPECT_EQ(read_manifest(place(20)).metadata.world_size, 1);
  EXPECT_FALSE(fs::exists(place(20) / "model.safetensors.index.json"));
  EXPECT_EQ(file_names(config.dir).size(), 2U);
  fs::remove_all(place(30));
  EXPECT_EQ(restore(), 20);
}

TEST_F(CheckpointTest, NoUsableCheckpointIsAnError) {
  save(5);
  write(place(5) / "manifest.json", "{}");
  const std::string text = message([&] { restore(2); });
  EXPECT_NE(text.find("contains no usable checkpoint; the newest: "), std::string::npos) << text;
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
  // Directories with similar names are ignored.
  fs::create_directories(fs::path(config.dir) / "step-12");
  fs::create_directories(fs::path(config.dir) / "step-0000001x");
  fs::create_directories(fs::path(config.dir) / "notes");
  EXPECT_EQ(restore(), -1);
}

TEST_F(CheckpointTest, MismatchedTensorsAreNamedAndNothingIsWritten) {
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
            ": the model tensors do not match this run: 'embedding.weights' is missing in the checkpoint; "
            "did "
            "you mean 'embedding.weight'?; 'blocks.0.weight' has shape (33, 17) in the checkpoint, (17, 33) "
            "in this run; 'blocks.0.bias' is bf16 in the checkpoint, fp32 in this run; 'embedding.weight' is "
            "only in the checkpoint");
  });
  SinglePeer alone;
  FakeTraining training(1, 0, 1, stream);
  training.clear();
  training.state.optimizer.pop_back();
  const std::string text = message([&] { checkpoints(alone).restore(training.state); });
  EXPECT_NE(
      text.find("the optimizer tensors do not match this run: 'momentum.empty' is only in the checkpoint"),
      std::string::npos);
  EXPECT_EQ(static_cast<unsigned char*>(training.state.model[0].data.raw())[5], 0xee);
}

// A run whose weights are the masters and one with sharded masters can resume from each other's checkpoints.
TEST_F(CheckpointTest, MastersAreRestoredFromWeightsIfNoneAreSaved) {
  const Shape shape{5, 3};
  const auto weights = [&](float first) {
    Tensor tensor = Tensor::zeros(shape, DType::kFloat32, stream);
    for (float& value : tensor.span<float>()) value = first++;
    return tensor;
  };
  const auto state_of = [&](int rank, int ranks, float first, bool masters) {
    TrainingState state;
    state.model.push_back(StateTensor::whole("w", weights(first)));
    const int64_t begin = 15 * rank / ranks;
    const int64_t end = 15 * (rank + 1) / ranks;
    const auto part = [&](const std::string& name) {
      return StateTensor::part(name, shape, begin, weights(first).view({15}).slice(0, begin, end));
    };
    if (masters) state.optimizer.push_back(part("w.master"));
    state.optimizer.push_back(part("w.exp_avg"));
    return state;
  };
  for (const bool saved_masters : {false, true}) {
    std::filesystem::remove_all(config.dir);
    ThreadWorld::run(2, [&](Peers& peers) {
      EXPECT_EQ(checkpoints(peers).save(state_of(peers.rank(), 2, 10, saved_masters), metadata_of(1)).error,
                "");
    });
    ThreadWorld::run(3, [&](Peers& peers) {
      TrainingState state = state_of(peers.rank(), 3, 99, !saved_masters);
      ASSERT_TRUE(checkpoints(peers).restore(state).has_value());
      for (const auto* group : {&state.model, &state.optimizer}) {
        for (const StateTensor& tensor : *group) {
          for (int64_t i = 0; i < tensor.data.numel(); ++i) {
            EXPECT_EQ(tensor.data.span<float>()[static_cast<size_t>(i)],
                      10.0F + static_cast<float>(tensor.begin + i))
                << tensor.name;
          }
        }
      }
    });
  }
}

TEST_F(CheckpointTest, FilesOfAnotherTrainingAreNotChanged) {
  SinglePeer alone;
  Checkpoints first = checkpoints(alone);
  first.set_owner("aaaa");
  first.prepare(0);
  EXPECT_NE(message([&] { checkpoints(alone).prepare(0); }).find("in use by another training"),
            std::string::npos);
  FakeTraining training(1, 0, 1, stream);
  training.fill();
  EXPECT_NE(checkpoints(alone).save(training.state, metadata_of(1)).error.find("another training"),
            std::string::npos);
  const std::vector<std::string> others{".tmp-bbbb-step-00000001", ".tmp-mine", ".tmp-step-00000001"};
  for (const std::string& name : others)
    std::filesystem::create_directories(std::filesystem::path(config.dir) / name);
  std::filesystem::create_directories(std::filesystem::path(config.dir) / ".tmp-aaaa-step-00000007");
  EXPECT_EQ(first.save(training.state, metadata_of(1)).error, "");
  EXPECT_NE(last_log().find("removed 1 unfinished checkpoint"), std::string::npos) << last_log();
  std::vector<std::string> left = others;
  left.insert(left.begin(), ".lock");
  left.push_back(checkpoint_name(1));
  EXPECT_EQ(file_names(config.dir), left);
}

TEST_F(CheckpointTest, InvalidStatesAreRefusedOnAllRanks) {
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
            "checkpoint: model tensor 'embedding.weight' is a duplicate");
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
            "checkpoint: rank 2 lists different tensors than rank 0");
  EXPECT_EQ(
      refused([](TrainingState& s, CheckpointMetadata&, int) { s.model[0].sharding = Sharding::kSharded; }),
      "checkpoint: model tensor 'embedding.weight' is sharded; weights must not be");
  EXPECT_EQ(refused([](TrainingState&, CheckpointMetadata& m, int) { m.run_file = "\xff"; }),
            "checkpoint: a string in the metadata is not valid UTF-8");
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
                                "missing or duplicate"),
              std::string::npos)
        << report.error;
  });
  EXPECT_EQ(steps(), std::vector<int64_t>{1});
  EXPECT_EQ(file_names(config.dir).size(), 1U);
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
            "m: manifest.training.step: expected a non-negative integer");
  EXPECT_EQ(changed("\"step\": 3", "\"stop\": 3"), "m: manifest.training: key 'step' is missing");
  EXPECT_EQ(changed("\"extra\": {", "\"extra\": {\"tokens\": \"3\","),
            "m: duplicate key 'tokens' in a JSON object");
  EXPECT_NE(changed("\"model-00001-of-00003.safetensors\"", "\"../model-00001-of-00003.safetensors\""), "");
  EXPECT_NE(changed("\"end\": 281101", "\"end\": 281100"), "");
  EXPECT_NE(changed("\"dtype\": \"BF16\"", "\"dtype\": \"U16\""), "");
  for (size_t length = 0; length + 2 < text.size(); length += 97) {
    EXPECT_NE(message([&] { (void)parse_manifest(text.substr(0, length), "m"); }), "") << length;
  }
}

}  // namespace
}  // namespace tutti
