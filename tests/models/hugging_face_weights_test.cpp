#include <tests/models/hugging_face_configs.h>
#include <tests/temporary_directory.h>

#include <tutti/core/config/run_file.h>
#include <tutti/models/external_names.h>
#include <tutti/models/hugging_face/config.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

namespace tutti {
namespace {

using test::kLlama;
using test::tiny;
using test::tiny_llama;
using test::with;

/// A folder with weights of a model and a config.json.
struct Folder {
  TemporaryDirectory place;
  void write(const test::LiveModel& model, const std::string& config, const std::string& prefix = "",
             const std::vector<NamedTensor>& more = {}) const {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const NamedTensor& t : export_tensors(model.task->model(), model.groups, test::stream())) {
      tensors.emplace_back(t.name.starts_with(prefix) ? t.name.substr(prefix.size()) : t.name, t.tensor);
    }
    for (const NamedTensor& t : more) tensors.emplace_back(t.name, t.tensor);
    write_safetensors(place / "model.safetensors", tensors);
    if (!config.empty()) std::ofstream(place / "config.json") << config;
  }
  [[nodiscard]] std::string load(const test::LiveModel& model, bool whole = true) const {
    try {
      load_weights(
          model.task->model(), model.groups,
          ModelFiles::open(whole ? place.path() : std::filesystem::path(place / "model.safetensors")),
          test::stream());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

ModelConfig model_of(const GptConfig& gpt) {
  ModelConfig config{.kind = "gpt"};
  config.gpt = gpt;
  return config;
}

void expect_equal_weights(const test::LiveModel& a, const test::LiveModel& b) {
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    test::expect_same_bits(a.parameters()[i]->value, b.parameters()[i]->value, a.parameters()[i]->name);
  }
}

class HuggingFaceWeightsTest : public test::RandomTest {};

TEST_F(HuggingFaceWeightsTest, TheConfigOfTheWeightsMustMatch) {
  const test::LiveModel from(model_of(tiny_llama()), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, kLlama);
  EXPECT_EQ(folder.load(to), "");
  expect_equal_weights(from, to);
  EXPECT_EQ(folder.load(to, false), "");
  folder.write(from, with(kLlama, "rope_theta", "5e5"));
  for (const bool whole : {true, false}) {
    EXPECT_NE(folder.load(to, whole).find("set model.rotary_base: 500000"), std::string::npos);
  }
  // A config.json next to a file may be unrelated; in a folder it must match the model.
  folder.write(from, R"({"port": 80})");
  EXPECT_EQ(folder.load(to, false), "");
  EXPECT_NE(folder.load(to).find("model_type"), std::string::npos);
}

TEST_F(HuggingFaceWeightsTest, FilesOfTheInnerModelLackAPrefix) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  for (const auto& [gpt, prefix] : {std::pair{tied, "model."}, std::pair{tiny("gpt2"), "transformer."}}) {
    const test::LiveModel from(model_of(gpt), DType::kFloat32, 1);
    const test::LiveModel to(model_of(gpt), DType::kFloat32, 2);
    Folder folder;
    folder.write(from, "", prefix);
    EXPECT_EQ(folder.load(to), "");
    expect_equal_weights(from, to);
  }
  // Of an untied model the head is missing.
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "", "model.");
  EXPECT_NE(folder.load(to).find("lm_head.weight: missing; set model.tied: true"), std::string::npos);
}

TEST_F(HuggingFaceWeightsTest, ATiedHeadMustEqualTheEmbedding) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tied), DType::kFloat32, 2);
  Folder folder;
  const Tensor embedding = from.parameters().front()->value;
  folder.write(from, "", "", {{"lm_head.weight", embedding.clone(test::stream())}});
  EXPECT_EQ(folder.load(to), "");
  Tensor other = embedding.clone(test::stream());
  other.span<float>().back() += 1e-3F;
  folder.write(from, "", "", {{"lm_head.weight", other}});
  EXPECT_NE(folder.load(to).find("set model.tied: false"), std::string::npos);
  folder.write(from, "", "", {{"lm_head.weight", random.normal({22, 24})}});
  EXPECT_NE(folder.load(to).find("lm_head.weight"), std::string::npos);
  // Values are compared, not dtypes.
  copy(embedding, embedding.to(DType::kBFloat16, test::stream()), test::stream());
  folder.write(from, "", "", {{"lm_head.weight", embedding.to(DType::kBFloat16, test::stream())}});
  EXPECT_EQ(folder.load(to), "");
  folder.write(from, "", "", {{"lm_head.weight", random.integers({23, 24}, 0, 3)}});
  EXPECT_NE(folder.load(to).find("set model.tied: false"), std::string::npos);
}

