#include <tests/models/tiny_models.h>

#include <tutti/core/config/run_file.h>
#include <tutti/kernels/optimizer.h>

#include <gtest/gtest.h>

namespace tutti {
namespace {

using test::LiveModel;

class ModelGradientTest : public test::RandomTest {
 protected:
  StepContext context(int64_t samples) {
    return {.seed = random.seed(), .step = 3, .first_sample = 5, .samples = samples, .batch_share = 0.25};
  }

  /// Loss and gradients of one batch.
  static std::vector<Tensor> gradients(LiveModel& model, const Batch& batch, const StepContext& context,
                                       const Stream& stream) {
    model.clear_grads();
    Tape tape(stream, context);
    const Var loss = model.task->loss(tape, batch, 1 / model.task->predictions(batch));
    std::vector<Tensor> result{loss.value.clone(stream)};
    tape.backward(loss);
    for (const Parameter* parameter : model.parameters()) {
      EXPECT_TRUE(parameter->grad_defined) << parameter->name;
      result.push_back(parameter->grad.clone(stream));
    }
    return result;
  }
};

TEST_F(ModelGradientTest, AgreesWithCentralDifferences) {
  for (const auto& [name, config] : test::tiny_models()) {
    SCOPED_TRACE(name);
    const LiveModel model(config, DType::kFloat64, random.seed());
    for (Parameter* parameter : model.parameters()) {  // biases of 0 would put inputs of ReLU at its kink
      if (parameter->role == Role::kStatistic) continue;
      add_in_place(parameter->value, random.normal(parameter->shape, 0.1), test::stream());
    }
    const Batch batch = test::random_batch(config, 3, random);
    test::GradCheckOptions options;
    options.context = context(3);
    options.relative = 1e-5;
    options.max_elements = config.kind == "resnet" ? 1 : 5;
    options.rounding = config.kind == "resnet" ? 2000 : 100;
    options.kinks = config.kind != "gpt";
    test::check_parameter_gradients([&](Tape& tape) { return model.task->loss(tape, batch, 0.7); },
                                    model.parameters(), random, options);
  }
}

TEST_F(ModelGradientTest, StatisticsAreThoseOfTheBatchTimesItsShare) {
  for (const auto& [name, config] : test::tiny_models()) {
    if (config.kind != "resnet") continue;
    LiveModel model(config, DType::kFloat64, random.seed());
    const Batch batch = test::random_batch(config, 4, random);
    StepContext whole = context(4);
    whole.batch_share = 1;
    StepContext quarter = whole;
    quarter.batch_share = 0.25;
    const std::vector<Tensor> full = gradients(model, batch, whole, test::stream());
    const std::vector<Tensor> part = gradients(model, batch, quarter, test::stream());
    size_t i = 1;
    int statistics = 0;
    for (const Parameter* parameter : model.parameters()) {
      if (parameter->role == Role::kStatistic) {
        Tensor expected = full[i].clone(test::stream());
        for (double& value : expected.span<double>()) value *= 0.25;
        test::expect_close(part[i], expected, 1e-12, 1e-14, parameter->name);
        ++statistics;
      } else {
        test::expect_close(part[i], full[i], 1e-12, 1e-14, parameter->name);
      }
      ++i;
    }
    EXPECT_EQ(statistics, config.resnet.depth == 18 ? 2 * 20 : 2 * 53);
  }
}

TEST_F(ModelGradientTest, RecomputeGivesTheSameBits) {
  for (auto [name, config] : test::tiny_models()) {
    if (config.kind != "gpt" && config.kind != "resnet") continue;
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(name + " " + std::string(tutti::name(dtype)));
      const Batch batch = test::random_batch(config, 4, random);
      LiveModel kept(config, dtype, 9);
      config.gpt.recompute = config.resnet.recompute = true;
      LiveModel again(config, dtype, 9);
      const auto expected = gradients(kept, batch, context(4), test::stream());
      const auto actual = gradients(again, batch, context(4), test::stream());
      config.gpt.recompute = config.resnet.recompute = false;
      ASSERT_EQ(actual.size(), expected.size());
      test::expect_same_bits(actual[0], expected[0], "loss");
      for (size_t i = 1; i < actual.size(); ++i) {
        test::expect_same_bits(actual[i], expected[i], kept.parameters()[i - 1]->name);
      }
    }
  }
}

TEST_F(ModelGradientTest, LossInChunksMatchesTheLoss) {
  for (auto [name, config] : test::tiny_models()) {
    if (config.kind != "gpt") continue;
    const Batch batch = test::random_batch(config, 4, random);
    LiveModel whole(config, DType::kFloat64, 9);
    const auto expected = gradients(whole, batch, context(4), test::stream());
    for (const int64_t rows : {1, 5, 1000}) {  // of 28, which 5 does not divide
      SCOPED_TRACE(fmt::format("{}, {} rows", name, rows));
      config.gpt.loss_rows = rows;
      LiveModel chunked(config, DType::kFloat64, 9);
      const auto actual = gradients(chunked, batch, context(4), test::stream());
      ASSERT_EQ(actual.size(), expected.size());
      test::expect_close(actual[0], expected[0], 1e-12, 1e-13, "loss");
      for (size_t i = 1; i < actual.size(); ++i) {
        test::expect_close(actual[i], expected[i], 1e-11, 1e-12, whole.parameters()[i - 1]->name);
      }
    }
  }
}

TEST_F(ModelGradientTest, BitsDoNotDependOnTheNumberOfThreads) {
  ThreadPool one_thread(1);
  ThreadPool three_threads(3);
  const Stream one = Stream::inline_on(one_thread);
  const Stream three = Stream::inline_on(three_threads);
  for (const auto& [name, config] : test::tiny_models()) {
    SCOPED_TRACE(name);
    const Batch batch = test::random_batch(config, 5, random);
    LiveModel a(config, DType::kFloat32, 9, one);
    LiveModel b(config, DType::kFloat32, 9, three);
    const auto expected = gradients(a, batch, context(5), one);
    const auto actual = gradients(b, batch, context(5), three);
    for (size_t i = 0; i < actual.size(); ++i) {
      test::expect_same_bits(actual[i], expected[i], i == 0 ? "loss" : a.parameters()[i - 1]->name);
    }
  }
}

TEST_F(ModelGradientTest, EvaluationIsTheLossWithoutDropout) {
  for (auto [name, config] : test::tiny_models()) {
    SCOPED_TRACE(name);
    config.gpt.dropout = config.mlp.dropout = config.cnn.dropout = config.label_smoothing = 0;
    const LiveModel model(config, DType::kFloat64, random.seed());
    Batch batch = test::random_batch(config, 6, random);
    const EvaluationSums sums = model.task->evaluate(test::stream(), batch);
    EXPECT_EQ(sums.count, model.task->predictions(batch));
    EXPECT_GE(sums.correct, 0);
    EXPECT_LE(sums.correct, sums.count);
    StepContext inference = context(6);
    inference.training = false;
    Tape tape(test::stream(), inference);
    EXPECT_NEAR(model.task->loss(tape, batch, 1).value.item(), sums.loss, 1e-9 * sums.loss);
    // The sum over parts equals that of the whole.
    EvaluationSums parts;
    for (const auto& [begin, end] : {std::pair{0, 1}, std::pair{1, 6}}) {
      const Batch part{batch.inputs.slice(0, begin, end), batch.targets.slice(0, begin, end), begin};
      const EvaluationSums more = model.task->evaluate(test::stream(), part);
      parts.loss += more.loss;
      parts.correct += more.correct;
      parts.count += more.count;
    }
    EXPECT_NEAR(parts.loss, sums.loss, 1e-9 * sums.loss);
    EXPECT_EQ(parts.correct, sums.correct);
    EXPECT_EQ(parts.count, sums.count);
  }
}

/// The number of parameters with padding, which must contain zeros.
int padded_weights_with_zeros(Module& model) {
  int padded = 0;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->padding == 0) continue;
    ++padded;
    for (const Tensor& tensor : {parameter->padded_value, parameter->padded_grad}) {
      EXPECT_EQ(tensor.size(0) % 16, 0);
      const Tensor rest =
          tensor.slice(0, parameter->shape[0], tensor.size(0)).to(DType::kFloat64, test::stream());
      for (const double value : rest.span<double>()) EXPECT_EQ(value, 0) << parameter->name;
    }
  }
  return padded;
}

