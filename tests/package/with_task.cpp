// Trains one of Tutti's models on data of one's own: bright and dark images, by a run with evaluations and
// checkpoints that goes on where it was: mpirun -n 2 with_task DIR STEPS
#include <tutti/comm/fit.h>
#include <tutti/models/builder.h>
#include <cstdio>
#include <cstdlib>
using namespace tutti;

/// Images whose pixels are random numbers about 0.3 (class 0) or 0.7 (class 1).
class Images final : public Dataset {
 public:
  Images(int64_t size, uint64_t seed) : size_(size), key_{.seed = seed, .tensor = stable_hash("images")} {}
  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] Shape sample_shape() const override { return {4, 4, 1}; }
  [[nodiscard]] int64_t classes() const override { return 2; }
  [[nodiscard]] int64_t predictions(int64_t) const override { return 1; }
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey, const Stream& stream) const override {
    std::vector<float> pixels;
    std::vector<int32_t> classes;
    for (const int64_t id : ids) {
      classes.push_back(static_cast<int32_t>(id % 2));
      for (uint64_t i = 0; i < 16; ++i) {
        const uint32_t word = key_.words(16 * static_cast<uint64_t>(id) + i)[0];
        const float noise = static_cast<float>(word >> 8) / (1 << 24) - 0.5F;
        pixels.push_back((id % 2 == 0 ? 0.3F : 0.7F) + noise);
      }
    }
    const auto n = static_cast<int64_t>(ids.size());
    Batch batch;
    batch.inputs = Tensor::from(pixels, {n, 4, 4, 1}, stream);
    batch.targets = Tensor::from(classes, {n}, stream);
    return batch;
  }

 private:
  int64_t size_;
  RandomKey key_;
};

int main(int argc, char** argv) {
  return run_program("with_task", [&](Collective& world) {
    require(argc == 3, "usage: with_task DIR STEPS");
    ModelConfig config{.kind = "mlp"};
    fit_to_data(config, {.sample = {4, 4, 1}, .classes = 2});
    const std::unique_ptr<Task> task = make_task(config);
    Fit fit(world, task->model(), {.optimizer = {.learning_rate = 0.01}, .microbatch = 16, .seed = 7});
    const TrainResult result = fit.run(*task, {.training = std::make_shared<Images>(1000, 1),
                                               .validation = std::make_shared<Images>(200, 2),
                                               .steps = std::atoll(argv[2]),
                                               .batch = 64,
                                               .checkpoint = {.dir = argv[1], .every = 20}});
    if (world.rank() == 0) {
      std::printf("loss %.9g, of the validation set %.2f %% right\n", result.loss,
                  100 * result.evaluation.accuracy);
    }
  });
}
