#include "comm/mpi/collective.h"
#include "comm/mpi/node_reducer.h"
#include "comm/mpi/point_to_point.h"

#include <algorithm>
#include <array>
#include <bit>

namespace tutti {
namespace {

constexpr int kTagsPerGroup = 2;  // collectives; send and recv

/// How a group is distributed over nodes.
struct Layout {
  int ranks_per_node = 1;   // 1: no shared memory
  std::vector<int> local;   // world ranks of this rank's node
  std::vector<int> across;  // world ranks with this rank's index on each node
};

Layout find_layout(const std::vector<int>& ranks, int me, const std::vector<int>& node_of_rank) {
  const auto node = [&](size_t i) { return node_of_rank[static_cast<size_t>(ranks[i])]; };
  const size_t n = ranks.size();
  size_t per_node = 1;
  while (per_node < n && node(per_node) == node(0)) ++per_node;
  bool fits = per_node > 1 && n % per_node == 0 && (per_node == n || std::has_single_bit(per_node));
  for (size_t i = 0; fits && i < n; ++i) {
    fits = node(i) == node(i / per_node * per_node);
    // A node with two blocks would use one index twice.
    if (i >= per_node && i % per_node == 0) fits = fits && node(i) != node(i - per_node);
  }
  if (!fits) per_node = 1;
  Layout layout;
  layout.ranks_per_node = static_cast<int>(per_node);
  const size_t first = static_cast<size_t>(me) / per_node * per_node;
  for (size_t i = 0; i < per_node; ++i) layout.local.push_back(ranks[first + i]);
  for (size_t i = static_cast<size_t>(me) % per_node; i < n; i += per_node) layout.across.push_back(ranks[i]);
  return layout;
}

class MpiCollective final : public Collective {
 public:
  MpiCollective(MpiSession& session, const std::vector<int>& ranks, int me, int64_t context)
      : session_(session),
        tag_(tag_of(session, context)),
        all_(session, ranks, me, tag_),
        layout_(find_layout(ranks, me, session.node_of_rank())),
        between_(session, layout_.across, me / layout_.ranks_per_node, tag_) {
    session.use_context(context);
    if (layout_.ranks_per_node == 1) return;
    if (const auto window = share(NodeReducer::window_bytes())) {
      node_ = std::make_unique<NodeReducer>(window, local_rank(), layout_.ranks_per_node);
      all_.barrier();
    }
  }

  [[nodiscard]] int rank() const noexcept override { return all_.rank(); }
  [[nodiscard]] int size() const noexcept override { return all_.size(); }
  void abort(std::string_view reason) noexcept override { session_.abort(reason); }

