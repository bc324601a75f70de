#pragma once

#include "comm/elements.h"
#include "comm/mpi/window.h"

#include <memory>
#include <vector>

namespace tutti {

/// Reductions among the ranks of one node through memory that they share. Each rank reduces one part over all
/// of them, straight in the tensors where these lie in shared windows, else through a small staging area that
/// stays in the caches. Sums follow the tree of Reduce over the node's ranks. Used by one thread at a time.
class NodeReducer {
 public:
  /// Bytes of window that each rank has to bring.
  static int64_t window_bytes();

  /// `window` has been made by all of the node's ranks; `me` is this rank's place among them. The ranks have
  /// to pass a barrier between this and the first operation.
  NodeReducer(std::shared_ptr<SharedWindow> window, int me, int ranks);

  [[nodiscard]] int ranks() const noexcept { return ranks_; }

  /// Tensors in this window are reduced in place. All ranks of the node add the same windows in the same
  /// order.
  void add_window(std::shared_ptr<SharedWindow> window) { windows_.push_back(std::move(window)); }

  /// `between_nodes(part)` reduces a part that this node has summed over the other nodes.
  void all_reduce(const Elements& inout, Reduce op, ThreadPool& pool,
                  FunctionRef<void(const Elements& part)> between_nodes);
  /// Among the ranks of this node.
  void barrier();

 private:
  struct Control;
  struct Offer;
  Offer publish(const Elements& mine, Reduce op);
  void check_agreement(const Offer& mine) const;
  [[nodiscard]] Offer& offer(int rank) const;
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
  // Offers and stages are used in turn, three of each: what is written in turn t is read by others until the
  // second barrier after it, and every turn has a barrier of its own.
  uint64_t turn_ = 0;
};

}  // namespace tutti
