// Learns y = sin(3x), data-parallel: mpirun -n 2 two_layers. One run, one answer at 1, 2 and 4 ranks.
#include <tutti/comm/fit.h>
#include <tutti/kernels/linear.h>
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

int main() {
  return run_program("two_layers", [](Collective& world) {  // a rank of mpirun or srun, else a world of one
    TwoLayers model;
    Fit fit(world, model, {.optimizer = {.learning_rate = 0.01, .weight_decay = 0}, .seed = 7});
    while (fit.steps() < 500) {
      const double loss = fit.step(256, [&](Tape& tape, const Parallel::Shard& part) {
        std::vector<float> x, y;  // samples [begin, end) of the 256: points of [-1, 1)
        for (int64_t i = part.begin; i < part.end; ++i) {
          x.push_back(static_cast<float>(i) / 128 - 1);
          y.push_back(std::sin(3 * x.back()));
        }
        const auto input = [&](const auto& v) {
          return Var(Tensor::from(v, {part.end - part.begin, 1}, tape.stream()));
        };
        return scale(tape, sum(tape, square(tape, sub(tape, model(tape, input(x)), input(y)))), 1.0 / 256);
      });
      if (fit.steps() == 500 && world.rank() == 0) fmt::print("mean squared error {:.9g}\n", loss);
    }
  });
}
