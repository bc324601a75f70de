#pragma once

#include "comm/elements.h"
#include "comm/mpi/window.h"

#include <memory>
#include <vector>

namespace tutti {

/// Reductions among the ranks of one node through shared memory. Each rank reduces one part over all of them,
/// in place for tensors in shared windows, else through a small staging area that fits in the caches. Sums
/// follow the tree of Reduce over the node's ranks. Used by one thread at a time.
class NodeReducer {
 public:
  /// Bytes of the window that each rank must contribute.
  static int64_t window_bytes();

  /// `window` was allocated by all ranks of the node; `me` is the index of this rank among them. The ranks
  /// must pass a barrier between the constructor and the first operation.
  NodeReducer(std::shared_ptr<SharedWindow> window, int me, int ranks);

  [[nodiscard]] int ranks() const noexcept { return ranks_; }

  /// Tensors in this window are reduced in place. All ranks of the node must add the same windows in the same
  /// order.
  void add_window(std::shared_ptr<SharedWindow> window) { windows_.push_back(std::move(window)); }

  /// `between_nodes(part)` reduces a part that has been summed in this node over the other nodes.
  void all_reduce(const Elements& inout, Reduce op, ThreadPool& pool,
                  FunctionRef<void(const Elements& part)> between_nodes);
  /// Among the ranks of this node.
  void barrier();

 private:
  struct Control;
  struct Contribution;
  Contribution publish(const Elements& mine, Reduce op);
  void check_agreement(const Contribution& mine) const;
  [[nodiscard]] Contribution& contribution(int rank) const;
  [[nodiscard]] Elements stage(int rank, int64_t count, DType dtype) const;
  [[nodiscard]] std::vector<Elements> stages(int64_t begin, int64_t end, DType dtype) const;
  void reduce_small(const Elements& inout, Reduce op, ThreadPool& pool,
                    FunctionRef<void(const Elements& part)> between_nodes);
  void reduce_in_place(const Elements& mine, Reduce op, ThreadPool& pool,
                       FunctionRef<void(const Elements& part)> between_nodes);
  void reduce_staged(const Elements& inout, Reduce op, ThreadPool& pool,
                     FunctionRef<void(const Elements& part)> between_nodes);

  std::shared_ptr<SharedWindow> window_;
  std::vector<std::shared_ptr<SharedWindow>> windows_;
  int me_;
  int ranks_;
  int spins_;
  Control* control_;
  // Contributions and stages are used in rotation, three of each: data written in turn t is read by others
  // until the second barrier after it, and every turn has one barrier.
  uint64_t turn_ = 0;
};

}  // namespace tutti
