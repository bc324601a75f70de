#pragma once

#include "tests/kernels/op_check.h"

#include "core/cuda/device.h"

#include <memory>

namespace tutti::test {

/// A fixture whose tests compare the CPU with the first CUDA device. Skipped, with the reason, where there is
/// none.
class GpuTest : public RandomTest {
 protected:
  static void SetUpTestSuite() {
    if (cuda::device_count() == 0) return;
    gpu_ = std::make_unique<Stream>(Stream::cuda(0));
    heuristic_gpu_ =
        std::make_unique<Stream>(Stream::cuda(0, Stream::Priority::kNormal, AlgorithmSelection::kHeuristic));
  }
  static void TearDownTestSuite() {
    heuristic_gpu_.reset();
    gpu_.reset();
  }
  void SetUp() override {
    if (gpu_ == nullptr) GTEST_SKIP() << "no GPU: " << cuda::why_no_device();
  }

  static const Stream& gpu() { return *gpu_; }
  /// One on which every bit is fixed.
  static const Stream& heuristic_gpu() { return *heuristic_gpu_; }

  /// Fills what the allocator will hand out next with NaN (0xff in every byte), so that an output that a
  /// kernel does not write shows up.
  static void poison(int64_t bytes) {
    std::vector<Tensor> blocks;
    for (const int64_t size : {int64_t{512}, int64_t{4096}, int64_t{65536}, bytes, bytes, bytes, 2 * bytes}) {
      for (int i = 0; i < 4; ++i) {
        blocks.push_back(Tensor::full({size}, 255, DType::kUInt8, gpu()));
      }
    }
  }

  /// Output and gradients of `f` on the GPU in every dtype are near those of the CPU in fp64, from the same
  /// rounded inputs, and the same bits in a second run.
  void compare(const Function& f, const std::vector<Tensor>& inputs, const Tolerance& tolerance = {},
               const StepContext& context = {}, const Stream& on = gpu()) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      const auto [again, first] = expect_near_in(dtype, f, inputs, tolerance, context, on);
      expect_same_bits(again(), first, fmt::format("{}: the second run", name(dtype)));
    }
  }

  struct OnGpu {
    std::function<Outcome()> again;
    Outcome first;
  };
  /// The same for one dtype, without a second run. Returns what the GPU gave, and what runs `f` there again.
  OnGpu expect_near_in(DType dtype, const Function& f, const std::vector<Tensor>& inputs,
                       const Tolerance& tolerance, const StepContext& context = {},
                       const Stream& on = gpu()) {
    std::vector<Tensor> rounded;
    std::vector<Tensor> there;
    for (const Tensor& input : inputs) {
      rounded.push_back(is_floating(input.dtype()) ? input.to(dtype, stream()) : input);
      there.push_back(rounded.back().to(rounded.back().dtype(), on));
    }
    Tape probe(stream(), context, Tape::Mode::kInference);
    std::vector<Var> vars;
    for (const Tensor& input : rounded) vars.emplace_back(input);
    const Tensor dy = random.normal(f(probe, vars).shape()).to(dtype, stream());
    const Outcome exact = run_op(f, rounded, dy, DType::kFloat64, stream(), context);
    const auto on_gpu = [=] {
      poison(dy.bytes());
      return back(run_op(f, there, dy.to(dtype, on), dtype, on, context));
    };
    OnGpu result{.again = on_gpu, .first = on_gpu()};
    expect_near(result.first, exact,
                dtype == DType::kFloat32    ? tolerance.fp32
                : dtype == DType::kBFloat16 ? tolerance.bf16
                                            : tolerance.fp64,
                fmt::format("{}: GPU against CPU", name(dtype)));
    return result;
  }

 private:
  static Outcome back(const Outcome& outcome) {
    Outcome result{.output = outcome.output.to(outcome.output.dtype(), stream()), .gradients = {}};
    for (const Tensor& g : outcome.gradients) {
      result.gradients.push_back(g.defined() ? g.to(g.dtype(), stream()) : Tensor());
    }
    return result;
  }
  inline static std::unique_ptr<Stream> gpu_, heuristic_gpu_;
};

}  // namespace tutti::test
