#include "tests/gpu/on_both.h"

#include <tutti/kernels/attention.h>
#include "kernels/cuda/cudnn.h"

namespace tutti::test {
namespace {

class GpuAttention : public GpuTest {};

// Without a plan, attention is computed by blocks of matrix products, which is many times slower.
TEST_F(GpuAttention, CudnnHasPlansForTheModels) {
  if (cuda::device_info(0).capability < 80) GTEST_SKIP() << "bf16 attention of cuDNN needs sm_80";
  for (const auto& [heads, kv_heads, head_dim] :
       {std::array<int64_t, 3>{12, 12, 64}, {25, 25, 64}, {6, 6, 64}, {32, 8, 128}}) {
    AttentionProblem p{.batch = 4,
                       .positions = 1024,
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .scale = 0.125,
                       .saves = true};
    EXPECT_TRUE(cuda::cudnn_has_plan(p, gpu())) << key(p);
    p.backward = true;
    for (const bool deterministic : {false, true}) {
      p.deterministic = deterministic;
      EXPECT_TRUE(cuda::cudnn_has_plan(p, gpu())) << key(p);
    }
  }
}

TEST_F(GpuAttention, WithCache) {
  const AttentionConfig config{.heads = 6, .kv_heads = 2};
  const int64_t d = 16;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    SCOPED_TRACE(name(dtype));
    const Tensor keys = random.normal({2, 40, 2 * d}, 1, dtype);
    const Tensor values = random.normal({2, 40, 2 * d}, 1, dtype);
    for (const auto& [used, fresh] : {std::pair<int64_t, int64_t>{0, 9}, {9, 1}, {10, 30}}) {
      const Tensor qkv = random.normal({2, fresh, 10 * d}, 1, dtype);
      const auto run = [&](const Stream& on, DType as) {
        const Tensor k = keys.to(as, on).clone(on);
        const Tensor v = values.to(as, on).clone(on);
        return attention_with_cache(on, qkv.to(as, on), k, v, used, config).to(DType::kFloat64, stream());
      };
      const double tolerance = dtype == DType::kFloat32 ? 1e-4 : 3e-2;
      expect_close(run(gpu(), dtype), run(stream(), DType::kFloat64), tolerance, tolerance);
    }
  }
}

}  // namespace
}  // namespace tutti::test
