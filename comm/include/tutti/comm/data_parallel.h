#pragma once

#include <tutti/comm/collective.h>
#include <tutti/comm/parallel_settings.h>
#include <tutti/comm/peers.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/parallel.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace tutti {

/// Data parallelism over parameter groups (Li et al. 2020, "PyTorch distributed: experiences on accelerating
/// data parallel training"): each group is a bucket that is all-reduced on a communication stream as soon as
/// its gradients are complete, while backward continues. Buckets are sent in descending order on every rank,
/// so that ranks need no negotiation, also when one has nothing to compute.
///
/// Ordered mode adds the leaves of local shards in their aligned tree with at most log2(shards) buffers
/// besides those of the groups; the sums of ranks are added in the same tree (see Reduce). With groups whose
/// state is sharded (ZeRO-1), after_update() exchanges the weights.
///
/// On a CUDA compute stream, backward and the reductions overlap on the device: a bucket's reduction waits
/// for an event of the compute stream, and the optimizer's first kernel for the last reduction.
class DataParallel final : public Parallel {
 public:
  /// Collective over `world`. `groups` and `world` outlive this object. `data` is the collective for
  /// gradients and weights: all ranks of `world` in its order, with support for the compute stream's device;
  /// null for a split of `world`. Moves the gradients of the groups to the memory that `data` reduces
  /// fastest. Throws Error if the configuration is not valid for the world, or if weights differ between
  /// ranks, naming the group and the ranks.
  DataParallel(Collective& world, std::span<const std::unique_ptr<ParamGroup>> groups,
               const DataParallelConfig& config, const Stream& compute,
               std::unique_ptr<Collective> data = nullptr);
  ~DataParallel() override;

  [[nodiscard]] Peers& peers() override { return peers_; }
  [[nodiscard]] std::vector<Shard> shards(int64_t samples) const override;
  /// Whether results are bitwise equal for every power-of-two number of ranks.
  [[nodiscard]] bool exact() const noexcept;

  void begin_step() override;
  void begin_shard(size_t index) override;
  void register_hooks(Tape& tape, bool last_microbatch) override;
  void end_shard(size_t index) override;
  double finish_step() override;
  [[nodiscard]] std::string why_no_capture() const override;
  void after_update() override;
  std::vector<double> sum(std::span<const std::vector<double>> leaves) override;

  /// Throws Error on all ranks, naming group and ranks, unless the weights of all ranks are equal.
  void check_equal_weights();

 private:
  /// A group with the sums of its finished leaves.
  struct Bucket {
    ParamGroup* group = nullptr;
    Tensor total;    // the sum over the world; the first leaf is written here
    Tensor reduced;  // total in reduce_dtype; undefined if that is the dtype of total
    struct Partial {
      Tensor sum;
      int64_t leaves;
    };
    std::vector<Partial> partials;  // sums of aligned blocks, larger ones first
    std::vector<Tensor> spare;
    size_t missing = 0;  // gradients that this shard's last backward has not computed yet
    bool done = false;   // with this shard
  };

  void place_gradients();
  void on_ready(Parameter& parameter);
  void finish_bucket(Bucket& bucket);
  void add_leaf(Bucket& bucket);
  void send_complete_buckets();
  void send(Bucket& bucket);
  [[nodiscard]] bool in_last_shard() const { return shard_ + 1 == local_shards_; }

  DataParallelConfig config_;
  Stream compute_;
  std::unique_ptr<ThreadPool> host_pool_;
  Stream host_;
  std::unique_ptr<Collective> data_;
  std::unique_ptr<Collective> control_;
  CollectivePeers peers_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Parameter*, size_t> bucket_of_;
  size_t first_shard_ = 0;
  size_t local_shards_ = 1;
  size_t shard_ = 0;
  size_t unsent_ = 0;  // buckets [0, unsent_) are still to be sent
  Stream stream_;      // of communication; declared after the collectives to be destroyed first
};

}  // namespace tutti
