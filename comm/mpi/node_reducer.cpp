#include "comm/mpi/node_reducer.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>

namespace tutti {
namespace {

constexpr int kTurns = 3;
constexpr int64_t kStageBytes = int64_t{1} << 18;
constexpr int64_t kOneBarrierBytes = int64_t{1} << 14;  // up to this size, every rank reduces everything
constexpr int64_t kHeaderBytes = 4096;
constexpr int kSpins = 2000;  // about 20 us

// std::atomic::wait works within one process only: its futex is private.
void sleep_while_equal(std::atomic<uint32_t>& word, uint32_t value) {
  // Returns at once if the word has changed; the loop of the caller handles EINTR and spurious wake-ups.
  (void)syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
}
void wake_all(std::atomic<uint32_t>& word) {
  (void)syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct NodeReducer::Control {
  alignas(64) std::atomic<uint32_t> arrived{0};
  alignas(64) std::atomic<uint32_t> generation{0};
  alignas(64) std::atomic<uint32_t> sleepers{0};
};
static_assert(std::atomic<uint32_t>::is_always_lock_free, "shared between processes");

struct NodeReducer::Contribution {
  int64_t window = -1;  // -1: the tensor is in private memory
  int64_t offset = 0;   // bytes
  int64_t count = 0;
  int32_t dtype = 0;
  int32_t op = 0;
};

int64_t NodeReducer::window_bytes() {
  return kHeaderBytes + kTurns * kStageBytes;
}

NodeReducer::NodeReducer(std::shared_ptr<SharedWindow> window, int me, int ranks)
    : window_(std::move(window)),
      me_(me),
      ranks_(ranks),
      // Spinning is useful if each rank has a core; if ranks share cores it only delays the others.
      spins_(sysconf(_SC_NPROCESSORS_ONLN) >= ranks ? kSpins : 0),
      control_(reinterpret_cast<Control*>(window_->part(0).data())) {
  static_assert(sizeof(Control) + kTurns * sizeof(Contribution) <= kHeaderBytes);
  if (me_ == 0) new (control_) Control;
  for (int i = 0; i < kTurns; ++i) {
    turn_ = static_cast<uint64_t>(i);
    new (&contribution(me_)) Contribution;
  }
  turn_ = 0;
}

NodeReducer::Contribution& NodeReducer::contribution(int rank) const {
  auto* first = reinterpret_cast<Contribution*>(window_->part(rank).data() + sizeof(Control));
  return first[turn_ % kTurns];
}

Elements NodeReducer::stage(int rank, int64_t count, DType dtype) const {
  const auto turn = static_cast<int64_t>(turn_ % kTurns);
  return {window_->part(rank).data() + kHeaderBytes + turn * kStageBytes, count, dtype};
}

std::vector<Elements> NodeReducer::stages(int64_t begin, int64_t end, DType dtype) const {
  std::vector<Elements> all;
  all.reserve(static_cast<size_t>(ranks_));
  for (int i = 0; i < ranks_; ++i) all.push_back(stage(i, end, dtype).part(begin, end));
  return all;
}

void NodeReducer::barrier() {
  Control& c = *control_;
  const uint32_t seen = c.generation.load();
  if (c.arrived.fetch_add(1) + 1 == static_cast<uint32_t>(ranks_)) {
    c.arrived.store(0);
    c.generation.fetch_add(1);
    if (c.sleepers.load() > 0) wake_all(c.generation);
    return;
  }
  for (int i = 0; i < spins_; ++i) {
    if (c.generation.load(std::memory_order_acquire) != seen) return;
    pause_cpu();
  }
  c.sleepers.fetch_add(1);
  while (c.generation.load() == seen) sleep_while_equal(c.generation, seen);
  c.sleepers.fetch_sub(1);
}

NodeReducer::Contribution NodeReducer::publish(const Elements& mine, Reduce op) {
  Contribution o{
      .count = mine.count, .dtype = static_cast<int32_t>(mine.dtype), .op = static_cast<int32_t>(op)};
  for (size_t w = 0; w < windows_.size(); ++w) {
    const auto part = windows_[w]->part(me_);
    if (mine.data < part.data() || mine.data + mine.bytes() > part.data() + part.size()) continue;
    o.window = static_cast<int64_t>(w);
    o.offset = mine.data - part.data();
  }
  contribution(me_) = o;
  return o;
}

void NodeReducer::check_agreement(const Contribution& mine) const {
  const auto text = [](const Contribution& o) {
    return fmt::format("{} of {} {}", name(static_cast<Reduce>(o.op)), o.count,
                       name(static_cast<DType>(o.dtype)));
  };
  for (int i = 0; i < ranks_; ++i) {
    const Contribution& o = contribution(i);
    require(o.count == mine.count && o.dtype == mine.dtype && o.op == mine.op,
            "all_reduce does not match between ranks: local rank {} calls {}, local rank {} calls {}", me_,
            text(mine), i, text(o));
  }
}

void NodeReducer::all_reduce(const Elements& inout, Reduce op, ThreadPool& pool,
                             FunctionRef<void(const Elements& part)> between_nodes) {
  const Contribution mine = publish(inout, op);
  const bool small = inout.bytes() <= kOneBarrierBytes;
  if (small) copy_elements(stage(me_, inout.count, inout.dtype), inout);
  barrier();
  check_agreement(mine);
  bool in_windows = true;
  for (int i = 0; i < ranks_; ++i) in_windows = in_windows && contribution(i).window >= 0;
  if (small) {
    reduce_small(inout, op, pool, between_nodes);
    ++turn_;
  } else if (in_windows) {
    reduce_in_place(inout, op, pool, between_nodes);
    ++turn_;
  } else {
    ++turn_;
    reduce_staged(inout, op, pool, between_nodes);
  }
}

void NodeReducer::reduce_small(const Elements& inout, Reduce op, ThreadPool& pool,
                               FunctionRef<void(const Elements& part)> between_nodes) {
  if (inout.count == 0) return;
  reduce_tree({&inout, 1}, stages(0, inout.count, inout.dtype), op, pool);
  between_nodes(inout);
}

void NodeReducer::reduce_in_place(const Elements& mine, Reduce op, ThreadPool& pool,
                                  FunctionRef<void(const Elements& part)> between_nodes) {
  const int64_t begin = part_begin(mine.count, me_, ranks_);
  const int64_t end = part_begin(mine.count, me_ + 1, ranks_);
  std::vector<Elements> parts;
  for (int i = 0; i < ranks_; ++i) {
    const Contribution& o = contribution(i);
    std::byte* base = windows_[static_cast<size_t>(o.window)]->part(i).data() + o.offset;
    parts.push_back(Elements{base, mine.count, mine.dtype}.part(begin, end));
  }
  reduce_tree(parts, parts, op, pool);
  // With several nodes every copy is written twice; messages between nodes cost far more.
  const Elements part = mine.part(begin, end);
  between_nodes(part);
  for (const Elements& other : parts) copy_elements(other, part);
  barrier();
}

/// Chunks pass through the stages: while one chunk is reduced, the previous one is copied out and the next
/// one is copied in, with one barrier per chunk.
void NodeReducer::reduce_staged(const Elements& inout, Reduce op, ThreadPool& pool,
                                FunctionRef<void(const Elements& part)> between_nodes) {
  const int64_t chunk = kStageBytes / size_of(inout.dtype);
  const int64_t chunks = (inout.count + chunk - 1) / chunk;
  const auto elements = [&](int64_t i) {
    return inout.part(i * chunk, std::min(inout.count, (i + 1) * chunk));
  };
  const auto copy_in = [&](int64_t i) {
    copy_elements(stage(me_, elements(i).count, inout.dtype), elements(i));
  };
  const auto reduce = [&](int64_t i) {
    const int64_t begin = part_begin(elements(i).count, me_, ranks_);
    const int64_t end = part_begin(elements(i).count, me_ + 1, ranks_);
    const std::vector<Elements> parts = stages(begin, end, inout.dtype);
    const Elements& mine = parts[static_cast<size_t>(me_)];
    if (mine.count == 0) return;
    reduce_tree({&mine, 1}, parts, op, pool);
    between_nodes(mine);
  };
  const auto copy_out = [&](int64_t i) {
    for (int r = 0; r < ranks_; ++r) {
      const int64_t begin = part_begin(elements(i).count, r, ranks_);
      const int64_t end = part_begin(elements(i).count, r + 1, ranks_);
      copy_elements(elements(i).part(begin, end), stage(r, end, inout.dtype).part(begin, end));
    }
  };
  copy_in(0);
  barrier();
  for (int64_t i = 0; i < chunks; ++i) {
    reduce(i);
    if (i + 1 < chunks) {
      ++turn_;
      copy_in(i + 1);
      --turn_;
    }
    barrier();
    copy_out(i);
    ++turn_;
  }
}

}  // namespace tutti
