// Bandwidth of the row kernels at the sizes of a small GPT (12 x 256 tokens, width 384) and of ResNet-18.
// bytes_per_second counts each tensor that must be read or written once; compare it with copy/... of a
// similar number of bytes and the same number of threads. Argument: threads; the dtype is in the name.
#include <tutti/core/tape.h>
#include <tutti/kernels/activation.h>
#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/pool.h>
#include <tutti/kernels/reduce.h>
#include <tutti/kernels/softmax.h>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>

namespace tutti {
namespace {

Tensor filled(const Shape& shape, DType dtype, const Stream& stream) {
  const Tensor t = Tensor::empty(shape, DType::kFloat32, stream);
  auto values = t.span<float>();
  uint32_t state = 1;
  for (float& v : values) {
    state = state * 1664525U + 1013904223U;
    v = static_cast<float>(state >> 8) * 0x1.0p-22F - 2.0F;
  }
  return t.to(dtype, stream);
}

using Op = std::function<Var(Tape&, const Var&)>;

struct Case {
  std::string name;
  Shape shape;
  Op op;
  double forward_bytes;   // per byte of x
  double backward_bytes;  // per byte of x, including dy and saved tensors
};

void run(benchmark::State& state, const Case& c, DType dtype, bool backward) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const Stream stream = Stream::inline_on(pool);
  const Tensor x = filled(c.shape, dtype, stream);
  Tensor dy;
  // The first passes fill the allocator's cache: page faults of new memory take many times as long as the
  // kernel.
  for (int pass = 0; pass < 2; ++pass) {
    Tape tape(stream, {.samples = c.shape[0]});
    tape.backward(c.op(tape, tape.variable(x)));
  }
  for (auto _ : state) {
    if (backward) state.PauseTiming();
    Tape tape(stream, {.samples = c.shape[0]});
    const Var in = tape.variable(x);
    Var y = c.op(tape, in);
    if (backward) {
      if (!dy.defined() || !dy.unique()) dy = Tensor::full(y.shape(), 0.5, y.dtype(), stream);
      const Var root(Tensor(y.value), y.node);
      y = Var{};
      Tensor gradient = dy.clone(stream);
      state.ResumeTiming();
      tape.backward(root, std::move(gradient));
    }
    benchmark::ClobberMemory();
  }
  const double bytes = static_cast<double>(x.bytes()) * (backward ? c.backward_bytes : c.forward_bytes);
  state.SetBytesProcessed(static_cast<int64_t>(bytes * static_cast<double>(state.iterations())));
}

void copy_bench(benchmark::State& state, int64_t bytes) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const Stream stream = Stream::inline_on(pool);
  const Tensor x = filled({bytes / 4}, DType::kFloat32, stream);
  const Tensor y = x.clone(stream);
  for (auto _ : state) {
    pool.parallel_ranges(bytes, int64_t{1} << 17, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(y.raw()) + begin, static_cast<const char*>(x.raw()) + begin,
                  static_cast<size_t>(end - begin));
    });
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(2 * bytes * state.iterations());
}

