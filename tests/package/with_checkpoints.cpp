// Learns y = sin(3x) in bf16 with a cosine schedule, saves every 50 steps and goes on from there when it is
// started again, at another number of ranks too: mpirun -n 2 with_checkpoints DIR STEPS
#include <tutti/comm/fit.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/reduce.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
using namespace tutti;

struct TwoLayers : Module {
  Parameter w1{.shape = {64, 1}, .init = Init::uniform(3)}, b1{.shape = {64}, .init = Init::uniform(3)};
  Parameter w2{.shape = {1, 64}, .init = Init::uniform(0.1)};
  TwoLayers() { register_parameter("w1", w1), register_parameter("b1", b1), register_parameter("w2", w2); }
  Var forward(Tape& t, const Var& x) override {
    return linear(t, linear(t, x, t.leaf(w1), t.leaf(b1), Activation::kGelu), t.leaf(w2), Var());
  }
};

int main(int argc, char** argv) {
  return run_program("with_checkpoints", [&](Collective& world) {
    require(argc == 3, "usage: with_checkpoints DIR STEPS");
    const int64_t steps = std::atoll(argv[2]);
    constexpr int64_t kSamples = 256;
    TwoLayers model;
    Fit fit(world, model,
            {.optimizer = {.learning_rate = 0.01},
             .schedule = {.kind = "cosine", .warmup_steps = 20},
             .schedule_steps = 200,
             .precision = {.compute = DType::kBFloat16},
             .seed = 7});

    const auto log = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    Checkpoints checkpoints({.dir = argv[1]}, fit.peers(), log);
    fit.resume(checkpoints);
    if (world.rank() == 0)
      std::fprintf(stderr, "begins after step %lld\n", static_cast<long long>(fit.steps()));

    double loss = 0;
    while (fit.steps() < steps) {
      loss = fit.step(kSamples, [&](Tape& tape, const Parallel::Shard& part) {
        std::vector<float> x, y;
        for (int64_t i = part.begin; i < part.end; ++i) {
          x.push_back(static_cast<float>(i) / 128 - 1);
          y.push_back(std::sin(3 * x.back()));
        }
        const auto input = [&](const auto& v) {
          return Var(
              Tensor::from(v, {part.end - part.begin, 1}, tape.stream()).to(DType::kBFloat16, tape.stream()));
        };
        return scale(tape, sum(tape, square(tape, sub(tape, model(tape, input(x)), input(y)))),
                     1.0 / kSamples);
      });
      if (fit.steps() % 50 == 0 || fit.steps() == steps) fit.save(checkpoints);
    }
    if (world.rank() == 0)
      std::printf("loss of step %lld: %.9g\n", static_cast<long long>(fit.steps()), loss);
  });
}
