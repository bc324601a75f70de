#pragma once

#include "comm/elements.h"
#include "comm/mpi/session.h"

#include <memory>
#include <vector>

namespace tutti {

/// Collective algorithms by point-to-point messages among a group of ranks: recursive halving and doubling,
/// nearest rank first, if their number is a power of two; otherwise each part is sent directly to its owner.
/// Both follow the tree of Reduce. Used by one thread at a time.
class PointToPointGroup {
 public:
  /// `ranks` are world ranks; `me` is the index of this rank among them.
  PointToPointGroup(MpiSession& session, std::vector<int> ranks, int me, int tag);

  [[nodiscard]] int rank() const noexcept { return me_; }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(ranks_.size()); }
  [[nodiscard]] const std::vector<int>& ranks() const noexcept { return ranks_; }

  void all_reduce(const Elements& inout, Reduce op, ThreadPool& pool);
  void reduce_scatter(const Elements& output, const Elements& input, Reduce op, ThreadPool& pool);
  void all_gather(const Elements& output, const Elements& input);
  void all_to_all(const Elements& output, const Elements& input);
  void broadcast(const Elements& inout, int root);
  void barrier();
  /// With a separate tag, so that they never match messages of the functions above.
  void send(const Elements& elements, int to, int tag);
  void recv(const Elements& elements, int from, int tag);

 private:
  using Message = MpiSession::Message;
  struct Range {
    int64_t begin, end;
  };
  [[nodiscard]] Message to(int rank, const Elements& elements) const;
  [[nodiscard]] Message from(int rank, const Elements& elements) const;
  Elements scratch(int64_t count, DType dtype);
  void all_reduce_by_doubling(const Elements& inout, Reduce op);
  void all_reduce_by_halving(const Elements& inout, Reduce op);
  void all_reduce_by_parts(const Elements& inout, Reduce op, ThreadPool& pool);
  void exchange_and_combine(const Elements& keep, const Elements& give, int partner, Reduce op);
  void reduce_from_all(const Elements& output, const Elements& mine, Reduce op, ThreadPool& pool,
                       std::vector<Message> outgoing);

  MpiSession& session_;
  std::vector<int> ranks_;
  int me_;
  int tag_;
  std::unique_ptr<std::byte[]> scratch_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace tutti
