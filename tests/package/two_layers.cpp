// Learns y = sin(3x) with two layers, data-parallel: mpirun -n 2 two_layers. One run, one answer at 1, 2 and
// 4 ranks.
#include <tutti/comm/data_parallel.h>
#include <tutti/comm/factory.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/optimizer.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/reduce.h>
#include <cmath>
using namespace tutti;

struct TwoLayers : Module {
  Parameter w1{.shape = {64, 1}, .init = Init::uniform(3)}, b1{.shape = {64}, .init = Init::uniform(3)};
  Parameter w2{.shape = {1, 64}, .init = Init::uniform(0.1)};
  TwoLayers() { register_parameter("w1", w1), register_parameter("b1", b1), register_parameter("w2", w2); }
  Var forward(Tape& t, const Var& x) override {
    return linear(t, linear(t, x, t.leaf(w1), t.leaf(b1), Activation::kGelu), t.leaf(w2), Var());
  }
};

int main() try {
  run_world({}, [](Collective& world) {  // this process's rank under mpirun or srun, else a world of one
    ThreadPool pool(1);
    const Stream stream = Stream::inline_on(pool);
    TwoLayers model;
    model.name_parameters();
    const auto groups = make_param_groups(model, {.seed = 7}, stream);
    DataParallel parallel(world, groups, {}, stream);
    Optimizer optimizer({.learning_rate = 0.01, .weight_decay = 0}, groups, stream);
    double loss = 0;
    for (int64_t step = 0; step < 500; ++step) {
      const StepContext context{.seed = 7, .step = static_cast<uint64_t>(step)};
      loss = parallel.run_step(256, stream, context, [&](Tape& tape, const Parallel::Shard& shard) {
        std::vector<float> x, y;  // any function of step and sample number; here points of [-1, 1)
        for (int64_t i = shard.begin; i < shard.end; ++i) {
          x.push_back(2 * uniform(RandomKey{7, 0, context.step, static_cast<uint64_t>(i)}.words(0)[0]) - 1);
          y.push_back(std::sin(3 * x.back()));
        }
        const int64_t n = shard.end - shard.begin;
        const Var error = sub(tape, model(tape, Var(Tensor::from(x, {n, 1}, stream))),
                              Var(Tensor::from(y, {n, 1}, stream)));
        return scale(tape, sum(tape, square(tape, error)), 1.0 / 256);
      });
      optimizer.step(0.01, optimizer.clip_scale(optimizer.grad_norm()), step);
    }
    if (world.rank() == 0) fmt::print("mean squared error {:.9g}\n", loss);
  });
} catch (const std::exception& error) {
  fmt::print(stderr, "two_layers: {}\n", error.what());
  return 1;
}
