#include <tutti/kernels/pointwise.h>

#include "kernels/map.h"

namespace tutti {

Var neg(Tape& tape, const Var& x) {
  return map(tape, "neg", x, row::Neg{});
}
Var exp(Tape& tape, const Var& x) {
  return map(tape, "exp", x, row::Exp{});
}
Var log(Tape& tape, const Var& x) {
  return map(tape, "log", x, row::Log{});
}
Var sqrt(Tape& tape, const Var& x) {
  return map(tape, "sqrt", x, row::Sqrt{});
}
Var square(Tape& tape, const Var& x) {
  return map(tape, "square", x, row::Square{});
}
Var scale(Tape& tape, const Var& x, double factor) {
  return map(tape, "scale", x, row::Scale{factor});
}
Var add_scalar(Tape& tape, const Var& x, double constant) {
  return map(tape, "add_scalar", x, row::AddScalar{constant});
}

}  // namespace tutti
