#include <tutti/kernels/fp8.h>

#include "kernels/linear_parts.h"

namespace tutti {
namespace {

LinearInput input_of(std::string_view op, const Fp8Input& x, const Stream& stream) {
  if (const auto* norm = std::get_if<DeferredNorm>(&x)) return norm->parts().input;
  return LinearInput::of(op, std::get<Var>(x), stream);
}

}  // namespace

bool takes_deferred_norm(const Tape& tape, const Var& x, const Var& w) {
  const Tensor& values = x.value;
  if (!values.defined() || values.dims() == 0 || values.size(-1) == 0 || !w.value.defined() ||
      w.value.dims() != 2)
    return false;
  return Fp8Pass::fuses(tape, {values.numel() / values.size(-1), w.value.size(1), w.value.size(0)});
}

Var fp8_linear(Tape& tape, const Fp8Input& x, const Var& w, const Var& bias, Activation activation,
               const Fp8Ranges& ranges) {
  return record_linear(tape, input_of("linear", x, tape.stream()), w, bias, activation, ranges);
}

Var fp8_mlp(Tape& tape, const Fp8Input& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
            Activation activation, const Fp8MlpRanges& ranges) {
  return record_mlp(tape, input_of("mlp", x, tape.stream()), {w1, b1, w2, b2}, activation, ranges);
}

Var fp8_linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                             const LinearCrossEntropyOptions& options, const Fp8Ranges& ranges) {
  return record_linear_cross_entropy(tape, x, w, targets, options, ranges);
}

}  // namespace tutti
