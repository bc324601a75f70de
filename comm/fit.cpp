#include <tutti/comm/fit.h>

#include <cmath>

namespace tutti {
namespace {

FitOptions checked(const FitOptions& options) {
  check_settings(options.schedule, "schedule");
  require(options.schedule.kind == "constant" || options.schedule_steps > 0,
          "fit: the schedule '{}' needs schedule_steps, the steps that it is stretched over, not {}",
          options.schedule.kind, options.schedule_steps);
  return options;
}

std::vector<std::unique_ptr<ParamGroup>> named_groups(Module& model, const FitOptions& options,
                                                      const Stream& stream) {
  model.name_parameters();
  return make_param_groups(model, {.precision = options.precision, .seed = options.seed}, stream);
}

}  // namespace

Fit::Fit(Collective& world, Module& model, const FitOptions& options)
    : options_(checked(options)),
      model_(model),
      pool_(options.threads),
      stream_(Stream::inline_on(pool_)),
      groups_(named_groups(model, options_, stream_)),
      parallel_(world, groups_, options.parallel, stream_),
      optimizer_(options.optimizer, groups_, stream_) {}

double Fit::step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss) {
  const StepContext context{.seed = options_.seed, .step = static_cast<uint64_t>(steps_)};
  const double sum = parallel_.run_step(samples, stream_, context, loss);
  const double norm = optimizer_.grad_norm();
  if (!std::isfinite(sum) || !std::isfinite(norm)) {  // all ranks hold the same sums
    throw AgreedError(
        fmt::format("step {}: the loss is {}, the gradient's norm {}: no update", steps_, sum, norm));
  }
  const double rate = optimizer_.peak_learning_rate() *
                      learning_rate_factor(options_.schedule, steps_, options_.schedule_steps);
  optimizer_.step(rate, optimizer_.clip_scale(norm), steps_);
  parallel_.after_update();
  ++steps_;
  return sum;
}

TrainingState Fit::state() {
  TrainingState state;
  for (const Parameter* p : model_.parameters()) state.model.push_back(StateTensor::whole(p->name, p->value));
  state.optimizer = optimizer_.states();
  return state;
}

void Fit::resume(int64_t steps) {
  require(steps >= 0, "fit: cannot go on after {} steps", steps);
  for (const auto& group : groups_) group->round_weights(stream_);
  steps_ = steps;
}

}  // namespace tutti
