// A captured step against the same step run eagerly.
#include "tests/gpu/on_both.h"

#include <tutti/comm/data_parallel.h>
#include <tutti/core/train/trainer.h>
#include <tutti/kernels/optimizer.h>
#include <tutti/models/builder.h>
#include "core/cuda/graph.h"

#include <limits>

namespace tutti::test {
namespace {

class GpuStepGraph : public GpuTest {};

TEST_F(GpuStepGraph, ReplayReadsNewValues) {
  const Tensor x = Tensor::full({1000}, 1, DType::kFloat32, gpu());
  const Tensor y = Tensor::zeros({1000}, DType::kFloat32, gpu());
  const auto graph = cuda::Graph::capture(gpu(), [&] {
    const Tensor copied = x.clone(gpu());  // memory that belongs to the graph
    add_in_place(y, copied, gpu());
  });
  EXPECT_EQ(y.select(0, 7).item(), 0) << "kernels ran during the capture";
  for (int i = 1; i <= 3; ++i) {
    fill(x, i, gpu());
    poison(x.bytes());
    graph->launch();
  }
  EXPECT_EQ(y.select(0, 999).item(), 6);
}

TEST_F(GpuStepGraph, HostSynchronizationCannotBeCaptured) {
  const Tensor x = Tensor::full({4}, 1, DType::kFloat32, gpu());
  EXPECT_THROW((void)cuda::Graph::capture(gpu(),
                                          [&] {
                                            fill(x, 2, gpu());
                                            (void)x.select(0, 0).item();
                                          }),
               Error);
  EXPECT_EQ(x.select(0, 0).item(), 1) << "the stream does not work after a failed capture";
}

/// Different batches at every step; the seventh is smaller.
class Tokens final : public BatchSource {
 public:
  explicit Tokens(const Stream& stream) : stream_(stream) {}
  [[nodiscard]] int64_t samples(int64_t step) const override { return step == 6 ? 3 : 4; }
  [[nodiscard]] double predictions(int64_t step) const override {
    return static_cast<double>(samples(step) * kLength);
  }
  [[nodiscard]] double epoch(int64_t) const override { return 0; }
  std::vector<Batch> next() override {
    const int64_t n = samples(step_);
    std::vector<int32_t> values(static_cast<size_t>(n * kLength));
    const RandomKey key{.seed = 3, .step = static_cast<uint64_t>(step_++)};
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(key.words(i)[0] % 50);
    Batch batch;
    batch.inputs = Tensor::from(values, {n, kLength}, stream_);
    batch.targets = Tensor::from(values, {n, kLength}, stream_);
    return {batch};
  }
  static constexpr int64_t kLength = 16;

 private:
  Stream stream_;
  int64_t step_ = 0;
};

struct Recorder final : Observer {
  void on_step(const StepReport& report) override { steps.push_back(report); }
  std::vector<StepReport> steps;
  std::vector<std::string> notes;
};

/// Trains a GPT with dropout for some steps; returns the reports and the weights.
std::pair<Recorder, std::vector<Tensor>> train(bool graph, const std::string& algorithm, double learning_rate,
                                               const Stream& gpu) {
  ModelConfig model;
  model.kind = "gpt";
  model.gpt.layers = extent(2, 1);
  model.gpt.width = 32;
  model.gpt.heads = 2;
  model.gpt.dropout = 0.2;
  fit_to_data(model, {.sample = {Tokens::kLength}, .classes = 50});
  const auto task = make_task(model);
  const auto groups = make_param_groups(task->model(), {.seed = 5, .bucket_bytes = 1 << 14}, gpu);
  OptimizerConfig config;
  config.algorithm = algorithm;
  config.learning_rate = learning_rate;
  Optimizer optimizer(config, groups, gpu);
  const auto world = make_self_collective();
  DataParallel parallel(*world, groups, {.mode = "fast"}, gpu);
  Tokens tokens(gpu);
  Recorder recorder;
  TrainConfig loop;
  loop.steps = extent(12, 4);
  loop.batch = 4;
  loop.cuda_graph = graph;
  loop.max_skipped_steps = 100;
  TrainerParts parts{.task = *task,
                     .parallel = parallel,
                     .optimizer = optimizer,
                     .training = tokens,
                     .observers = {&recorder},
                     .note = [&](const std::string& text) { recorder.notes.push_back(text); },
                     .stream = gpu,
                     .seed = 5};
  (void)Trainer(loop, {}, parts).run();
  std::vector<Tensor> weights;
  for (const auto& group : groups) weights.push_back(group->weights().on_host());
  return {recorder, weights};
}

TEST_F(GpuStepGraph, TrainingHasTheSameBits) {
  for (const char* algorithm : {"adamw", "sgd"}) {
    SCOPED_TRACE(algorithm);
    const auto [eager, eager_weights] = train(false, algorithm, 1e-3, gpu());
    const auto [graph, graph_weights] = train(true, algorithm, 1e-3, gpu());
    EXPECT_TRUE(graph.notes.empty()) << graph.notes.front();
    ASSERT_EQ(graph.steps.size(), eager.steps.size());
    for (size_t i = 0; i < eager.steps.size(); ++i) {
      EXPECT_EQ(graph.steps[i].loss, eager.steps[i].loss) << i;
      EXPECT_EQ(graph.steps[i].grad_norm, eager.steps[i].grad_norm) << i;
    }
    for (size_t i = 0; i < eager_weights.size(); ++i)
      expect_same_bits(graph_weights[i], eager_weights[i], "weights");
  }
}

TEST_F(GpuStepGraph, NonFiniteGradientsSkipTheStep) {
  // The first update makes the weights so large that no later gradient is finite.
  const auto [eager, eager_weights] = train(false, "sgd", 1e30, gpu());
  const auto [graph, graph_weights] = train(true, "sgd", 1e30, gpu());
  EXPECT_TRUE(graph.steps.back().skipped);
  ASSERT_EQ(graph.steps.size(), eager.steps.size());
  for (size_t i = 0; i < eager.steps.size(); ++i) EXPECT_EQ(graph.steps[i].skipped, eager.steps[i].skipped);
  for (size_t i = 0; i < eager_weights.size(); ++i)
    expect_same_bits(graph_weights[i], eager_weights[i], "weights");
}

}  // namespace
}  // namespace tutti::test
