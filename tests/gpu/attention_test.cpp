#include "tests/gpu/on_both.h"

#include <tutti/kernels/attention.h>
#include "core/tuning/autotune_cache.h"
#include "kernels/cuda/cudnn.h"

namespace tutti::test {
namespace {

/// Results of which every bit is fixed.
class GpuAttention : public GpuTest {
 protected:
  void SetUp() override {
    set_algorithm_selection(AlgorithmSelection::kHeuristic);
    GpuTest::SetUp();
  }
  void TearDown() override { set_algorithm_selection(AlgorithmSelection::kAutotuned); }
};

struct Case {
  int64_t batch, positions, head_dim;
  AttentionConfig config;
};

std::vector<Case> cases() {
  return {{2, 1, 8, {.heads = 1, .kv_heads = 1}},    {2, 37, 16, {.heads = 3, .kv_heads = 3}},
          {1, 64, 64, {.heads = 4, .kv_heads = 4}},  {2, 129, 64, {.heads = 6, .kv_heads = 2}},
          {1, 300, 32, {.heads = 4, .kv_heads = 1}}, {2, 77, 24, {.heads = 2, .kv_heads = 2, .scale = 0.3}},
          {1, 50, 7, {.heads = 4, .kv_heads = 2}},   {1, 1024, 64, {.heads = 2, .kv_heads = 2}}};
}

TEST_F(GpuAttention, AsOnTheCpu) {
  for (Case c : cases()) {
    for (const bool causal : {true, false}) {
      c.config.causal = causal;
      SCOPED_TRACE(fmt::format("{} x {}, {} heads of {} over {}, {}", c.batch, c.positions, c.config.heads,
                               c.head_dim, c.config.kv_heads, causal ? "causal" : "full"));
      const int64_t width = (c.config.heads + 2 * c.config.kv_heads) * c.head_dim;
      compare([&](Tape& t, const std::vector<Var>& v) { return attention(t, v[0], c.config); },
              {random.normal({c.batch, c.positions, width})}, {.fp32 = 5e-5, .bf16 = 3e-2, .fp64 = 1e-11});
    }
  }
}

// The faster way, whose sums may follow the timing.
TEST_F(GpuAttention, NearTheCpuWhenBitsAreFree) {
  set_algorithm_selection(AlgorithmSelection::kAutotuned);
  for (const Case& c : cases()) {
    SCOPED_TRACE(fmt::format("{} x {}, {} heads of {}", c.batch, c.positions, c.config.heads, c.head_dim));
    const int64_t width = (c.config.heads + 2 * c.config.kv_heads) * c.head_dim;
    const Function f = [&](Tape& t, const std::vector<Var>& v) { return attention(t, v[0], c.config); };
    const Tensor qkv = random.normal({c.batch, c.positions, width}, 1, DType::kBFloat16);
    const Tensor dy = random.normal({c.batch, c.positions, c.config.heads * c.head_dim}, 1, DType::kBFloat16);
    const Outcome exact = run_op(f, {qkv}, dy, DType::kFloat64, stream());
    poison(qkv.bytes());
    Outcome actual =
        run_op(f, {qkv.to(DType::kBFloat16, gpu())}, dy.to(DType::kBFloat16, gpu()), DType::kBFloat16, gpu());
    actual.output = actual.output.to(DType::kBFloat16, stream());
    for (Tensor& g : actual.gradients) g = g.to(g.dtype(), stream());
    expect_near(actual, exact, 3e-2, "GPU against CPU");
  }
}

// Without a plan, attention goes by blocks of matrix products: right, but many times slower.
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
    EXPECT_TRUE(cuda::cudnn_has_plan(p, 0)) << key(p);
    p.backward = true;
    for (const bool deterministic : {false, true}) {
      p.deterministic = deterministic;
      EXPECT_TRUE(cuda::cudnn_has_plan(p, 0)) << key(p);
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
