// Bytes per second of splitting, encoding, decoding and training, on the file in TUTTI_BENCH_TEXT, else on
// the King James Bible as printed by the program `bible`.
#include <benchmark/benchmark.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/data/split.h"

#include <cstdio>
#include <cstdlib>

namespace tutti {
namespace {

std::string read_bible() {
  std::string text;
  if (FILE* pipe = popen("bible -f 'gen1:1-rev22:21'", "r")) {
    char buffer[1 << 16];
    for (size_t n = fread(buffer, 1, sizeof buffer, pipe); n > 0; n = fread(buffer, 1, sizeof buffer, pipe)) {
      text.append(buffer, n);
    }
    pclose(pipe);
  }
  return text;
}

const std::string& book() {
  static const std::string text = [] {
    const char* file = std::getenv("TUTTI_BENCH_TEXT");
    std::string all = file != nullptr ? read_text_file(file, int64_t{1} << 32) : read_bible();
    require(!all.empty(), "tokenizer bench: no text; set TUTTI_BENCH_TEXT or install bible-kjv");
    return all;
  }();
  return text;
}

Tokenizer train(int64_t vocabulary) {
  ThreadPool pool(1);
  const std::vector<std::string_view> texts{book()};
  return train_bpe(texts, {.vocabulary = vocabulary}, pool);
}

void report_bytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(book().size()));
}

void BM_split(benchmark::State& state) {
  const std::string& text = book();
  for (auto _ : state) {
    size_t words = 0;
    for (size_t begin = 0; begin < text.size(); begin = word_end(text, begin)) ++words;
    benchmark::DoNotOptimize(words);
  }
  report_bytes(state);
}
BENCHMARK(BM_split)->Unit(benchmark::kMillisecond);

/// A new encoder each time, so that its cache is empty.
void BM_encode(benchmark::State& state) {
  const Tokenizer tokenizer = train(state.range(0));
  std::vector<int32_t> ids;
  for (auto _ : state) {
    ids.clear();
    TokenEncoder(tokenizer).encode(book(), ids);
    benchmark::DoNotOptimize(ids.data());
  }
  report_bytes(state);
  state.counters["bytes_per_token"] = static_cast<double>(book().size()) / static_cast<double>(ids.size());
}
BENCHMARK(BM_encode)->Arg(512)->Arg(4096)->Arg(32768)->Unit(benchmark::kMillisecond);

void BM_decode(benchmark::State& state) {
  const Tokenizer tokenizer = train(4096);
  const std::vector<int32_t> ids = tokenizer.encode(book());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids).data());
  report_bytes(state);
}
BENCHMARK(BM_decode)->Unit(benchmark::kMillisecond);

void BM_train_bpe(benchmark::State& state) {
  (void)book();
  for (auto _ : state) benchmark::DoNotOptimize(train(state.range(0)).vocabulary());
  report_bytes(state);
}
BENCHMARK(BM_train_bpe)->Arg(4096)->Arg(16384)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
