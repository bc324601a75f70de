#pragma once

#include <tutti/core/train/task.h>
#include <tutti/models/gpt.h>

#include <functional>
#include <memory>

namespace tutti {

/// Next-token prediction. Batches contain tokens (B, T) and the next token of each, -1 for none.
class LanguageModelTask final : public Task {
 public:
  explicit LanguageModelTask(std::unique_ptr<Gpt> model) : model_(std::move(model)) {}

  [[nodiscard]] Gpt& model() override { return *model_; }
  [[nodiscard]] double predictions(const Batch& batch) const override;
  Var loss(Tape& tape, const Batch& batch, double scale) override;
  EvaluationSums evaluate(const Stream& stream, const Batch& batch) override;
  /// FLOPs of a sequence as long as the context.
  [[nodiscard]] double flops_per_sample() const override { return model_->flops(model_->config().context); }

 private:
  std::unique_ptr<Gpt> model_;
};

/// One class per sample. Batches contain images (B, H, W, C) and classes (B).
class ClassificationTask final : public Task {
 public:
  struct Options {
    double label_smoothing = 0;  ///< of the training loss, not of evaluations
    double multiply_adds = 0;    ///< of a forward pass of one sample
  };
  ClassificationTask(std::unique_ptr<Module> model, const Options& options)
      : model_(std::move(model)), options_(options) {}

  [[nodiscard]] Module& model() override { return *model_; }
  [[nodiscard]] double predictions(const Batch& batch) const override;
  Var loss(Tape& tape, const Batch& batch, double scale) override;
  EvaluationSums evaluate(const Stream& stream, const Batch& batch) override;
  /// 2 for each multiplication and addition, backward twice forward.
  [[nodiscard]] double flops_per_sample() const override { return 6 * options_.multiply_adds; }

 private:
  Var logits(Tape& tape, const Batch& batch);

  std::unique_ptr<Module> model_;
  Options options_;
  Parameter* first_parameter_ = nullptr;
};

}  // namespace tutti
