#include <tutti/comm/fit.h>

#include <cmath>

namespace tutti {
namespace {

std::vector<std::unique_ptr<ParamGroup>> named_groups(Module& model, uint64_t seed, const Stream& stream) {
  model.name_parameters();
  return make_param_groups(model, {.seed = seed}, stream);
}

}  // namespace

Fit::Fit(Collective& world, Module& model, const FitOptions& options)
    : seed_(options.seed),
      pool_(options.threads),
      stream_(Stream::inline_on(pool_)),
      groups_(named_groups(model, seed_, stream_)),
      parallel_(world, groups_, options.parallel, stream_),
      optimizer_(options.optimizer, groups_, stream_) {}

double Fit::step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss) {
  const StepContext context{.seed = seed_, .step = static_cast<uint64_t>(steps_)};
  const double sum = parallel_.run_step(samples, stream_, context, loss);
  const double norm = optimizer_.grad_norm();
  if (!std::isfinite(sum) || !std::isfinite(norm)) {  // all ranks hold the same sums
    throw AgreedError(
        fmt::format("step {}: the loss is {}, the gradient's norm {}: no update", steps_, sum, norm));
  }
  optimizer_.step(optimizer_.peak_learning_rate(), optimizer_.clip_scale(norm), steps_);
  parallel_.after_update();
  ++steps_;
  return sum;
}

}  // namespace tutti
