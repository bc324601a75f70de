#include "tests/gpu/on_both.h"

#include <tutti/kernels/dropout.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/rotary.h>

namespace tutti::test {
namespace {

class GpuSequence : public GpuTest {};

TEST_F(GpuSequence, Rotary) {
  for (const int64_t head_dim : {2, 6, 64, 128}) {
    const RotaryConfig config{.heads = 4, .kv_heads = 2, .base = 10000, .first_position = 3000};
    compare([&](Tape& t, const std::vector<Var>& v) { return rotary(t, v[0], config); },
            {random.normal({2, 37, 8 * head_dim})});
  }
  using Kind = RotaryScaling::Kind;
  for (const Kind kind : {Kind::kLinear, Kind::kLlama3, Kind::kYarn}) {
    const RotaryConfig config{.heads = 4,
                              .kv_heads = 2,
                              .base = 10000,
                              .scaling = {.kind = kind, .factor = 8, .original_context = 512},
                              .first_position = 3000};
    compare([&](Tape& t, const std::vector<Var>& v) { return rotary(t, v[0], config); },
            {random.normal({2, 37, 8 * 64})});
  }
}

TEST_F(GpuSequence, DropoutDropsWhatTheCpuDrops) {
  // Whole packs, and samples whose ends cut packs and blocks of random words.
  for (const int64_t per_sample : {1024, 1021, 4, 3}) {
    const StepContext context{.seed = 5, .step = 17, .first_sample = 1000, .samples = 6};
    compare([](Tape& t, const std::vector<Var>& v) { return dropout(t, v[0], 0.3, 99); },
            {random.uniform({6, per_sample}, 1, 2)}, {}, context);
  }
}

// Few tokens: runs over many pieces; many: runs inside one.
TEST_F(GpuSequence, Embedding) {
  for (const int64_t vocabulary : {1, 3, 50, 5000}) {
    for (const int64_t width : {1, 37, 768}) {
      for (const int64_t count : {1, 33, 64, 1501}) {
        SCOPED_TRACE(fmt::format("{} tokens of {}, width {}", count, vocabulary, width));
        const Tensor tokens =
            random.integers({count}, 0, vocabulary - 1, count % 2 == 0 ? DType::kInt64 : DType::kInt32);
        compare([&](Tape& t, const std::vector<Var>& v) { return embedding(t, v[0], tokens); },
                {random.normal({vocabulary, width})});
      }
    }
  }
}

}  // namespace
}  // namespace tutti::test
