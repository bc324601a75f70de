#pragma once

#include <tutti/core/tape.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

// One table of the ops, after ggml's test-backend-ops: a row names an op, draws its inputs and applies it.
// The table drives the checks of gradients and precisions (tests/kernels/ops_test.cpp), of CUDA against the
// CPU (tests/gpu/ops_test.cpp), under sanitizers too, and `tutti bench kernels`.
//
// It is a library of its own beside the ops: tests and the program link it, libtutti_kernels does not have it
// and it is not installed.
namespace tutti::cases {

/// An input of an op: its shape and what its elements are drawn from.
struct Input {
  enum class Draw : uint8_t {
    kNormal,    ///< mean 0, deviation `high`
    kUniform,   ///< in [low, high)
    kTwoSided,  ///< in [low, high), of either sign
    kIntegers,  ///< whole numbers in [low, high]
  };
  Shape shape;
  Draw draw = Draw::kNormal;
  double low = 0;
  double high = 1;
  DType dtype = DType::kFloat64;  ///< any floating type: that which the op is run in
  bool differentiable = true;     ///< whether backward gives the derivative to it; integers have none
  double share = 0;               ///< of elements that are `instead`
  double instead = 0;
};

Input normal(Shape shape, double deviation = 1);
Input uniform(Shape shape, double low, double high);
/// As uniform, of either sign: far from the kink of an activation.
Input two_sided(Shape shape, double low, double high);
/// Indices or labels in [low, high].
Input integers(Shape shape, int64_t low, int64_t high, DType dtype = DType::kInt32);
/// Floating inputs of few values: many of them are equal.
Input with_ties(Shape shape, int64_t low, int64_t high);
/// An input whose "gradient" is something else, or none.
Input not_differentiable(Input input);

/// Allowed |difference| / (|expected| + the largest |expected| of the tensor), by the dtype of the op, where
/// expected is computed in fp64 from the same rounded inputs.
struct Tolerance {
  double fp32 = 2e-5;
  double bf16 = 2e-2;
  double fp64 = 1e-12;
};

/// What a row is for: a sum of these.
enum Checks : uint8_t {
  kValues = 0,       ///< `element` alone, which every row with one is checked by
  kDifferences = 1,  ///< gradients in fp64 against differences
  kPrecisions = 2,   ///< fp32 and bf16 against fp64, with every instruction set and number of threads
  kCuda = 4,         ///< a CUDA device against the CPU
};

using Apply = std::function<Var(Tape&, std::span<const Var>)>;

/// One op at one size. Nothing is allocated before its inputs are drawn.
struct OpCase {
  std::string op;    ///< the public function
  std::string what;  ///< size and variant, unique among rows of an op
  std::vector<Input> inputs;
  Apply apply;
  int checks = kDifferences | kPrecisions | kCuda;
  Tolerance tolerance;
  StepContext context;
  /// Of the check against differences: relative error, and the elements of an input that are checked.
  double relative = 1e-6;
  int64_t max_elements = 64;
  bool kinks = false;  ///< a step of the difference may cross one
  /// On CUDA, the last bits follow the timing unless the stream's algorithm_selection() is kHeuristic.
  bool timing_chooses = false;
  /// For elementwise ops: an element of the result from those of the inputs, in fp64.
  std::function<double(std::span<const double>)> element;
  double element_error = 0;  ///< relative to 1 + |element|

  // Variants of a row: `norm_row({3, 5}).for_checks(kCuda)`.
  OpCase&& for_checks(int wanted) && {
    checks = wanted;
    return std::move(*this);
  }
  OpCase&& within(const Tolerance& allowed) && {
    tolerance = allowed;
    return std::move(*this);
  }
  OpCase&& in(const StepContext& given) && {
    context = given;
    return std::move(*this);
  }
  OpCase&& with(const std::string& variant) && {
    what += ", " + variant;
    return std::move(*this);
  }
};

/// Every row, in the order of the files beside this one.
std::vector<OpCase> op_cases();

/// The inputs' shapes, "(4, 3, 5) (3, 1)".
std::string shapes_text(std::span<const Input> inputs);

}  // namespace tutti::cases
