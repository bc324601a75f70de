#include <tests/models/tiny_models.h>

#include <tutti/core/config/run_file.h>
#include <tutti/models/tasks.h>

#include <gtest/gtest.h>

namespace tutti {
namespace {

ResNetConfig imagenet(int64_t depth) {
  return {.depth = depth, .height = 224, .width = 224, .channels = 3, .classes = 1000};
}

GptConfig gpt2_124m() {
  return {.vocabulary = 50257, .context = 1024, .layers = 12, .width = 768, .heads = 12};
}

TEST(ParameterCount, MatchesTheLiterature) {
  Gpt gpt2(gpt2_124m());
  EXPECT_EQ(count_parameters(gpt2).trainable, 124'439'808);
  EXPECT_EQ(count_parameters(gpt2).statistics, 0);

  GptConfig llama;  // Llama 2 7B
  llama.recipe = "llama";
  llama.apply_recipe();
  llama.vocabulary = 32000;
  llama.context = 4096;
  llama.layers = 32;
  llama.width = 4096;
  llama.heads = 32;
  llama.hidden = 11008;
  Gpt llama2(llama);
  EXPECT_EQ(count_parameters(llama2).trainable, 6'738'415'616);
  llama.vocabulary = 128256;  // Llama 3 8B
  llama.kv_heads = 8;
  llama.hidden = 14336;
  Gpt llama3(llama);
  EXPECT_EQ(count_parameters(llama3).trainable, 8'030'261'248);

  for (const auto& [depth, trainable, statistics] :
       {std::tuple{18, 11'689'512, 9'600}, std::tuple{34, 21'797'672, 17'024},
        std::tuple{50, 25'557'032, 53'120}}) {
    ResNet resnet(imagenet(depth));
    EXPECT_EQ(count_parameters(resnet).trainable, trainable) << depth;
    EXPECT_EQ(count_parameters(resnet).statistics, statistics) << depth;
  }
  Mlp mlp({.inputs = 784, .classes = 10, .hidden = {256, 128}});
  EXPECT_EQ(count_parameters(mlp).trainable, 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10);
}

TEST(Flops, MatchTheLiterature) {
  // torchvision's documentation: 1.81, 3.66 and 4.09 billion multiplications for an image of 224 pixels.
  EXPECT_EQ(ResNet(imagenet(18)).multiply_adds(), 1'814'073'344);
  EXPECT_EQ(ResNet(imagenet(34)).multiply_adds(), 3'663'761'408);
  EXPECT_EQ(ResNet(imagenet(50)).multiply_adds(), 4'089'184'256);
  // 6 (85M - vectors + 38.6M of the head) + 6 * 12 * 768 * 1025 per token: 797.9 MFLOP.
  EXPECT_EQ(Gpt(gpt2_124m()).flops(1024) / 1024,
            6.0 * (12 * 12 * 768 * 768 + 50257 * 768) + 7.0 * (12 * 768 * 1025));
  EXPECT_NEAR(Gpt(gpt2_124m()).flops(1024) / 1024, 807.3e6, 0.05e6);
}

TEST(Builder, ReadsEveryKindAndWritesItBack) {
  for (const auto& [name, config] : test::tiny_models()) {
    SCOPED_TRACE(name);
    ModelConfig again;
    read_text(to_yaml(config), "model", again);
    EXPECT_EQ(to_yaml(again), to_yaml(config));
    const auto expected = make_task(config);
    const auto actual = make_task(again);
    ASSERT_EQ(actual->model().parameters().size(), expected->model().parameters().size());
    for (size_t i = 0; i < expected->model().parameters().size(); ++i) {
      EXPECT_EQ(actual->model().parameters()[i]->name, expected->model().parameters()[i]->name);
      EXPECT_EQ(actual->model().parameters()[i]->shape, expected->model().parameters()[i]->shape);
    }
    EXPECT_GT(actual->flops_per_sample(), 0);
  }
}

TEST(Builder, TheRecipeGivesDefaultsThatOtherKeysOverride) {
  ModelConfig config;
  read_text("{kind: gpt, norm: layer, recipe: llama, tied: true, width: 96, heads: 4}", "run.yaml", config);
  EXPECT_EQ(config.gpt.norm, "layer");
  EXPECT_TRUE(config.gpt.tied);
  EXPECT_FALSE(config.gpt.bias);
  EXPECT_EQ(config.gpt.activation, "swiglu");
  EXPECT_EQ(config.gpt.positions, "rotary");
  apply_set("bias=true", config);
  ModelConfig again;
  read_text(to_yaml(config), "resolved.yaml", again);
  EXPECT_EQ(to_yaml(again), to_yaml(config));
}

TEST(Builder, RefusesWhatDoesNotFit) {
  ModelConfig config;
  for (const char* bad :
       {"{kind: gtp}", "{kind: gpt, heads: 5, width: 12}", "{kind: gpt, heads: 6, kv_heads: 4, width: 12}",
        "{kind: gpt, positions: rotary, heads: 2, width: 6}", "{kind: gpt, depth: 18}",
        "{kind: resnet, depth: 20}", "{kind: cnn, kernel: 4}", "{kind: mlp, hidden: [0]}",
        "{kind: gpt, dropout: 1}"}) {
    EXPECT_THROW(read_text(bad, "run.yaml", config), Error) << bad;
  }
  EXPECT_THROW((void)make_task(config), Error);  // no vocabulary yet
  ModelConfig cnn{.kind = "cnn"};
  cnn.cnn = {.height = 3, .width = 9, .channels = 1, .classes = 2, .filters = {2, 2}};
  EXPECT_THROW((void)make_task(cnn), Error);
}

TEST(Builder, FitsModelsToData) {
  ModelConfig config;
  fit_to_data(config, {.sample = {64}, .classes = 1000});
  EXPECT_EQ(config.gpt.vocabulary, 1000);
  EXPECT_EQ(config.gpt.context, 64);
  fit_to_data(config, {.sample = {32}, .classes = 900});  // smaller is allowed
  EXPECT_EQ(config.gpt.vocabulary, 1000);
  EXPECT_THROW(fit_to_data(config, {.sample = {64}, .classes = 1001}), Error);
  EXPECT_THROW(fit_to_data(config, {.sample = {65}, .classes = 1000}), Error);
  EXPECT_THROW(fit_to_data(config, {.sample = {28, 28, 1}, .classes = 10}), Error);
  for (const char* kind : {"resnet", "cnn", "mlp"}) {
    ModelConfig images{.kind = kind};
    fit_to_data(images, {.sample = {28, 26, 1}, .classes = 10});
    EXPECT_NO_THROW((void)make_task(images)) << kind;
    EXPECT_THROW(fit_to_data(images, {.sample = {28, 25, 1}, .classes = 10}), Error) << kind;
    EXPECT_THROW(fit_to_data(images, {.sample = {28, 26, 1}, .classes = 11}), Error) << kind;
  }
}

TEST(Gpt, RefusesLongSequencesAndOtherShapes) {
  const auto [name, config] = test::tiny_models().front();
  test::LiveModel model(config, DType::kFloat32);
  Tape tape(test::stream(), {}, Tape::Mode::kInference);
  test::Random random;
  EXPECT_THROW((void)model.task->model()(tape, Var(random.integers({1, config.gpt.context + 1}, 0, 3))),
               Error);
  EXPECT_THROW((void)model.task->model()(tape, Var(random.integers({4}, 0, 3))), Error);
}

TEST(Gpt, ResidualProjectionsHaveSmallerInitialValues) {
  ModelConfig config{.kind = "gpt"};
  config.gpt = {.vocabulary = 500, .context = 64, .layers = 8, .width = 128, .heads = 4};
  const test::LiveModel model(config, DType::kFloat32);
  const auto deviation = [](const Tensor& tensor) {
    double squares = 0;
    for (const double v : test::to_doubles(tensor)) squares += v * v;
    return std::sqrt(squares / static_cast<double>(tensor.numel()));
  };
  int projections = 0;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->shape.size() != 2) continue;
    const bool residual =
        parameter->name.ends_with("output.weight") || parameter->name.ends_with("down.weight");
    projections += residual ? 1 : 0;
    EXPECT_NEAR(deviation(parameter->value), residual ? 0.02 / 4 : 0.02, residual ? 2e-4 : 8e-4)
        << parameter->name;
  }
  EXPECT_EQ(projections, 16);
}

}  // namespace
}  // namespace tutti
