// Gated units. The rows of the other activations are in pointwise.cpp.
#include "kernels/cases/table.h"

#include <tutti/kernels/activation.h>

namespace tutti::cases {
namespace {

OpCase swiglu_row(const Shape& shape) {
  return make_case("swiglu", {normal(shape, 2)},
                   [](Tape& t, std::span<const Var> v) { return swiglu(t, v[0]); });
}

OpCase gated_row(const Shape& shape, Activation activation) {
  return make_case("gated", {normal(shape, 2)},
                   [=](Tape& t, std::span<const Var> v) { return gated(t, v[0], activation); })
      .with(activation == Activation::kGelu ? "gelu" : "gelu_tanh");
}

}  // namespace

void add_activation_rows(Rows& rows) {
  rows.push_back(swiglu_row({2, 3, 14}).for_checks(kDifferences));
  rows.push_back(swiglu_row({61, 2 * 333}).for_checks(kPrecisions));
  for (const Shape& shape : {Shape{3, 10}, Shape{65, 2 * 64}, Shape{5, 2 * 4099}, Shape{9, 2 * 2048}})
    rows.push_back(swiglu_row(shape).for_checks(kCuda));
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh}) {
    rows.push_back(gated_row({2, 3, 14}, activation).for_checks(kDifferences));
    rows.push_back(gated_row({61, 2 * 333}, activation).for_checks(kPrecisions));
    rows.push_back(gated_row({65, 2 * 64}, activation).for_checks(kCuda));
  }
}

void add_timed_activations(TimedRows& rows, const KernelSizes& s, double e) {
  const double one = count(s.tokens * s.width) * e;
  const Shape wide{s.tokens, 4 * s.width};
  rows.push_back({.name = "gelu",
                  .shape = size_text(wide),
                  .forward = {.bytes = 8 * one},
                  .backward = {.bytes = 12 * one},
                  .row = make_case("gelu", {normal(wide)}, [](Tape& t, std::span<const Var> v) {
                    return gelu(t, v[0], GeluForm::kTanh);
                  })});
  const Shape gated{s.tokens, 8 * s.width};
  rows.push_back({.name = "swiglu",
                  .shape = size_text(gated),
                  .forward = {.bytes = 12 * one},
                  .backward = {.bytes = 20 * one},
                  .row = swiglu_row(gated)});
}

}  // namespace tutti::cases
