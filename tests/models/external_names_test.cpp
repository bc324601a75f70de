#include <tests/models/tiny_models.h>
#include <tests/temporary_directory.h>

#include <tutti/models/external_names.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace tutti {
namespace {

using test::LiveModel;

class ExternalNamesTest : public test::RandomTest {
 protected:
  static bool has_names(const ModelConfig& config) { return config.kind == "gpt" || config.kind == "resnet"; }

  static ModelConfig named(const std::string& wanted) {
    for (const auto& [name, config] : test::tiny_models()) {
      if (name == wanted) return config;
    }
    fail("no model {}", wanted);
  }

  static std::string import_error(LiveModel& model, const std::vector<NamedTensor>& tensors) {
    try {
      import_tensors(model.task->model(), model.groups, tensors, test::stream());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(ExternalNamesTest, RoundTripInAnyOrder) {
  for (const auto& [name, config] : test::tiny_models()) {
    if (!has_names(config)) continue;
    SCOPED_TRACE(name);
    const LiveModel from(config, DType::kFloat32, 1);
    for (Parameter* parameter : from.parameters()) {
      copy(parameter->value, random.normal(parameter->shape), test::stream());
    }
    std::vector<NamedTensor> tensors = export_tensors(from.task->model(), from.groups, test::stream());
    std::set<std::string> names;
    int64_t elements = 0;
    for (const NamedTensor& tensor : tensors) {
      EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
      elements += tensor.tensor.numel();
    }
    const ParameterCount count = count_parameters(from.task->model());
    EXPECT_EQ(elements, count.trainable + count.statistics);
    std::reverse(tensors.begin(), tensors.end());
    const LiveModel to(config, DType::kFloat32, 2);
    import_tensors(to.task->model(), to.groups, tensors, test::stream());
    for (size_t i = 0; i < to.parameters().size(); ++i) {
      test::expect_same_bits(to.parameters()[i]->value, from.parameters()[i]->value,
                             to.parameters()[i]->name);
    }
  }
}

TEST_F(ExternalNamesTest, MatchTheOtherLibraries) {
  const auto shapes = [](const std::string& model) {
    const LiveModel live(named(model), DType::kFloat32);
    std::set<std::string> all;
    for (const NamedTensor& tensor : export_tensors(live.task->model(), live.groups, test::stream())) {
      all.insert(tensor.name + to_string(tensor.tensor.shape()));
    }
    return all;
  };
  for (const char* expected :
       {"transformer.wte.weight(23, 15)", "transformer.wpe.weight(7, 15)",
        "transformer.h.1.attn.c_attn.weight(15, 45)", "transformer.h.0.attn.c_attn.bias(45,)",
        "transformer.h.0.mlp.c_fc.weight(15, 60)", "transformer.h.0.mlp.c_proj.weight(60, 15)",
        "transformer.ln_f.bias(15,)"}) {
    EXPECT_TRUE(shapes("gpt2").contains(expected)) << expected;
  }
  EXPECT_FALSE(shapes("gpt2").contains("lm_head.weight(23, 15)"));  // tied
  for (const char* expected :
       {"model.embed_tokens.weight(23, 24)", "model.layers.1.self_attn.q_proj.weight(24, 24)",
        "model.layers.0.self_attn.v_proj.weight(12, 24)", "model.layers.0.mlp.gate_proj.weight(13, 24)",
        "model.layers.0.post_attention_layernorm.weight(24,)", "model.norm.weight(24,)",
        "lm_head.weight(23, 24)"}) {
    EXPECT_TRUE(shapes("llama").contains(expected)) << expected;
  }
  for (const char* expected :
       {"conv1.weight(3, 3, 3, 3)", "bn1.running_mean(3,)", "layer1.0.downsample.0.weight(12, 3, 1, 1)",
        "layer4.2.conv3.weight(96, 24, 1, 1)", "layer2.0.downsample.1.running_var(24,)",
        "fc.weight(5, 96)"}) {
    EXPECT_TRUE(shapes("resnet50").contains(expected)) << expected;
  }
}

TEST_F(ExternalNamesTest, PackedParametersAreQueriesThenKeysThenValues) {
  const LiveModel live(named("llama"), DType::kFloat32);
  const auto tensors = export_tensors(live.task->model(), live.groups, test::stream());
  const auto find = [&](const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; })
        ->tensor;
  };
  for (const Parameter* parameter : live.parameters()) {
    if (parameter->name != "blocks.1.attention.qkv.weight") continue;
    const std::string prefix = "model.layers.1.self_attn.";
    test::expect_same_bits(find(prefix + "q_proj.weight"), parameter->value.slice(0, 0, 24));
    test::expect_same_bits(find(prefix + "k_proj.weight"), parameter->value.slice(0, 24, 36));
    test::expect_same_bits(find(prefix + "v_proj.weight"), parameter->value.slice(0, 36, 48));
  }
}

TEST_F(ExternalNamesTest, MastersAndShardsAreExported) {
  const ModelConfig config = named("llama");
  const LiveModel source(config, DType::kFloat32, 3);
  const auto tensors = export_tensors(source.task->model(), source.groups, test::stream());
  for (int rank = 0; rank < 3; ++rank) {
    const std::unique_ptr<Task> task = make_task(config);
    const auto groups = make_param_groups(task->model(),
                                          {.precision = {.compute = DType::kBFloat16},
                                           .placement = {.state = Sharding::kSharded},
                                           .shard = {rank, 3},
                                           .seed = 8},
                                          test::stream());
    import_tensors(task->model(), groups, tensors, test::stream());
    ASSERT_EQ(groups.size(), source.groups.size());
    for (size_t g = 0; g < groups.size(); ++g) {
      // Padding follows the last parameter, so both layouts agree up to the length of the shorter one.
      const int64_t end = std::min(groups[g]->state_end(), source.groups[g]->size());
      const int64_t begin = groups[g]->state_begin();
      test::expect_same_bits(groups[g]->master().slice(0, 0, end - begin),
                             source.groups[g]->master().slice(0, begin, end));
    }
    for (size_t i = 0; i < source.parameters().size(); ++i) {
      test::expect_same_bits(task->model().parameters()[i]->value,
                             source.parameters()[i]->value.to(DType::kBFloat16, test::stream()));
    }
    EXPECT_THROW((void)export_tensors(task->model(), groups, test::stream()), Error);
  }
}

TEST_F(ExternalNamesTest, MixedPrecisionExportsMasters) {
  const ModelConfig config = named("gpt2");
  const std::unique_ptr<Task> task = make_task(config);
  const auto groups = make_param_groups(
      task->model(), {.precision = {.compute = DType::kBFloat16}, .seed = 3}, test::stream());
  const LiveModel single(config, DType::kFloat32, 3);
  const auto expected = export_tensors(single.task->model(), single.groups, test::stream());
  const auto actual = export_tensors(task->model(), groups, test::stream());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].name, expected[i].name);
    test::expect_same_bits(actual[i].tensor, expected[i].tensor, expected[i].name);
  }
}

