// Bytes per second of saving and restoring a checkpoint of one rank, and of its checksums alone.
// TUTTI_BENCH_DIR is a directory on the disk to measure; the default is the current directory.
#include <benchmark/benchmark.h>
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/io/sha256.h>

#include <cstdlib>
#include <filesystem>

namespace tutti {
namespace {

constexpr int64_t kParameters = int64_t{10} << 20;

/// Weights and two moments in fp32.
struct Training {
  Training() {
    for (const char* name : {"weight", "exp_avg", "exp_avg_sq"}) {
      const Tensor tensor = Tensor::full({kParameters}, 1.25, DType::kFloat32, stream);
      auto& group = name[0] == 'w' ? state.model : state.optimizer;
      group.push_back(StateTensor::whole(name, tensor));
      bytes += tensor.bytes();
    }
    const char* base = std::getenv("TUTTI_BENCH_DIR");
    config.dir = std::string(base != nullptr ? base : ".") + "/checkpoint_bench";
  }
  ~Training() { std::filesystem::remove_all(config.dir); }

  ThreadPool pool{1};
  Stream stream = Stream::inline_on(pool);
  TrainingState state;
  CheckpointConfig config;
  int64_t bytes = 0;
};

void save(benchmark::State& bench) {
  Training training;
  SinglePeer alone;
  Checkpoints checkpoints(training.config, alone, nullptr);
  int64_t step = 0;
  for (auto _ : bench) {
    const CheckpointReport report = checkpoints.save(training.state, {.step = ++step});
    if (!report.error.empty()) bench.SkipWithError(report.error.c_str());
  }
  bench.SetBytesProcessed(bench.iterations() * training.bytes);
}
BENCHMARK(save)->Unit(benchmark::kMillisecond)->UseRealTime();

void restore(benchmark::State& bench) {
  Training training;
  SinglePeer alone;
  Checkpoints checkpoints(training.config, alone, nullptr);
  (void)checkpoints.save(training.state, {.step = 1});
  for (auto _ : bench) benchmark::DoNotOptimize(checkpoints.restore(training.state));
  bench.SetBytesProcessed(bench.iterations() * training.bytes);
}
BENCHMARK(restore)->Unit(benchmark::kMillisecond)->UseRealTime();

void checksum(benchmark::State& bench) {
  Training training;
  const Tensor& tensor = training.state.model[0].data;
  for (auto _ : bench) benchmark::DoNotOptimize(params_sha256({{{"weight", tensor}}}));
  bench.SetBytesProcessed(bench.iterations() * tensor.bytes());
}
BENCHMARK(checksum)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
