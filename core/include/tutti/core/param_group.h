#pragma once

#include <tutti/core/module.h>
#include <tutti/core/parameter.h>
#include <tutti/core/precision.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// Whether each rank stores a whole flat tensor or its part.
enum class Sharding : uint8_t { kReplicated, kSharded };

/// Sharding of the three flat tensors of a group. ZeRO-0 is RRR, 1 RRS, 2 RSS, 3 SSS. Source: Rajbhandari et
/// al. 2020, "ZeRO: memory optimizations toward training trillion parameter models".
struct Placement {
  Sharding weight = Sharding::kReplicated;
  Sharding grad = Sharding::kReplicated;
  Sharding state = Sharding::kReplicated;  ///< fp32 master and optimizer state
  friend bool operator==(const Placement&, const Placement&) = default;
};

/// Part `rank` of `ranks` of a sharded state; the whole for one rank.
struct ShardOf {
  int rank = 0;
  int ranks = 1;
};

/// Flat storage of consecutive parameters: the unit of communication (a bucket) and of the optimizer. Each
/// parameter starts at a multiple of 64 elements and the whole is padded so that it divides among the ranks;
/// padding is always zero.
class ParamGroup {
 public:
  static constexpr int64_t kAlignment = 64;  // elements

  /// Allocates the flat tensors and draws initial values keyed by `seed` and each parameter's name; makes
  /// value and grad of the parameters views of the flat tensors. Parameters outlive the group.
  ParamGroup(std::string name, std::vector<Parameter*> parameters, Precision precision, Placement placement,
             ShardOf shard, uint64_t seed, const Stream& stream);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const Precision& precision() const noexcept { return precision_; }
  [[nodiscard]] const Placement& placement() const noexcept { return placement_; }
  [[nodiscard]] std::span<Parameter* const> parameters() const noexcept { return parameters_; }
  /// First element of parameter `i` in the flat tensors.
  [[nodiscard]] int64_t offset(size_t i) const { return offsets_.at(i); }
  /// Elements of the flat tensors, padding included.
  [[nodiscard]] int64_t size() const noexcept { return size_; }
  /// Range [begin, end) of the flat tensors whose state this rank stores and updates.
  [[nodiscard]] int64_t state_begin() const noexcept { return state_begin_; }
  [[nodiscard]] int64_t state_end() const noexcept { return state_end_; }

  /// Flat weights in the compute dtype, (size).
  [[nodiscard]] const Tensor& weights() const noexcept { return weights_; }
  /// Flat master weights, (state_end - state_begin); shares storage with weights() when compute == master.
  [[nodiscard]] const Tensor& master() const noexcept { return master_; }
  /// Flat gradients, (size): the current destination of backward.
  [[nodiscard]] const Tensor& grads() const noexcept { return grads_; }

  /// Makes `flat` (size, grad dtype) the destination of backward: the leaves of an ordered sum.
  void bind_grads(const Tensor& flat);
  /// Clears the gradients: the next contribution overwrites.
  void clear_grads();
  /// Sets the gradients of parameters that no backward pass reached to zero.
  void zero_missing_grads(const Stream& stream);
  /// A flat tensor of zeros like grads().
  [[nodiscard]] Tensor new_grads(const Stream& stream) const;
  /// Rounds the master to the compute dtype over this rank's state range; the optimizer does the same in its
  /// pass.
  void round_weights(const Stream& stream);

 private:
  /// Parameter `i` in a flat tensor, without and with its rows of padding.
  struct Views {
    Tensor whole, padded;
  };
  [[nodiscard]] Views views(const Tensor& flat, size_t i) const;
  void bind_values();

  std::string name_;
  std::vector<Parameter*> parameters_;
  std::vector<int64_t> offsets_;
  Precision precision_;
  Placement placement_;
  int64_t size_ = 0;
  int64_t state_begin_ = 0;
  int64_t state_end_ = 0;
  Tensor weights_, master_, grads_;
};

struct GroupOptions {
  Precision precision;
  Placement placement;
  ShardOf shard;
  uint64_t seed = 0;
  /// A group is closed once its gradients reach this many bytes.
  int64_t bucket_bytes = int64_t{8} << 20;
};

/// Allocates all parameters of `root` (after name_parameters()): groups of consecutive parameters in
/// registration order, so that the gradients of the last group are complete first.
std::vector<std::unique_ptr<ParamGroup>> make_param_groups(Module& root, const GroupOptions& options,
                                                           const Stream& stream);

}  // namespace tutti
