#pragma once

#include "tests/kernels/op_check.h"

#include "core/cuda/device.h"
#include "core/cuda/runtime.h"

#include <memory>

namespace tutti::test {

/// The extent of a test's tensor on a GPU, or on the software device of the tests, which is many times
/// slower.
constexpr int64_t extent([[maybe_unused]] int64_t on_gpu, [[maybe_unused]] int64_t in_software) {
#if defined(TUTTI_SOFTWARE_DEVICE)
  return in_software;
#else
  return on_gpu;
#endif
}

/// A fixture for tests that compare the CPU with the first CUDA device. Tests are skipped, with the reason,
/// if there is none.
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
  /// A stream on which results do not depend on timing.
  static const Stream& heuristic_gpu() { return *heuristic_gpu_; }

  /// Fills the blocks that the allocator will return next with NaN (0xff in every byte), so that tests detect
  /// outputs that a kernel does not write.
  static void poison(int64_t bytes) {
    std::vector<Tensor> blocks;
    for (const int64_t size : {int64_t{512}, int64_t{4096}, int64_t{65536}, bytes, bytes, bytes, 2 * bytes}) {
      for (int i = 0; i < 4; ++i) {
        blocks.push_back(Tensor::empty({size}, DType::kUInt8, gpu()));
        cuda::check(
            cudaMemsetAsync(blocks.back().raw(), 0xff, static_cast<size_t>(size), cuda::native(gpu())),
            "poison");
      }
    }
  }

  /// Expects that output and gradients of `f` on the GPU, in every dtype, are close to those on the CPU in
  /// fp64 from the same rounded inputs, and have the same bits in a second run.
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
  /// The same for one dtype, without a second run. Returns the results of the GPU, and a function that runs
  /// `f` on it again.
  OnGpu expect_near_in(DType dtype, const Function& f, const std::vector<Tensor>& inputs,
                       const Tolerance& tolerance, const StepContext& context = {},
                       const Stream& on = gpu()) {
    std::vector<Tensor> rounded;
    std::vector<Tensor> gpu_inputs;
    for (const Tensor& input : inputs) {
      rounded.push_back(is_floating(input.dtype()) ? input.to(dtype, stream()) : input);
      gpu_inputs.push_back(rounded.back().to(rounded.back().dtype(), on));
    }
    Tape probe(stream(), context, Tape::Mode::kInference);
    std::vector<Var> vars;
    for (const Tensor& input : rounded) vars.emplace_back(input);
    const Tensor dy = random.normal(f(probe, vars).shape()).to(dtype, stream());
    const Outcome exact = run_op(f, rounded, dy, DType::kFloat64, stream(), context);
    const auto on_gpu = [=] {
      poison(dy.bytes());
      return back(run_op(f, gpu_inputs, dy.to(dtype, on), dtype, on, context));
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