TEST_F(ModelGradientTest, EveryModelOverfitsABatch) {
  for (auto [name, config] : test::tiny_models()) {
    for (const DType compute : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(name + " " + std::string(tutti::name(compute)));
      config.gpt.dropout = config.mlp.dropout = config.cnn.dropout = config.label_smoothing = 0;
      config.gpt.init_deviation = 0.1;
      const std::unique_ptr<Task> task = make_task(config);
      const auto groups =
          make_param_groups(task->model(), {.precision = {.compute = compute}}, test::stream());
      OptimizerConfig settings;
      settings.learning_rate = 0.01;
      settings.weight_decay = 0;
      Optimizer optimizer(settings, groups, test::stream());
      const Batch batch = test::random_batch(config, 4, random);
      double first = 0;
      double loss_value = 0;
      // Most models need about 30 steps; a model that does not learn exceeds the limit.
      for (int64_t step = 0; step < 400 && (step == 0 || loss_value >= 0.3 * first); ++step) {
        for (const auto& group : groups) group->clear_grads();
        StepContext now = context(4);
        now.batch_share = 1;
        Tape tape(test::stream(), now);
        const Var loss = task->loss(tape, batch, 1 / task->predictions(batch));
        loss_value = loss.value.item();
        if (step == 0) first = loss_value;
        tape.backward(loss);
        optimizer.step(settings.learning_rate, optimizer.clip_scale(optimizer.grad_norm()), step);
      }
      EXPECT_LT(loss_value, 0.3 * first);
      EXPECT_EQ(padded_weights_with_zeros(task->model()), config.kind == "gpt" ? 1 : 0);  // the head
    }
  }
}

}  // namespace
}  // namespace tutti
