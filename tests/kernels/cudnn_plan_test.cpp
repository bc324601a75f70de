// Whether cuDNN has plans for the models' shapes on an H100, which is given by its description. An operation
// without a plan is correct but many times slower, which no other test detects.
#include <tutti/core/error.h>
#include "kernels/cuda/cudnn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace tutti {
namespace {

constexpr const char* kH100 = R"({
  "deviceName": "NVIDIA H100 80GB HBM3", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0,
  "isTccDriver": 0, "supportCoopLaunch": 1, "multiProcessorCount": 132, "warpSize": 32,
  "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "maxThreadsPerBlock": 1024,
  "maxThreadsPerSM": 2048, "maxCtasPerSM": 32, "regsPerBlock": 65536, "maxRegistersPerSM": 65536,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
  "totalGlobalMem": 85029158912, "l2CacheSize": 52428800, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000})";

class CudnnPlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      const AttentionProblem any{.batch = 1, .positions = 64, .heads = 1, .kv_heads = 1, .head_dim = 64};
      (void)cuda::cudnn_why_no_plan(any, kH100, 90);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  static void expect_plan(const CudnnProblem& problem) {
    EXPECT_EQ(cuda::cudnn_why_no_plan(problem, kH100, 90), "") << key(problem);
  }
};

TEST_F(CudnnPlanTest, AttentionOfTheModels) {
  for (const auto& [batch, heads, kv_heads, head_dim] :
       {std::array<int64_t, 4>{64, 12, 12, 64}, {16, 25, 25, 64}, {4, 32, 8, 128}}) {
    AttentionProblem p{.batch = batch,
                       .positions = 1024,
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .scale = 0.125};
    expect_plan(p);
    p.saves = true;
    expect_plan(p);
    p.backward = true;
    for (const bool deterministic : {false, true}) {
      p.deterministic = deterministic;
      expect_plan(p);
    }
  }
}

TEST_F(CudnnPlanTest, ConvolutionsOfResNet) {
  struct Case {
    int64_t side, inputs, outputs, kernel, stride;
  };
  for (const Case& c : {Case{224, 3, 64, 7, 2}, Case{56, 64, 64, 3, 1}, Case{56, 64, 256, 1, 1},
                        Case{56, 256, 512, 1, 2}, Case{14, 256, 256, 3, 1}}) {
    const int64_t padding = c.kernel / 2;
    const int64_t out = (c.side + 2 * padding - c.kernel) / c.stride + 1;
    for (const DType dtype : {DType::kBFloat16, DType::kFloat32}) {
      ConvProblem p{.weights = dtype};
      p.shape.dtype = dtype;
      p.shape.n = 256;
      p.shape.h = p.shape.w = c.side;
      p.shape.c = c.inputs;
      p.shape.o = c.outputs;
      p.shape.oh = p.shape.ow = out;
      p.shape.kh = p.shape.kw = c.kernel;
      p.shape.stride = {c.stride, c.stride};
      p.shape.padding = {padding, padding};
      for (const ConvPass pass : {ConvPass::kForward, ConvPass::kData, ConvPass::kWeights}) {
        p.pass = pass;
        expect_plan(p);
      }
    }
  }
}

// Such problems are computed by attention_by_blocks.
TEST_F(CudnnPlanTest, NoPlanForOddHeads) {
  const AttentionProblem p{.batch = 1, .positions = 50, .heads = 4, .kv_heads = 2, .head_dim = 7};
  EXPECT_NE(cuda::cudnn_why_no_plan(p, kH100, 90), "");
}

}  // namespace
}  // namespace tutti
