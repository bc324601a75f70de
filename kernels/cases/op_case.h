#pragma once

#include <tutti/core/tape.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

// The table of all ops, like ggml's test-backend-ops: each row names an op, describes its inputs and applies
// it. The table is used by the checks of gradients and precisions (tests/kernels/ops_test.cpp), of CUDA
// against the CPU (tests/gpu/ops_test.cpp), and by `tutti bench kernels`.
//
// It is a separate library, which tests and the tutti program link. It is not part of libtutti_kernels and is
// not installed.
namespace tutti::cases {

/// An input of an op: its shape and the distribution of its elements.
struct Input {
  enum class Draw : uint8_t {
    kNormal,    ///< mean 0, deviation `high`
    kUniform,   ///< in [low, high)
    kTwoSided,  ///< in [low, high), of either sign
    kIntegers,  ///< integers in [low, high]
  };
  Shape shape;
  Draw draw = Draw::kNormal;
  double low = 0;
  double high = 1;
  DType dtype = DType::kFloat64;  ///< floating inputs are converted to the dtype that the op is run in
  bool differentiable = true;     ///< whether its gradient is the derivative; integers have none
  double replaced_share = 0;      ///< share of elements that are `replacement`
  double replacement = 0;
};

Input normal(Shape shape, double deviation = 1);
Input uniform(Shape shape, double low, double high);
/// Like uniform, with either sign: away from the kink of an activation.
Input two_sided(Shape shape, double low, double high);
/// Indices or labels in [low, high].
Input integers(Shape shape, int64_t low, int64_t high, DType dtype = DType::kInt32);
/// A floating input with integer values, many of which are equal.
Input with_ties(Shape shape, int64_t low, int64_t high);
/// The input, without a gradient or with a "gradient" that is not the derivative.
Input not_differentiable(Input input);

/// Maximum |difference| / (|expected| + the largest |expected| of the tensor), by the dtype of the op;
/// `expected` is computed in fp64 from the same rounded inputs.
struct Tolerance {
  double fp32 = 2e-5;
  double bf16 = 2e-2;
  double fp64 = 1e-12;
};

/// The checks of a row, as a sum. Rows with `element` are also checked against it.
enum Checks : uint8_t {
  kValues = 0,       ///< against `element` only
  kDifferences = 1,  ///< gradients in fp64 against finite differences
  kPrecisions = 2,   ///< fp32 and bf16 against fp64, with every instruction set and number of threads
  kCuda = 4,         ///< a CUDA device against the CPU
};

using Apply = std::function<Var(Tape&, std::span<const Var>)>;

/// One op at one size. Allocates no memory until its inputs are drawn.
struct OpCase {
  std::string op;    ///< the public function
  std::string what;  ///< size and variant, unique among rows of an op
  std::vector<Input> inputs;
  Apply apply;
  int checks = kDifferences | kPrecisions | kCuda;
  Tolerance tolerance;
  StepContext context;
  /// For kDifferences: maximum relative error, and maximum number of elements of an input that are checked.
  double relative = 1e-6;
  int64_t max_elements = 64;
  bool kinks = false;  ///< a step of the finite difference may cross a kink
  /// On CUDA, the last bits may depend on timing unless the stream's algorithm_selection() is kHeuristic.
  bool depends_on_timing = false;
  /// For elementwise ops: computes an element of the result from those of the inputs, in fp64.
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

/// All rows.
std::vector<OpCase> op_cases();

/// The shapes of the inputs as text, "(4, 3, 5) (3, 1)".
std::string shapes_text(std::span<const Input> inputs);

}  // namespace tutti::cases
