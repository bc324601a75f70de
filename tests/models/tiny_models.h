#pragma once

#include <tests/kernels/gradcheck.h>

#include <tutti/core/param_group.h>
#include <tutti/models/builder.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tutti::test {

/// Small models of every kind with odd sizes.
inline std::vector<std::pair<std::string, ModelConfig>> tiny_models() {
  std::vector<std::pair<std::string, ModelConfig>> models;
  ModelConfig gpt2{.kind = "gpt"};
  gpt2.gpt = {.vocabulary = 23, .context = 7, .layers = 2, .width = 15, .heads = 3};
  gpt2.gpt.dropout = 0.2;
  gpt2.gpt.init_deviation = 0.3;
  models.emplace_back("gpt2", gpt2);

  ModelConfig llama = gpt2;
  llama.gpt.recipe = "llama";
  llama.gpt.apply_recipe();
  llama.gpt.width = 24;
  llama.gpt.heads = 4;
  llama.gpt.kv_heads = 2;
  llama.gpt.hidden = 13;
  models.emplace_back("llama", llama);

  // Gemma 3 with Gemma 2's soft caps, and biases.
  ModelConfig gemma = llama;
  gemma.gpt.head_dim = 8;
  gemma.gpt.norm_offset = gemma.gpt.post_norms = gemma.gpt.qk_norm = true;
  gemma.gpt.rotary_local_base = 50;
  gemma.gpt.rotary_scaling.kind = "linear";
  gemma.gpt.rotary_scaling.factor = 8;
  gemma.gpt.attention = {.scale = 0.4, .softcap = 5, .window = 3, .full_layers = {1}};
  gemma.gpt.activation = "geglu_tanh";
  gemma.gpt.qkv_bias = gemma.gpt.mlp_bias = true;
  gemma.gpt.tied = true;
  gemma.gpt.embedding_scale = 4.9;
  gemma.gpt.logit_softcap = 6;
  models.emplace_back("gemma", gemma);

  // Granite with the rotary scaling of Llama 3.
  ModelConfig granite = llama;
  granite.gpt.rotary_scaling.kind = "llama3";
  granite.gpt.rotary_scaling.factor = 8;
  granite.gpt.rotary_scaling.original_context = 32;
  granite.gpt.attention = {.scale = 0.3, .scale_by_layer = true};
  granite.gpt.activation = "geglu";
  granite.gpt.output_bias = true;
  granite.gpt.embedding_scale = 2;
  granite.gpt.residual_scale = 0.6;
  granite.gpt.logit_scale = 0.4;
  models.emplace_back("granite", granite);

  for (const int64_t depth : {18, 50}) {
    ModelConfig resnet{.kind = "resnet", .label_smoothing = 0.1};
    resnet.resnet = {.depth = depth, .height = 19, .width = 17, .channels = 3, .classes = 5};
    resnet.resnet.stem = depth == 18 ? "imagenet" : "small_strided";
    if (depth == 18) resnet.resnet.height = resnet.resnet.width = 37;  // else the last stage has one pixel
    resnet.resnet.base_filters = 3;
    models.emplace_back(fmt::format("resnet{}", depth), resnet);
  }
  ModelConfig cnn{.kind = "cnn"};
  cnn.cnn = {.height = 9, .width = 11, .channels = 3, .classes = 4, .filters = {5, 3}, .hidden = 7};
  models.emplace_back("cnn", cnn);
  ModelConfig mlp{.kind = "mlp"};
  mlp.mlp = {.inputs = 10, .classes = 3, .hidden = {9, 7}, .dropout = 0.3};
  models.emplace_back("mlp", mlp);
  return models;
}

/// A model with storage.
struct LiveModel {
  LiveModel(const ModelConfig& config, DType dtype, uint64_t seed = 1, const Stream& on = stream())
      : task(make_task(config)),
        groups(make_param_groups(task->model(), {.precision = {dtype, dtype, dtype}, .seed = seed}, on)) {}

  [[nodiscard]] std::vector<Parameter*> parameters() const { return task->model().parameters(); }
  void clear_grads() const {
    for (const auto& group : groups) group->clear_grads();
  }

  std::unique_ptr<Task> task;
  std::vector<std::unique_ptr<ParamGroup>> groups;
};

/// Random inputs and targets for a model; some tokens have no target.
inline Batch random_batch(const ModelConfig& config, int64_t samples, Random& random) {
  Batch batch;
  if (config.kind == "gpt") {
    const Shape shape{samples, config.gpt.context};
    batch.inputs = random.integers(shape, 0, config.gpt.vocabulary - 1);
    batch.targets = random.integers(shape, -1, config.gpt.vocabulary - 1);
    return batch;
  }
  Shape shape{samples};
  int64_t classes = 0;
  if (config.kind == "mlp") {
    shape.insert(shape.end(), {config.mlp.inputs / 5, 5, 1});
    classes = config.mlp.classes;
  } else if (config.kind == "cnn") {
    shape.insert(shape.end(), {config.cnn.height, config.cnn.width, config.cnn.channels});
    classes = config.cnn.classes;
  } else {
    shape.insert(shape.end(), {config.resnet.height, config.resnet.width, config.resnet.channels});
    classes = config.resnet.classes;
  }
  batch.inputs = random.normal(shape, 1, DType::kFloat64);
  batch.targets = random.integers({samples}, 0, classes - 1);
  return batch;
}

}  // namespace tutti::test
