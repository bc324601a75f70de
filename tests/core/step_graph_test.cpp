#include <tutti/core/error.h>
#include <tutti/core/train/step_graph.h>

#include <gtest/gtest.h>

namespace tutti {
namespace {

using Mode = StepGraphPlan::Mode;

StepKey key(int64_t samples, int64_t width = 4, double predictions = 8) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  Batch batch;
  batch.inputs = Tensor::zeros({samples, width}, DType::kInt32, stream);
  batch.targets = Tensor::zeros({samples}, DType::kInt32, stream);
  return StepKey::of(samples, predictions, {{{0, samples}}, {}}, std::vector{batch});
}

TEST(StepKey, IncludesAllValuesOfTheStep) {
  EXPECT_EQ(key(3), key(3));
  EXPECT_FALSE(key(3) == key(4));
  EXPECT_FALSE(key(3) == key(3, 5)) << "shapes differ";
  EXPECT_FALSE(key(3) == key(3, 4, 7)) << "the loss is scaled by the predictions";
  StepKey moved = key(3);
  moved.microbatches[0][0] = {1, 4};
  EXPECT_FALSE(key(3) == moved) << "dropout is keyed by the samples' positions";
  StepKey longer = key(3);
  longer.microbatches.push_back({});
  EXPECT_FALSE(key(3) == longer);
}

TEST(StepGraphPlan, TwoEagerStepsThenOneCaptureThenReplays) {
  StepGraphPlan plan;
  EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_FALSE(plan.has_graph());
  EXPECT_EQ(plan.next(key(3)), Mode::kCapture);
  EXPECT_THROW((void)plan.next(key(3)), Error) << "neither captured() nor failed() was called";
  plan.captured();
  EXPECT_TRUE(plan.has_graph());
  EXPECT_EQ(plan.next(key(3)), Mode::kReplay);
  // The shorter last batch of an epoch.
  EXPECT_EQ(plan.next(key(2)), Mode::kEager);
  EXPECT_EQ(plan.next(key(2)), Mode::kEager);
  EXPECT_EQ(plan.next(key(2)), Mode::kEager);
  EXPECT_EQ(plan.next(key(3)), Mode::kReplay);
  EXPECT_EQ(plan.reason(), "");
  EXPECT_THROW(plan.captured(), Error);
}

TEST(StepGraphPlan, EagerStepsMustBeConsecutive) {
  StepGraphPlan plan;
  EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_EQ(plan.next(key(2)), Mode::kEager);
  EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_EQ(plan.next(key(3)), Mode::kCapture);
}

TEST(StepGraphPlan, AFailedCaptureIsNotRepeated) {
  StepGraphPlan plan;
  for (int i = 0; i < 2; ++i) (void)plan.next(key(3));
  EXPECT_EQ(plan.next(key(3)), Mode::kCapture);
  plan.failed("gradients go through the host");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(plan.next(key(3)), Mode::kEager);
  EXPECT_EQ(plan.reason(), "gradients go through the host");
  EXPECT_FALSE(plan.has_graph());
  // A failure may be known before the first step.
  StepGraphPlan never;
  never.failed("no CUDA");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(never.next(key(3)), Mode::kEager);
}

}  // namespace
}  // namespace tutti
