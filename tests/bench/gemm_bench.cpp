// Matrix products of the linear layers of a GPT of width 384 as the ops call them, compared with one oneDNN
// matmul primitive for the whole product on the same number of threads.
#include <oneapi/dnnl/dnnl.hpp>
#include "kernels/cpu/blas.h"

#include <tests/bench/side_by_side.h>

#include <omp.h>

#include <memory>

namespace tutti {
namespace {

enum Pass : int64_t { kForward, kInputGradient, kWeightGradient };

/// y = x w^T, dx = dy w or dw = dy^T x of a layer.
Gemm layer_product(Pass pass, int64_t tokens, int64_t inputs, int64_t outputs, DType dtype) {
  switch (pass) {
    case kForward:
      return {.m = tokens,
              .n = outputs,
              .k = inputs,
              .dtype = dtype,
              .a = {nullptr, inputs},
              .b = {nullptr, inputs, true},
              .ldc = outputs,
              .c_dtype = dtype};
    case kInputGradient:
      return {.m = tokens,
              .n = inputs,
              .k = outputs,
              .dtype = dtype,
              .a = {nullptr, outputs},
              .b = {nullptr, inputs},
              .ldc = inputs,
              .c_dtype = dtype};
    case kWeightGradient:
      return {.m = outputs,
              .n = inputs,
              .k = tokens,
              .dtype = dtype,
              .a = {nullptr, outputs, true},
              .b = {nullptr, inputs},
              .ldc = inputs,
              .c_dtype = DType::kFloat32};
  }
  fail("unknown pass {}", static_cast<int64_t>(pass));
}

/// One primitive for the whole product.
class BareProduct {
 public:
  explicit BareProduct(const Gemm& g)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), arguments_(), primitive_(make(g)) {}

  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::matmul make(const Gemm& g) {
    using dims = dnnl::memory::dims;
    const auto type = [](DType dtype) {
      return dtype == DType::kBFloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
    };
    const auto layout = [](const MatrixOperand& m) { return m.transposed ? dims{1, m.ld} : dims{m.ld, 1}; };
    const dnnl::memory::desc a({g.m, g.k}, type(g.dtype), layout(g.a));
    const dnnl::memory::desc b({g.k, g.n}, type(g.dtype), layout(g.b));
    const dnnl::memory::desc c({g.m, g.n}, type(g.c_dtype), dims{g.ldc, 1});
    const auto fresh = [&](const dnnl::memory::desc& description, const void* data) {
      return dnnl::memory(description, engine_, const_cast<void*>(data));
    };
    arguments_ = {{DNNL_ARG_SRC, fresh(a, g.a.data)},
                  {DNNL_ARG_WEIGHTS, fresh(b, g.b.data)},
                  {DNNL_ARG_DST, fresh(c, g.c)}};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::matmul({engine_, a, b, c});
#else
    return dnnl::matmul({dnnl::matmul::desc(a, b, c), engine_});
#endif
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::unordered_map<int, dnnl::memory> arguments_;
  dnnl::matmul primitive_;
};

void BM_gemm(benchmark::State& state, DType dtype, int threads) {
  ThreadPool pool(threads);
  const Stream stream = Stream::inline_on(pool);
  Gemm g = layer_product(Pass(state.range(0)), state.range(1), state.range(2), state.range(3), dtype);
  const Tensor a = Tensor::full({g.m * g.k}, 0.5, dtype, stream);
  const Tensor b = Tensor::full({g.k * g.n}, 0.5, dtype, stream);
  const Tensor c = Tensor::zeros({g.m * g.n}, g.c_dtype, stream);
  g.a.data = a.raw();
  g.b.data = b.raw();
  g.c = c.raw();
  omp_set_num_threads(threads);
  BareProduct bare(g);
  const auto set_and_run_bare = [&] {
    omp_set_num_threads(threads);  // cpu::gemm sets it to one for this thread
    bare.run();
    omp_set_num_threads(1);
  };
  const double flops = 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k);
  bench::side_by_side(
      state, threads, flops, [&] { cpu::gemm(g, stream); }, set_and_run_bare);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"pass", "tokens", "in", "out"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int64_t tokens : {768, 1536, 3072}) {
    for (const auto& [in, out] :
         {std::pair<int64_t, int64_t>{384, 1152}, {384, 384}, {384, 1536}, {1536, 384}, {384, 4096}}) {
      for (const int64_t pass : {kForward, kInputGradient, kWeightGradient}) b->Args({pass, tokens, in, out});
    }
  }
}
BENCHMARK_CAPTURE(BM_gemm, fp32_1_thread, DType::kFloat32, 1)->Apply(shapes);
BENCHMARK_CAPTURE(BM_gemm, fp32_2_threads, DType::kFloat32, 2)->Apply(shapes);
BENCHMARK_CAPTURE(BM_gemm, bf16_1_thread, DType::kBFloat16, 1)->Apply(shapes);
BENCHMARK_CAPTURE(BM_gemm, bf16_2_threads, DType::kBFloat16, 2)->Apply(shapes);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
