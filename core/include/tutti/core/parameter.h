#pragma once

#include <tutti/core/random.h>
#include <tutti/core/tensor.h>

#include <string>
#include <vector>

namespace tutti {

/// Distribution of a parameter's initial values.
struct Init {
  enum class Kind : uint8_t { kConstant, kNormal, kUniform };
  Kind kind = Kind::kConstant;
  double value = 0;  ///< the constant, the standard deviation, or the bound of [-value, value)

  static Init constant(double value) { return {Kind::kConstant, value}; }
  static Init normal(double standard_deviation) { return {Kind::kNormal, standard_deviation}; }
  static Init uniform(double bound) { return {Kind::kUniform, bound}; }
};

/// Kind of a parameter, by which optimizers choose the update rule.
enum class Role : uint8_t {
  kWeight,  ///< matrix or filter
  kBias,
  kNorm,  ///< scale or shift of a normalisation
  kEmbedding,
  kHead,       ///< output projection to classes or vocabulary
  kStatistic,  ///< running mean or variance: its "gradient" is the statistic of the batch, its update an
               ///< average
};
std::string_view name(Role role);

/// A named trainable tensor of a module. The module describes it; a ParamGroup allocates and initialises it.
struct Parameter {
  std::string name;  ///< full path, "blocks.0.attention.qkv.weight"; set when the model is complete
  Shape shape;
  Init init;
  Role role = Role::kWeight;
  /// Rows of each of the matrices that are concatenated in a weight, as query, key and value; empty: one
  /// matrix.
  std::vector<int64_t> packed;
  /// Rows of zeros behind those of `shape` in the group's storage, with which products have extents that GPUs
  /// are fast with. They are on tapes (Tape::leaf), but not in files, counts or hashes.
  int64_t padding = 0;
  bool keeps_latest =
      false;  ///< kStatistic: the value becomes the statistic of the step instead of an average

  /// Value in forward, in the compute dtype; a view of the group's flat storage.
  Tensor value;
  /// Gradient from backward, in the gradient dtype; a view of the group's flat storage.
  Tensor grad;
  /// The same with the rows of padding; undefined without padding.
  Tensor padded_value, padded_grad;
  /// Whether `grad` contains a sum to add to: false at the start of each accumulation.
  bool grad_defined = false;

  [[nodiscard]] int64_t numel() const { return tutti::numel(shape); }
  /// Value and gradient as they are in the group's storage, with the rows of padding.
  [[nodiscard]] const Tensor& stored_value() const { return padding > 0 ? padded_value : value; }
  [[nodiscard]] const Tensor& stored_grad() const { return padding > 0 ? padded_grad : grad; }
  /// `shape` with the rows of padding.
  [[nodiscard]] Shape padded_shape() const;
};

/// Fills `destination` (any floating dtype, contiguous) with initial values, which depend only on seed and
/// name.
void initialise(const Parameter& parameter, const Tensor& destination, uint64_t seed, const Stream& stream);

}  // namespace tutti