TEST_F(ExternalNamesTest, BuffersAndShortNamesAreAccepted) {
  const LiveModel source(named("gpt2"), DType::kFloat32, 3);
  auto tensors = export_tensors(source.task->model(), source.groups, test::stream());
  for (NamedTensor& tensor : tensors) tensor.name = tensor.name.substr(std::string("transformer.").size());
  tensors.push_back({"h.0.attn.bias", random.normal({1, 1, 7, 7})});
  tensors.push_back({"lm_head.weight", tensors.front().tensor.clone(test::stream())});
  LiveModel target(named("gpt2"), DType::kFloat32, 4);
  EXPECT_EQ(import_error(target, tensors), "");
  for (size_t i = 0; i < source.parameters().size(); ++i) {
    test::expect_same_bits(target.parameters()[i]->value, source.parameters()[i]->value);
  }
}

TEST_F(ExternalNamesTest, MismatchesAreNamedAndNothingIsWritten) {
  LiveModel model(named("gpt2"), DType::kFloat32, 3);
  const LiveModel before(named("gpt2"), DType::kFloat32, 3);
  const LiveModel other(named("gpt2"), DType::kFloat32, 4);
  const auto good = export_tensors(other.task->model(), other.groups, test::stream());
  auto missing = good;
  missing.erase(missing.begin() + 3);
  EXPECT_NE(import_error(model, missing).find(good[3].name + ": missing"), std::string::npos);
  auto extra = good;
  extra.push_back({"transformer.h.2.ln_1.weight", random.normal({15})});
  EXPECT_NE(import_error(model, extra).find("transformer.h.2.ln_1.weight: not a tensor"), std::string::npos);
  auto shape = good;
  shape[0].tensor = random.normal({22, 15});
  EXPECT_NE(import_error(model, shape).find("(22, 15)"), std::string::npos);
  auto dtype = good;
  dtype[0].tensor = random.integers({23, 15}, 0, 3);
  EXPECT_NE(import_error(model, dtype).find("int32"), std::string::npos);
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    test::expect_same_bits(model.parameters()[i]->value, before.parameters()[i]->value);
  }
  ModelConfig mixture = named("gpt2");
  mixture.gpt.norm = "rms";
  const LiveModel unknown(mixture, DType::kFloat32);
  EXPECT_THROW((void)external_names(unknown.task->model()), Error);
  const LiveModel mlp(named("mlp"), DType::kFloat32);
  EXPECT_THROW((void)external_names(mlp.task->model()), Error);
}

TEST_F(ExternalNamesTest, FilesWithOwnOrExternalNamesAreLoaded) {
  const TemporaryDirectory folder;
  const std::string path = folder / "model.safetensors";
  for (const auto& [name, config] : test::tiny_models()) {
    for (const bool ours : {true, false}) {
      if (!ours && !has_names(config)) continue;
      SCOPED_TRACE(fmt::format("{} with {} names", name, ours ? "our" : "their"));
      const LiveModel from(config, DType::kBFloat16, 1);
      std::vector<std::pair<std::string, Tensor>> tensors;
      for (const Parameter* p : from.parameters()) {
        copy(p->value, random.normal(p->shape), test::stream());
        if (ours) tensors.emplace_back(p->name, p->value);
      }
      if (!ours) {
        for (const NamedTensor& t : export_tensors(from.task->model(), from.groups, test::stream())) {
          tensors.emplace_back(t.name, t.tensor);
        }
      }
      write_safetensors(path, tensors);
      const LiveModel to(config, DType::kFloat32, 2);
      load_weights(to.task->model(), to.groups, ModelFiles::open(path), test::stream());
      for (size_t i = 0; i < to.parameters().size(); ++i) {
        test::expect_same_bits(to.parameters()[i]->value.to(DType::kBFloat16, test::stream()),
                               from.parameters()[i]->value, to.parameters()[i]->name);
      }

      tensors.pop_back();
      write_safetensors(path, tensors);
      try {
        load_weights(to.task->model(), to.groups, ModelFiles::open(folder.path()), test::stream());
        ADD_FAILURE() << "a missing tensor was not reported";
      } catch (const Error& error) {
        EXPECT_TRUE(std::string(error.what()).starts_with(folder.path().string())) << error.what();
        EXPECT_NE(std::string(error.what()).find(": missing"), std::string::npos) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace tutti
