// Convolutions of ResNet-18 on 28 x 28 images as the op calls them, compared with one direct convolution
// primitive of oneDNN for the whole batch on the same number of threads.
#include <oneapi/dnnl/dnnl.hpp>
#include "kernels/cpu/conv_backends.h"

#include <tests/bench/side_by_side.h>

#include <omp.h>

namespace tutti {
namespace {

using dnnl::memory;

enum Pass : int64_t { kForward, kInputGradient, kFilterGradient };

constexpr int64_t kImages = 32;

ConvShape layer(int64_t size, int64_t c, int64_t o, int64_t kernel, int64_t stride, DType dtype) {
  ConvShape s{.n = kImages, .h = size, .w = size, .c = c, .o = o, .kh = kernel, .kw = kernel};
  s.stride = {stride, stride};
  s.padding = {kernel / 2, kernel / 2};
  s.oh = s.ow = (size + 2 * (kernel / 2) - kernel) / stride + 1;
  s.dtype = dtype;
  return s;
}

/// The three tensors of a convolution.
struct Operands {
  Tensor x, w, y, dw;
  Operands(const ConvShape& s, const Stream& stream)
      : x(Tensor::full({s.n, s.h, s.w, s.c}, 0.5, s.dtype, stream)),
        w(Tensor::full({s.o, s.c, s.kh, s.kw}, 0.5, s.dtype, stream)),
        y(Tensor::full({s.n, s.oh, s.ow, s.o}, 0.5, s.dtype, stream)),
        dw(Tensor::zeros({s.o, s.c, s.kh, s.kw}, DType::kFloat32, stream)) {}
};

/// One direct convolution primitive for the whole batch, with filters in the layout that it prefers.
class BareConvolution {
 public:
  BareConvolution(const ConvShape& s, Pass pass, const Operands& operands)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const auto type = s.dtype == DType::kBFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::desc x({s.n, s.c, s.h, s.w}, type, memory::format_tag::nhwc);
    const memory::desc y({s.n, s.o, s.oh, s.ow}, type, memory::format_tag::nhwc);
    const memory::desc w({s.o, s.c, s.kh, s.kw}, type, memory::format_tag::any);
    const memory::desc dw({s.o, s.c, s.kh, s.kw}, memory::data_type::f32, memory::format_tag::any);
    const memory::dims stride{s.stride[0], s.stride[1]};
    const memory::dims padding_begin{s.padding[0], s.padding[1]};
    const auto rest = [&](int64_t size, int64_t out, int64_t kernel, size_t i) {
      return (out - 1) * s.stride[i] + kernel - size - s.padding[i];
    };
    const memory::dims padding_end{rest(s.h, s.oh, s.kh, 0), rest(s.w, s.ow, s.kw, 1)};
    constexpr auto kDirect = dnnl::algorithm::convolution_direct;
    constexpr auto kTraining = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::convolution_forward::primitive_desc forward(engine_, kTraining, kDirect, x, w, y, stride,
                                                            padding_begin, padding_end);
    const auto data = [&] {
      return dnnl::convolution_backward_data::primitive_desc(engine_, kDirect, x, w, y, stride, padding_begin,
                                                             padding_end, forward);
    };
    const auto weights = [&] {
      return dnnl::convolution_backward_weights::primitive_desc(engine_, kDirect, x, dw, y, stride,
                                                                padding_begin, padding_end, forward);
    };
#else
    const dnnl::convolution_forward::primitive_desc forward(
        {kTraining, kDirect, x, w, y, stride, padding_begin, padding_end}, engine_);
    const auto data = [&] {
      return dnnl::convolution_backward_data::primitive_desc(
          {kDirect, x, w, y, stride, padding_begin, padding_end}, engine_, forward);
    };
    const auto weights = [&] {
      return dnnl::convolution_backward_weights::primitive_desc(
          {kDirect, x, dw, y, stride, padding_begin, padding_end}, engine_, forward);
    };
#endif
    const auto at = [&](const memory::desc& description, const Tensor& tensor) {
      return memory(description, engine_, tensor.raw());
    };
    switch (pass) {
      case kForward:
        primitive_ = dnnl::convolution_forward(forward);
        arguments_ = {{DNNL_ARG_SRC, at(x, operands.x)},
                      {DNNL_ARG_WEIGHTS, memory(forward.weights_desc(), engine_)},
                      {DNNL_ARG_DST, at(y, operands.y)}};
        return;
      case kInputGradient:
        primitive_ = dnnl::convolution_backward_data(data());
        arguments_ = {{DNNL_ARG_DIFF_SRC, at(x, operands.x)},
                      {DNNL_ARG_WEIGHTS, memory(data().weights_desc(), engine_)},
                      {DNNL_ARG_DIFF_DST, at(y, operands.y)}};
        return;
      case kFilterGradient:
        primitive_ = dnnl::convolution_backward_weights(weights());
        arguments_ = {{DNNL_ARG_SRC, at(x, operands.x)},
                      {DNNL_ARG_DIFF_WEIGHTS, memory(weights().diff_weights_desc(), engine_)},
                      {DNNL_ARG_DIFF_DST, at(y, operands.y)}};
        return;
    }
  }

  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, memory> arguments_;
};

void BM_conv(benchmark::State& state, DType dtype, int threads) {
  ThreadPool pool(threads);
  const Stream stream = Stream::inline_on(pool);
  const auto pass = Pass(state.range(0));
  const ConvShape s =
      layer(state.range(1), state.range(2), state.range(3), state.range(4), state.range(5), dtype);
  const Operands operands(s, stream);
  const ConvBackend* const chosen = cpu::onednn_conv(dtype);
  const ConvBackend& backend = chosen != nullptr ? *chosen : cpu::im2col_conv();
  omp_set_num_threads(threads);
  BareConvolution bare(s, pass, operands);
  const double flops = 2.0 * static_cast<double>(s.n * s.oh * s.ow * s.o * s.c * s.kh * s.kw);
  const auto ours = [&] {
    if (pass == kForward) return backend.forward(s, operands.x, operands.w, operands.y, stream);
    if (pass == kInputGradient) return backend.backward_data(s, operands.y, operands.w, operands.x, stream);
    backend.backward_weights(s, operands.y, operands.x, operands.dw, GradMode::kOverwrite, stream);
  };
  bench::side_by_side(state, threads, flops, ours, [&] {
    omp_set_num_threads(threads);  // `ours` sets it to one for this thread
    bare.run();
    omp_set_num_threads(1);
  });
}

void layers(benchmark::internal::Benchmark* b) {
  b->ArgNames({"pass", "size", "in", "out", "kernel", "stride"})
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
  for (const int64_t pass : {kForward, kInputGradient, kFilterGradient}) {
    b->Args({pass, 28, 64, 64, 3, 1});
    b->Args({pass, 28, 64, 128, 3, 2});
    b->Args({pass, 28, 64, 128, 1, 2});
    b->Args({pass, 14, 128, 128, 3, 1});
    b->Args({pass, 14, 128, 256, 3, 2});
    b->Args({pass, 7, 256, 256, 3, 1});
    b->Args({pass, 7, 256, 512, 3, 2});
    b->Args({pass, 4, 512, 512, 3, 1});
  }
}
BENCHMARK_CAPTURE(BM_conv, fp32_1_thread, DType::kFloat32, 1)->Apply(layers);
BENCHMARK_CAPTURE(BM_conv, fp32_2_threads, DType::kFloat32, 2)->Apply(layers);
BENCHMARK_CAPTURE(BM_conv, bf16_1_thread, DType::kBFloat16, 1)->Apply(layers);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
