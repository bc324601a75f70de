#include <tutti/models/tasks.h>

#include <tutti/kernels/cross_entropy.h>

namespace tutti {
namespace {

double count_targets(const Tensor& targets) {
  int64_t count = 0;
  dispatch_index(targets.dtype(), "targets", [&]<class T>(TypeTag<T>) {
    for (const T target : targets.span<T>()) count += target != -1 ? 1 : 0;
  });
  return static_cast<double>(count);
}

StepContext evaluation_context(const Batch& batch) {
  return {.training = false, .first_sample = batch.first_sample, .samples = batch.samples()};
}

EvaluationSums evaluation_sums(const RowEvaluation& rows) {
  return {.loss = rows.loss, .correct = rows.correct, .count = rows.count};
}

}  // namespace

double LanguageModelTask::predictions(const Batch& batch) const {
  return count_targets(batch.targets);
}

Var LanguageModelTask::loss(Tape& tape, const Batch& batch, double scale) {
  return model_->loss(tape, batch.inputs, batch.targets, {.scale = scale});
}

EvaluationSums LanguageModelTask::evaluate(const Stream& stream, const Batch& batch) {
  Tape tape(stream, evaluation_context(batch), Tape::Mode::kInference);
  return evaluation_sums(model_->evaluate(tape, batch.inputs, batch.targets));
}

double ClassificationTask::predictions(const Batch& batch) const {
  return count_targets(batch.targets);
}

Var ClassificationTask::logits(Tape& tape, const Batch& batch) {
  if (first_parameter_ == nullptr) first_parameter_ = model_->parameters().front();
  return (*model_)(tape, Var(batch.inputs.to(first_parameter_->value.dtype(), tape.stream())));
}

Var ClassificationTask::loss(Tape& tape, const Batch& batch, double scale) {
  return cross_entropy(tape, logits(tape, batch), batch.targets,
                       {.label_smoothing = options_.label_smoothing, .scale = scale});
}

EvaluationSums ClassificationTask::evaluate(const Stream& stream, const Batch& batch) {
  Tape tape(stream, evaluation_context(batch), Tape::Mode::kInference);
  return evaluation_sums(cross_entropy_evaluate(stream, logits(tape, batch).value, batch.targets));
}

}  // namespace tutti