TEST_F(HuggingFaceWeightsTest, BuffersOfAnyDtypeAreIgnored) {
  const test::LiveModel from(model_of(tiny("gpt2")), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny("gpt2")), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "", "");
  // A BOOL tensor, which Tensor does not support, written by hand.
  std::vector<SafetensorsWriter::Spec> specs;
  const SafetensorsFile file = SafetensorsFile::open(folder.place / "model.safetensors");
  for (const SafetensorsEntry& e : file.entries()) specs.push_back({e.name, e.dtype, e.shape});
  specs.push_back({"transformer.h.0.attn.bias", "BOOL", {1, 1, 7, 7}});
  specs.push_back({"h.1.attn.masked_bias", "U16", {3}});
  const std::string path = folder.place / "with_buffers.safetensors";
  SafetensorsWriter writer(path, specs);
  for (const SafetensorsEntry& e : writer.order()) {
    if (file.find(e.name) != nullptr) {
      writer.write(file.bytes(*file.find(e.name)));
    } else {
      writer.write(std::vector<std::byte>(static_cast<size_t>(e.bytes())));
    }
  }
  writer.finish();
  load_weights(to.task->model(), to.groups, ModelFiles::open(path), test::stream());
  expect_equal_weights(from, to);
}

TEST_F(HuggingFaceWeightsTest, AGpt2WithoutBiasesIsExportedWithZeros) {
  GptConfig gpt = tiny("gpt2");
  gpt.bias = false;
  const test::LiveModel from(model_of(gpt), DType::kFloat32, 1);
  const test::LiveModel to(model_of(gpt), DType::kFloat32, 2);
  const auto tensors = export_tensors(from.task->model(), from.groups, test::stream());
  const auto biased = std::find_if(tensors.begin(), tensors.end(), [](const NamedTensor& t) {
    return t.name == "transformer.h.1.mlp.c_fc.bias" && t.tensor.shape() == Shape{60};
  });
  ASSERT_NE(biased, tensors.end());
  Folder folder;
  folder.write(from, hugging_face_config(gpt, {}));
  EXPECT_EQ(folder.load(to), "");
  expect_equal_weights(from, to);
  biased->tensor.span<float>()[3] = 1;
  try {
    import_tensors(to.task->model(), to.groups, tensors, test::stream());
    ADD_FAILURE() << "a bias was dropped";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("set model.bias: true"), std::string::npos) << error.what();
  }
}

TEST_F(HuggingFaceWeightsTest, HeadersAreSufficientToCheckWeights) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const auto error = [](const GptConfig& gpt, const ModelFiles& files) -> std::string {
    try {
      require_weights_fit(make_task(model_of(gpt))->model(), files);  // without storage
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  Folder folder;
  folder.write(from, "");
  EXPECT_EQ(error(tied, ModelFiles::open(folder.place.path())), "");
  EXPECT_NE(error(tiny_llama(), ModelFiles::open(folder.place.path())).find("lm_head.weight: missing"),
            std::string::npos);
  folder.write(from, "", "", {{"lm_head.weight", random.normal({23, 24})}});
  EXPECT_NE(error(tied, ModelFiles::open(folder.place.path())).find("set model.tied: false"),
            std::string::npos);
  // A dtype that Tensor does not support.
  std::vector<SafetensorsWriter::Spec> specs;
  int64_t bytes = 0;
  for (const NamedTensor& t : export_tensors(from.task->model(), from.groups, test::stream())) {
    specs.push_back({t.name, "F8_E4M3", t.tensor.shape()});
    bytes += t.tensor.numel();
  }
  const std::string path = folder.place / "fp8.safetensors";
  SafetensorsWriter writer(path, specs);
  writer.write(std::vector<std::byte>(static_cast<size_t>(bytes)));
  writer.finish();
  const std::string text = error(tied, ModelFiles::open(path));
  EXPECT_NE(text.find("fp8.safetensors"), std::string::npos) << text;
  EXPECT_NE(text.find("model.norm.weight: has dtype F8_E4M3"), std::string::npos) << text;
  folder.write(from, kLlama);
  EXPECT_NE(error(tied, ModelFiles::open(folder.place.path())).find("tie_word_embeddings: false"),
            std::string::npos);
}

TEST_F(HuggingFaceWeightsTest, HintsGiveTheKey) {
  GptConfig biased = tiny_llama();
  biased.qkv_bias = biased.qk_norm = true;
  const test::LiveModel from(model_of(biased), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "");
  const std::string error = folder.load(to);
  EXPECT_NE(error.find("set model.qkv_bias: true"), std::string::npos) << error;
  EXPECT_NE(error.find("set model.qk_norm: true"), std::string::npos) << error;
}

TEST_F(HuggingFaceWeightsTest, PicklesAreNamed) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "pytorch_model.bin") << "PK\x03\x04 and more";
  for (const std::filesystem::path& path : {folder.path(), folder / "pytorch_model.bin"}) {
    try {
      (void)ModelFiles::open(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("pickle"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace tutti
