#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/models/layers.h>

#include <memory>
#include <vector>

namespace tutti {

/// Settings of a multi-layer perceptron.
struct MlpConfig {
  int64_t inputs = 0;   ///< features of a sample; 0: those of the data
  int64_t classes = 0;  ///< 0: those of the data
  std::vector<int64_t> hidden = {256, 128};
  double dropout = 0;

  void describe(Fields& f);
};

/// Linear layers with ReLU between them: x (N, ...), flattened to (N, inputs) -> (N, classes).
class Mlp final : public Module {
 public:
  /// Throws Error unless all sizes are positive.
  explicit Mlp(MlpConfig config);

  [[nodiscard]] const MlpConfig& config() const noexcept { return config_; }
  /// Multiplications, with an addition each, of a forward pass of one sample.
  [[nodiscard]] double multiply_adds() const;

 protected:
  Var forward(Tape& tape, const Var& x) override;

 private:
  MlpConfig config_;
  std::vector<std::unique_ptr<Linear>> layers_;
};

}  // namespace tutti
