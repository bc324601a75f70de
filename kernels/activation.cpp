#include <tutti/kernels/activation.h>

#include "kernels/map.h"

namespace tutti {

Var relu(Tape& tape, const Var& x) {
  return map(tape, "relu", x, row::Relu{});
}

Var gelu(Tape& tape, const Var& x, GeluForm form) {
  if (form == GeluForm::kTanh) return map(tape, "gelu", x, row::GeluTanh{});
  return map(tape, "gelu", x, row::Gelu{});
}

Var silu(Tape& tape, const Var& x) {
  return map(tape, "silu", x, row::Silu{});
}

Var sigmoid(Tape& tape, const Var& x) {
  return map(tape, "sigmoid", x, row::Sigmoid{});
}

Var tanh(Tape& tape, const Var& x) {
  return map(tape, "tanh", x, row::Tanh{});
}

Var soft_cap(Tape& tape, const Var& x, double cap) {
  require(cap > 0, "soft_cap: cap {} is not positive", cap);
  return map(tape, "soft_cap", x, row::SoftCap{cap});
}

}  // namespace tutti
