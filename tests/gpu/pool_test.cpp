#include "tests/gpu/on_both.h"

#include <tutti/kernels/pool.h>

namespace tutti::test {
namespace {

class GpuPool : public GpuTest {};

TEST_F(GpuPool, BothLayoutsOverlapAndPadding) {
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    for (const int64_t padding : {0, 1}) {
      for (const int64_t stride : {1, 2, 3}) {
        Pool2dOptions options;
        options.kernel = {3, 2};
        options.stride = {stride, 2};
        options.padding = {padding, padding};
        options.layout = layout;
        const Shape shape = layout == ImageLayout::kNhwc ? Shape{2, 11, 9, 37} : Shape{2, 37, 11, 9};
        // bf16 rounds alike on both sides: ties fall alike.
        const Tensor x = random.normal(shape);
        compare([&](Tape& t, const std::vector<Var>& v) { return max_pool2d(t, v[0], options); }, {x});
        for (const bool count : {true, false}) {
          options.count_padding = count;
          compare([&](Tape& t, const std::vector<Var>& v) { return avg_pool2d(t, v[0], options); }, {x});
        }
      }
    }
  }
}

TEST_F(GpuPool, GlobalAverage) {
  compare([](Tape& t, const std::vector<Var>& v) { return global_avg_pool(t, v[0], ImageLayout::kNhwc); },
          {random.normal({3, 7, 7, 130})});
}

}  // namespace
}  // namespace tutti::test