  [[nodiscard]] Tensor allocate(const Shape& shape, DType dtype, const Stream& stream) override {
    const int64_t bytes = numel(shape) * size_of(dtype);
    std::vector<int64_t> wanted(static_cast<size_t>(size()));
    all_.all_gather(of(wanted), Elements::of(Tensor::from(std::vector{bytes}, {1}, stream)));
    for (size_t i = 0; i < wanted.size(); ++i) {
      require(wanted[i] == bytes, "allocate: rank {} requests {} bytes, rank {} requests {}", rank(), bytes,
              i, wanted[i]);
    }
    if (node_ && bytes > 0) {
      if (const auto window = share(bytes)) {
        node_->add_window(window);
        return Tensor::borrow(window->part(local_rank()).data(), shape, dtype, window);
      }
    }
    return Tensor::empty(shape, dtype, stream);
  }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) override {
    if (node_) {
      node_->all_reduce(Elements::of(inout), op, *executor.pool,
                        [&](const Elements& part) { between_.all_reduce(part, op, *executor.pool); });
    } else {
      all_.all_reduce(Elements::of(inout), op, *executor.pool);
    }
  }
  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                         const Executor& executor) override {
    all_.reduce_scatter(Elements::of(output), Elements::of(input), op, *executor.pool);
  }
  void on_all_gather(const Tensor& output, const Tensor& input, const Executor&) override {
    all_.all_gather(Elements::of(output), Elements::of(input));
  }
  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor&) override {
    all_.all_to_all(Elements::of(output), Elements::of(input));
  }
  void on_broadcast(const Tensor& inout, int root, const Executor&) override {
    all_.broadcast(Elements::of(inout), root);
  }
  void on_send(const Tensor& tensor, int to, const Executor&) override {
    all_.send(Elements::of(tensor), to, tag_ + 1);
  }
  void on_recv(const Tensor& tensor, int from, const Executor&) override {
    all_.recv(Elements::of(tensor), from, tag_ + 1);
  }
  void on_barrier(const Executor&) override { all_.barrier(); }

  std::unique_ptr<Collective> on_split(int color, int key) override {
    constexpr int64_t kWords = 3;  // color, key, context
    std::vector<int64_t> requests(static_cast<size_t>(kWords * size()));
    std::array<int64_t, kWords> mine{color, key, session_.propose_context()};
    all_.all_gather(of(requests), {reinterpret_cast<std::byte*>(mine.data()), kWords, DType::kInt64});
    int64_t context = 0;
    std::vector<std::pair<int64_t, int>> members;  // (key, rank)
    for (int i = 0; i < size(); ++i) {
      const int64_t* request = &requests[static_cast<size_t>(kWords * i)];
      context = std::max(context, request[2]);
      if (request[0] == color) members.emplace_back(request[1], i);
    }
    // Groups of one split have no common rank and may have the same number.
    session_.use_context(context);
    if (color < 0) return nullptr;
    std::sort(members.begin(), members.end());
    std::vector<int> ranks;
    ranks.reserve(members.size());
    for (const auto& member : members) ranks.push_back(all_.ranks()[static_cast<size_t>(member.second)]);
    const auto me = std::find(members.begin(), members.end(), std::pair<int64_t, int>(key, rank()));
    return std::make_unique<MpiCollective>(session_, ranks, static_cast<int>(me - members.begin()), context);
  }

 private:
  static int tag_of(const MpiSession& session, int64_t context) {
    require(context * kTagsPerGroup + 1 <= session.max_tag(),
            "split: no MPI tags (up to {}) are left after {} groups", session.max_tag(), context);
    return static_cast<int>(context * kTagsPerGroup);
  }
  static Elements of(std::vector<int64_t>& values) {
    return {reinterpret_cast<std::byte*>(values.data()), static_cast<int64_t>(values.size()), DType::kInt64};
  }
  [[nodiscard]] int local_rank() const { return rank() % layout_.ranks_per_node; }

  /// Whether all nodes of the group have space for windows of `bytes` per rank. If not, the first rank of the
  /// node warns, once.
  bool has_room(int64_t bytes) {
    constexpr size_t kWords = 2;  // free, reserved for earlier windows
    std::vector<int64_t> known(kWords * static_cast<size_t>(size()));
    std::array<int64_t, kWords> mine{free_shared_memory_bytes(), session_.untouched_window_bytes()};
    all_.all_gather(of(known), {reinterpret_cast<std::byte*>(mine.data()), kWords, DType::kInt64});
    const auto ranks = static_cast<size_t>(layout_.ranks_per_node);
    const int64_t needed = needed_shared_memory_bytes(bytes, layout_.ranks_per_node);
    bool all = true;
    for (size_t first = 0; first < static_cast<size_t>(size()); first += ranks) {
      int64_t free = known[kWords * first];
      int64_t promised = 0;
      for (size_t i = first; i < first + ranks; ++i) {
        free = std::min(free, known[kWords * i]);
        promised += known[kWords * i + 1];
      }
      if (free - promised >= needed) continue;
      all = false;
      if (first == static_cast<size_t>(rank())) session_.warn_low_shared_memory(free - promised, needed);
    }
    return all;
  }

  /// A window on each node of the group, or on none. Allocating one blocks inside MPI, so no rank starts
  /// before all ranks are here and have space for it.
  std::shared_ptr<SharedWindow> share(int64_t bytes) {
    if (!has_room(bytes)) return nullptr;
    all_.barrier();
    auto window = SharedWindow::make(session_, layout_.local, tag_, bytes);
    std::vector<int64_t> made(static_cast<size_t>(size()));
    int64_t mine = window ? 1 : 0;
    all_.all_gather(of(made), {reinterpret_cast<std::byte*>(&mine), 1, DType::kInt64});
    return std::find(made.begin(), made.end(), 0) == made.end() ? window : nullptr;
  }

  MpiSession& session_;
  int tag_;
  PointToPointGroup all_;
  Layout layout_;
  PointToPointGroup between_;
  std::unique_ptr<NodeReducer> node_;
};

}  // namespace

std::unique_ptr<Collective> make_mpi_world(MpiSession& session) {
  std::vector<int> ranks(static_cast<size_t>(session.size()));
  for (int i = 0; i < session.size(); ++i) ranks[static_cast<size_t>(i)] = i;
  return std::make_unique<MpiCollective>(session, ranks, session.rank(), session.propose_context());
}

}  // namespace tutti
