#include "tests/gpu/on_both.h"

#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>

namespace tutti::test {
namespace {

class GpuNorm : public GpuTest {};

// Widths for a warp a row (1 to 3 packs a lane), a block a row, several packs a lane of a block, and rows
// that cannot be held: odd, unaligned from row to row, longer than a block holds.
TEST_F(GpuNorm, LayerAndRms) {
  for (const Shape& shape : {Shape{3, 256}, Shape{1, 301, 384}, Shape{2111, 768}, Shape{70, 1600},
                             Shape{5, 16384}, Shape{1000, 37}, Shape{3, 20001}, Shape{3, 40960}, Shape{7}}) {
    SCOPED_TRACE(to_string(shape));
    const Tensor x = random.normal(shape, 2);
    const Tensor w = random.normal({shape.back()});
    const Tensor b = random.normal({shape.back()});
    compare([](Tape& t, const std::vector<Var>& v) { return layer_norm(t, v[0], v[1], v[2], 1e-3); },
            {x, w, b});
    compare([](Tape& t, const std::vector<Var>& v) { return layer_norm(t, v[0], v[1], Var{}, 1e-3); },
            {x, w});
    compare([](Tape& t, const std::vector<Var>& v) { return rms_norm(t, v[0], v[1], 1e-3); }, {x, w});
  }
}

// The gradient of x is added to what is there already: x is input, bias and what the weight is made of.
TEST_F(GpuNorm, AddsToTheGradientOfItsInput) {
  for (const int64_t n : {768, 35}) {
    compare(
        [](Tape& t, const std::vector<Var>& v) {
          return layer_norm(t, v[0], rms_norm(t, v[0], v[1], 1e-2), v[0], 1e-2);
        },
        {random.normal({n}), random.normal({n})}, {.bf16 = 4e-2});
  }
}

TEST_F(GpuNorm, AddNorm) {
  for (const Shape& shape :
       {Shape{3, 256}, Shape{1111, 768}, Shape{33, 1600}, Shape{100, 37}, Shape{3, 40960}}) {
    SCOPED_TRACE(to_string(shape));
    const Tensor w = random.normal({shape.back()});
    compare(
        [](Tape& t, const std::vector<Var>& v) {
          const AddNorm r = add_layer_norm(t, v[0], v[1], v[2], v[3], 1e-3);
          return mul(t, r.sum, r.y);
        },
        {random.normal(shape), random.normal(shape), w, random.normal({shape.back()})}, {.bf16 = 4e-2});
    compare(
        [](Tape& t, const std::vector<Var>& v) {
          const AddNorm r = add_rms_norm(t, v[0], v[1], v[2], 1e-3);
          return mul(t, r.sum, r.y);
        },
        {random.normal(shape), random.normal(shape), w}, {.bf16 = 4e-2});
  }
}

TEST_F(GpuNorm, EmptyRows) {
  compare([](Tape& t, const std::vector<Var>& v) { return rms_norm(t, v[0], v[1]); },
          {Tensor::empty({0, 24}, DType::kFloat64, stream()), random.normal({24})});
}

}  // namespace
}  // namespace tutti::test
