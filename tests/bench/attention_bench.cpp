// Causal attention, forward and backward. FLOPs are those of unmasked scores in 2 products in forward and 5
// in backward, which recomputes the scores.
#include <tutti/kernels/attention.h>

#include <tests/bench/side_by_side.h>

namespace tutti {
namespace {

struct Sizes {
  int64_t batch, tokens, heads, kv_heads, head_dim;
  explicit Sizes(const benchmark::State& s)
      : batch(s.range(0)),
        tokens(s.range(1)),
        heads(s.range(2)),
        kv_heads(s.range(3)),
        head_dim(s.range(4)) {}
  [[nodiscard]] Shape qkv() const { return {batch, tokens, (heads + 2 * kv_heads) * head_dim}; }
  [[nodiscard]] AttentionConfig config() const { return {.heads = heads, .kv_heads = kv_heads}; }
  /// FLOPs of one product.
  [[nodiscard]] double flops() const {
    return static_cast<double>(batch * heads * head_dim) * static_cast<double>(tokens * (tokens + 1));
  }
};

void report(benchmark::State& state, double flops, double seconds) {
  state.counters["GFLOP/s"] = flops / seconds * 1e-9;
}

void BM_attention_forward(benchmark::State& state, DType dtype) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const Sizes sizes(state);
  const Tensor qkv = Tensor::full(sizes.qkv(), 0.1, dtype, stream);
  double best = 1e9;
  for (auto _ : state) {
    const double begin = bench::now_s(1);
    Tape tape(stream, {}, Tape::Mode::kInference);
    benchmark::DoNotOptimize(attention(tape, Var(qkv), sizes.config()).value.raw());
    best = std::min(best, bench::now_s(1) - begin);
  }
  report(state, 2 * sizes.flops(), best);
}

void BM_attention_backward(benchmark::State& state, DType dtype) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const Sizes sizes(state);
  const Tensor qkv = Tensor::full(sizes.qkv(), 0.1, dtype, stream);
  const Tensor dy =
      Tensor::full({sizes.batch, sizes.tokens, sizes.heads * sizes.head_dim}, 0.1, dtype, stream);
  double best = 1e9;
  for (auto _ : state) {
    Tape tape(stream);
    const Var x = tape.variable(qkv);
    const Var y = attention(tape, x, sizes.config());
    const double begin = bench::now_s(1);
    tape.backward(y, dy);
    best = std::min(best, bench::now_s(1) - begin);
  }
  report(state, 5 * sizes.flops(), best);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"batch", "tokens", "heads", "kv_heads", "head_dim"})->Unit(benchmark::kMillisecond);
  b->Args({6, 256, 6, 6, 64})->Args({1, 1024, 12, 12, 64})->Args({1, 1024, 12, 4, 64});
}
BENCHMARK_CAPTURE(BM_attention_forward, fp32, DType::kFloat32)->Apply(sizes);
BENCHMARK_CAPTURE(BM_attention_backward, fp32, DType::kFloat32)->Apply(sizes);
BENCHMARK_CAPTURE(BM_attention_forward, bf16, DType::kBFloat16)->Apply(sizes);
BENCHMARK_CAPTURE(BM_attention_backward, bf16, DType::kBFloat16)->Apply(sizes);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
