// Writes event files as a training does, for tensorboard_oracle.py.
// Usage: oracle_tensorboard_writer DIRECTORY SEED STEPS RESUMED_STEP    (a resumed run appends a second file)

#include "launcher/metrics/tensorboard.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>

int main(int argc, char** argv) {
  if (argc != 5) {
    (void)std::fprintf(stderr, "usage: oracle_tensorboard_writer DIRECTORY SEED STEPS RESUMED_STEP\n");
    return 2;
  }
  const int64_t steps = std::strtoll(argv[3], nullptr, 10);
  const int64_t resumed = std::strtoll(argv[4], nullptr, 10);
  std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
  std::uniform_real_distribution<double> uniform(0.5, 1.5);
  tutti::TensorBoardWriter writer(argv[1], "tokens", resumed);
  for (int64_t step = resumed + 1; step <= steps; ++step) {
    tutti::StepReport report{.step = step,
                             .total_steps = steps,
                             .loss = uniform(random),
                             .learning_rate = 1e-3 * uniform(random),
                             .grad_norm = uniform(random),
                             .predictions = 1000,
                             .epoch = 0.01 * static_cast<double>(step),
                             .step_s = uniform(random),
                             .data_wait_s = 0.125,
                             .comm_wait_s = 0.25,
                             .optimizer_s = 0.0625,
                             .memory_bytes = int64_t{3} << 30};
    if (step % 7 == 3) report.loss = std::numeric_limits<double>::quiet_NaN();
    // The written values for comparison; %a is exact.
    (void)std::printf("%lld %a %a %a %a\n", static_cast<long long>(step), report.loss, report.learning_rate,
                      report.grad_norm, report.step_s);
    writer.on_step(report);
    if (step % 5 == 0) writer.on_evaluation({.step = step, .loss = 0.5, .accuracy = 0.75, .wall_s = 1});
  }
  writer.finish();
  return 0;
}
