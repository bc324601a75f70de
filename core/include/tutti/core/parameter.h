#pragma once

#include <tutti/core/random.h>
#include <tutti/core/tensor.h>

#include <string>
#include <vector>

namespace tutti {

/// How a parameter's first values are drawn.
struct Init {
  enum class Kind : uint8_t { kConstant, kNormal, kUniform };
  Kind kind = Kind::kConstant;
  double value = 0;  ///< the constant, the standard deviation, or the bound of [-value, value)

  static Init constant(double value) { return {Kind::kConstant, value}; }
  static Init normal(double standard_deviation) { return {Kind::kNormal, standard_deviation}; }
  static Init uniform(double bound) { return {Kind::kUniform, bound}; }
};

/// What a parameter is, so that optimizers can choose a rule for it.
enum class Role : uint8_t {
  kWeight,  ///< matrix or filter
  kBias,
  kNorm,  ///< scale or shift of a normalisation
  kEmbedding,
  kHead,       ///< output projection to classes or vocabulary
  kStatistic,  ///< running mean or variance: its "gradient" is the batch's statistic, its rule an average
};
std::string_view name(Role role);

/// A named trainable tensor of a module. The module describes it; a ParamGroup gives it memory and first
/// values.
struct Parameter {
  std::string name;  ///< full path, "blocks.0.attention.qkv.weight"; set when the model is complete
  Shape shape;
  Init init;
  Role role = Role::kWeight;
  /// Rows of each of the matrices that stand in a weight one below the other, as query, key and value; empty:
  /// one matrix.
  std::vector<int64_t> packed;
  bool keeps_latest = false;  ///< kStatistic: the step's statistic becomes the value, in place of an average

  /// What forward reads, in the compute dtype; a view into the group's flat storage.
  Tensor value;
  /// What backward writes, in the gradient dtype; a view into the group's flat storage.
  Tensor grad;
  /// Whether `grad` already holds a sum to add to: false once at the start of each accumulation.
  bool grad_defined = false;

  [[nodiscard]] int64_t numel() const { return tutti::numel(shape); }
};

/// Fills `destination` (any floating dtype, contiguous) with the first values; they depend on seed and name
/// alone.
void initialise(const Parameter& parameter, const Tensor& destination, uint64_t seed, const Stream& stream);

}  // namespace tutti
