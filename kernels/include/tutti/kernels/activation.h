#pragma once

#include <tutti/core/tape.h>

// Activation functions, element by element. fp32, bf16 (computed in fp32) and fp64; the result has x's shape
// and dtype.
namespace tutti {

/// The activation that a linear layer applies to its result in the same pass over memory.
enum class Activation : uint8_t {
  kNone,
  kRelu,
  kGelu,      ///< with the error function
  kGeluTanh,  ///< GPT-2's approximation
  kSilu,
};

/// max(0, x); NaN stays NaN. The slope at 0 is 0. Saves the output.
Var relu(Tape& tape, const Var& x);

enum class GeluForm : uint8_t {
  kExact,  ///< x * Phi(x) with the error function
  kTanh,   ///< GPT-2's 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
};
/// Gaussian error linear unit. Saves the input. Source: Hendrycks & Gimpel 2016.
Var gelu(Tape& tape, const Var& x, GeluForm form = GeluForm::kExact);

/// x * sigmoid(x). Saves the input. Source: Elfwing et al. 2017.
Var silu(Tape& tape, const Var& x);

/// 1 / (1 + exp(-x)). Saves the output.
Var sigmoid(Tape& tape, const Var& x);

/// Saves the output.
Var tanh(Tape& tape, const Var& x);

/// The gated unit of Llama: x (..., 2H) is gate | up; silu(gate) * up, (..., H). Saves the input.
/// Throws Error if the last dim is odd. Source: Shazeer 2020, "GLU variants improve transformer".
Var swiglu(Tape& tape, const Var& x);

/// Any gated unit: x (..., 2H) is gate | up; activation(gate) * up, (..., H). kSilu is swiglu; kGeluTanh is
/// Gemma's. Saves the input. Throws Error if the last dim is odd, or the activation is kNone or kRelu.
Var gated(Tape& tape, const Var& x, Activation activation);

/// cap * tanh(x / cap): close to x for |x| far below the cap, bounded by it. Saves the output. Throws Error
/// unless cap is positive. Source: Bello et al. 2016, "Neural combinatorial optimization", for logits.
Var soft_cap(Tape& tape, const Var& x, double cap);

}  // namespace tutti
