// Samples per second of the data sets and the sampler, read by one thread. Token shards have pseudo-random
// ids; images are Fashion-MNIST as installed by Debian.
#include <benchmark/benchmark.h>
#include <tutti/core/data/idx.h>
#include <tutti/core/data/sampler.h>
#include <tutti/core/data/token_dataset.h>
#include <tutti/core/data/token_writer.h>

#include <unistd.h>

#include <filesystem>

namespace tutti {
namespace {

void read_batches(benchmark::State& state, const Dataset& data, int64_t batch) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const Sampler sampler(data.size(), batch, SampleOrder::kShuffled, 1);
  int64_t step = 0;
  int64_t samples = 0;
  for (auto _ : state) {
    samples += sampler.samples(step);
    benchmark::DoNotOptimize(
        data.read(sampler.ids(step), {1, static_cast<uint64_t>(sampler.epoch_of(step))}, stream));
    ++step;
  }
  state.SetItemsProcessed(samples * (data.sample_shape().size() == 1 ? data.sample_shape()[0] : 1));
}

/// Items are tokens.
void BM_token_batch(benchmark::State& state) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("tutti_data_bench_" + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  TokenShardWriter writer(directory, "train", {4096, "none"}, 1 << 20);
  std::vector<int32_t> ids(1 << 22);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 2654435761U >> 20) & 4095;
  writer.add(ids);
  std::vector<TokenShard> shards;
  for (const auto& shard : writer.finish().shards) shards.push_back(TokenShard::open(directory / shard.file));
  read_batches(state, TokenDataset(TokenCorpus(std::move(shards)), 256), 12);
  std::filesystem::remove_all(directory);
}
BENCHMARK(BM_token_batch);

/// Items are images, cropped and flipped.
void BM_image_batch(benchmark::State& state) {
  const ImageDataset data(IdxImages::from_directory("/usr/share/datasets/fashion-mnist", "t10k"),
                          {.crop_padding = 2, .flip = true, .mean = {0.286}, .deviation = {0.353}},
                          Augment::kOn);
  read_batches(state, data, 128);
}
BENCHMARK(BM_image_batch);

void BM_permutation(benchmark::State& state) {
  const Permutation permutation(state.range(0), {.seed = 1});
  int64_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(permutation(i));
    if (++i == state.range(0)) i = 0;
  }
}
BENCHMARK(BM_permutation)->Arg(1000)->Arg(1'000'003)->Arg(10'000'000'000);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