void register_all(const Stream& stream) {
  const auto w = [=](int64_t n, DType dtype) { return Var(Tensor::full({n}, 1, dtype, stream)); };
  const auto p = [=](Tape& t, int64_t n, DType dtype) {
    return t.variable(Tensor::full({n}, 1, dtype, stream));
  };
  const Tensor labels = Tensor::full({3072}, 7, DType::kInt32, stream);
  const Tensor few_labels = Tensor::full({256}, 7, DType::kInt32, stream);
  const Shape tokens{12, 256, 384};
  const Shape wide{12, 256, 1536};
  const Shape image{64, 14, 14, 128};
  std::vector<Case> cases = {
      {"add", tokens, [](Tape& t, const Var& x) { return add(t, x, Var(x.value)); }, 3, 0},
      {"add_bias", wide, [=](Tape& t, const Var& x) { return add(t, x, w(1536, x.dtype())); }, 2, 0},
      {"mul", tokens, [](Tape& t, const Var& x) { return mul(t, x, Var(x.value)); }, 3, 3},
      {"relu", wide, relu, 2, 3},
      {"gelu", wide, [](Tape& t, const Var& x) { return gelu(t, x); }, 2, 3},
      {"gelu_tanh", wide, [](Tape& t, const Var& x) { return gelu(t, x, GeluForm::kTanh); }, 2, 3},
      {"swiglu", {12, 256, 2048}, swiglu, 1.5, 2.5},
      {"dropout", tokens, [](Tape& t, const Var& x) { return dropout(t, x, 0.1, 1); }, 2, 2},
      {"layer_norm", tokens,
       [=](Tape& t, const Var& x) { return layer_norm(t, x, p(t, 384, x.dtype()), p(t, 384, x.dtype())); }, 2,
       3},
      {"rms_norm", tokens, [=](Tape& t, const Var& x) { return rms_norm(t, x, p(t, 384, x.dtype())); }, 2, 3},
      {"softmax", {3072, 256}, softmax, 2, 3},
      {"cross_entropy_4096",
       {3072, 4096},
       [=](Tape& t, const Var& x) { return cross_entropy(t, x, labels); },
       1,
       2},
      {"cross_entropy_50304",
       {256, 50304},
       [=](Tape& t, const Var& x) { return cross_entropy(t, x, few_labels); },
       1,
       2},
      {"sum_all", wide, [](Tape& t, const Var& x) { return sum(t, x); }, 1, 1},
      {"sum_rows", wide, [](Tape& t, const Var& x) { return sum(t, x, {2}); }, 1, 1},
      {"sum_columns", wide,
       [](Tape& t, const Var& x) {
         return sum(t, x, {0, 1});
       },
       1, 1},
      {"batch_norm_relu", image,
       [=](Tape& t, const Var& x) {
         const Var one = w(128, x.dtype());
         return batch_norm(t, x, p(t, 128, x.dtype()), p(t, 128, x.dtype()), one, one, {.relu = true});
       },
       3, 5},
      {"max_pool_2x2", image, [](Tape& t, const Var& x) { return max_pool2d(t, x); }, 1.375, 1.375},
      {"max_pool_3x3_s2", image,
       [](Tape& t, const Var& x) {
         return max_pool2d(t, x, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}});
       },
       1.375, 1.375},
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const Case& c : cases) {
      for (const bool backward : {false, true}) {
        if (backward && c.backward_bytes == 0) continue;
        const std::string name =
            c.name + (backward ? "/backward/" : "/forward/") + std::string(tutti::name(dtype));
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) { run(s, c, dtype, backward); })
            ->Arg(1)
            ->Arg(2)
            ->UseRealTime();
      }
    }
  }
  for (const int64_t megabytes : {2, 4, 18, 50}) {
    benchmark::RegisterBenchmark(
        ("copy/" + std::to_string(megabytes) + "MB").c_str(),
        [=](benchmark::State& s) { copy_bench(s, megabytes * 1000 * 1000 / 64 * 64); })
        ->Arg(1)
        ->Arg(2)
        ->UseRealTime();
  }
}

void embedding_bench(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const Stream stream = Stream::inline_on(pool);
  const bool backward = state.range(1) == 1;
  const Tensor table = filled({4096, 384}, DType::kFloat32, stream);
  const Tensor ids = Tensor::empty({12, 256}, DType::kInt32, stream);
  uint32_t random = 1;
  for (int32_t& id : ids.span<int32_t>()) {
    random = random * 1664525U + 1013904223U;
    id = static_cast<int32_t>(random >> 20);
  }
  const Tensor dy = filled({12, 256, 384}, DType::kFloat32, stream);
  for (auto _ : state) {
    if (backward) state.PauseTiming();
    Tape tape(stream);
    const Var y = embedding(tape, tape.variable(table), ids);
    if (backward) {
      Tensor gradient = dy.clone(stream);
      state.ResumeTiming();
      tape.backward(y, std::move(gradient));
    }
  }
  state.SetBytesProcessed((backward ? dy.bytes() + table.bytes() : 2 * dy.bytes()) * state.iterations());
}

}  // namespace
}  // namespace tutti

BENCHMARK(tutti::embedding_bench)
    ->ArgNames({"threads", "backward"})
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->UseRealTime();

int main(int argc, char** argv) {
  tutti::ThreadPool pool(1);
  tutti::register_all(tutti::Stream::inline_on(pool));
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
