#include <tutti/comm/threads.h>
#include "comm/elements.h"
#include "core/memory/out_of_memory.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace tutti {
namespace {

/// State shared by all groups of a world: one mutex is enough for a few threads and makes abort simple.
struct World {
  std::mutex mutex;
  std::condition_variable changed;
  bool aborted = false;
  std::string reason;

  void abort(std::string_view why) {
    const std::scoped_lock lock(mutex);
    if (std::exchange(aborted, true)) return;
    reason = why;
    changed.notify_all();
  }
  /// Throws if the world was aborted before `ready`.
  template <class Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    changed.wait(lock, [&] { return ready() || aborted; });
    if (!ready()) fail("{}", reason);
  }
};

/// Contribution of a rank to the current operation.
struct Contribution {
  std::string_view op;
  Elements in;
  int argument = 0;  // root or Reduce: must agree
  int color = 0;
  int key = 0;
};

struct Team {
  Team(std::shared_ptr<World> world_, int size)
      : world(std::move(world_)),
        contributions(static_cast<size_t>(size)),
        pending_sends(static_cast<size_t>(size), std::vector<Elements*>(static_cast<size_t>(size))) {}

  std::shared_ptr<World> world;
  std::vector<Contribution> contributions;
  // pending_sends[to][from]: a tensor whose sender waits for the receiver.
  std::vector<std::vector<Elements*>> pending_sends;
  std::map<int, std::shared_ptr<Team>> children;  // by color, during a split

  /// Begins an operation: either all ranks pass, or all throw.
  void begin_operation() {
    std::unique_lock lock(world->mutex);
    if (world->aborted) fail("{}", world->reason);
    const uint64_t mine = generation;
    if (!complete()) world->wait(lock, [&] { return generation != mine; });
  }

  /// Ends an operation. All ranks are in it and will call this, so abort need not be checked. It must not be
  /// checked: others may still read the memory of this rank.
  void end_operation() noexcept {
    std::unique_lock lock(world->mutex);
    const uint64_t mine = generation;
    if (!complete()) world->changed.wait(lock, [&] { return generation != mine; });
  }

 private:
  bool complete() {
    if (++arrived < contributions.size()) return false;
    arrived = 0;
    ++generation;
    world->changed.notify_all();
    return true;
  }

  size_t arrived = 0;
  uint64_t generation = 0;
};

class ThreadsCollective final : public Collective {
 public:
  ThreadsCollective(std::shared_ptr<Team> team, int rank) : team_(std::move(team)), rank_(rank) {}

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return static_cast<int>(team_->contributions.size()); }
  void abort(std::string_view reason) noexcept override {
    try {
      team_->world->abort(fmt::format("rank {} aborted: {}", rank_, reason));
    } catch (const std::exception&) {
      team_->world->abort("aborted");
    }
  }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) override {
    const Elements all = Elements::of(inout);
    run_collective({.op = "all_reduce", .in = all, .argument = static_cast<int>(op)}, [&] {
      const int64_t begin = part_begin(all.count, rank_, size());
      const int64_t end = part_begin(all.count, rank_ + 1, size());
      std::vector<Elements> parts;
      for (const Contribution& o : team_->contributions) parts.push_back(o.in.part(begin, end));
      reduce_tree(parts, parts, op, *executor.pool);
    });
  }

  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                         const Executor& executor) override {
    const Elements out = Elements::of(output);
    run_collective({.op = "reduce_scatter", .in = Elements::of(input), .argument = static_cast<int>(op)},
                   [&] {
                     std::vector<Elements> parts;
                     for (const Contribution& o : team_->contributions)
                       parts.push_back(o.in.equal_part(rank_, size()));
                     reduce_tree({&out, 1}, parts, op, *executor.pool);
                   });
  }

  void on_all_gather(const Tensor& output, const Tensor& input, const Executor&) override {
    const Elements out = Elements::of(output);
    run_collective({.op = "all_gather", .in = Elements::of(input)}, [&] {
      for (int i = 0; i < size(); ++i) copy_elements(out.equal_part(i, size()), contribution(i).in);
    });
  }

  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor&) override {
    const Elements out = Elements::of(output);
    run_collective({.op = "all_to_all", .in = Elements::of(input)}, [&] {
      for (int i = 0; i < size(); ++i)
        copy_elements(out.equal_part(i, size()), contribution(i).in.equal_part(rank_, size()));
    });
  }

  void on_broadcast(const Tensor& inout, int root, const Executor&) override {
    const Elements all = Elements::of(inout);
    run_collective({.op = "broadcast", .in = all, .argument = root}, [&] {
      if (rank_ != root) copy_elements(all, contribution(root).in);
    });
  }

  // A rendezvous: the strictest behaviour that the interface allows, so that tests find programs that rely on
  // buffering.
  void on_send(const Tensor& tensor, int to, const Executor&) override {
    Elements mine = Elements::of(tensor);
    World& world = *team_->world;
    Elements*& slot = team_->pending_sends[static_cast<size_t>(to)][static_cast<size_t>(rank_)];
    std::unique_lock lock(world.mutex);
    slot = &mine;
    world.changed.notify_all();
    world.wait(lock, [&] { return slot == nullptr; });
  }

  void on_recv(const Tensor& tensor, int from, const Executor&) override {
    const Elements mine = Elements::of(tensor);
    World& world = *team_->world;
    Elements*& slot = team_->pending_sends[static_cast<size_t>(rank_)][static_cast<size_t>(from)];
    std::unique_lock lock(world.mutex);
    world.wait(lock, [&] { return slot != nullptr; });
    require(slot->bytes() == mine.bytes(), "recv: rank {} expected {} bytes from rank {}, which sent {}",
            rank_, mine.bytes(), from, slot->bytes());
    copy_elements(mine, *slot);
    slot = nullptr;
    world.changed.notify_all();
  }

  void on_barrier(const Executor&) override {
    run_collective({.op = "barrier"}, [] {});
  }

  std::unique_ptr<Collective> on_split(int color, int key) override {
    std::vector<std::pair<int, int>> members;  // (key, rank)
    run_collective({.op = "split", .color = color, .key = key}, [&] {
      for (int i = 0; i < size(); ++i) {
        if (contribution(i).color == color) members.emplace_back(contribution(i).key, i);
      }
      std::sort(members.begin(), members.end());
      if (color < 0 || members.front().second != rank_) return;
      auto child = std::make_shared<Team>(team_->world, static_cast<int>(members.size()));
      const std::scoped_lock lock(team_->world->mutex);
      team_->children[color] = std::move(child);
    });
    std::unique_ptr<Collective> mine;
    run_collective({.op = "split, second phase"}, [&] {
      if (color < 0) return;
      const auto me = std::find(members.begin(), members.end(), std::pair(key, rank_));
      const std::scoped_lock lock(team_->world->mutex);
      mine = std::make_unique<ThreadsCollective>(team_->children.at(color),
                                                 static_cast<int>(me - members.begin()));
    });
    // No rank enters the next split before rank 0 has passed this point.
    if (rank_ == 0) team_->children.clear();
    return mine;
  }

 private:
  [[nodiscard]] const Contribution& contribution(int rank) const {
    return team_->contributions[static_cast<size_t>(rank)];
  }

  /// Publishes this rank's contribution, waits for the others, checks that all match, runs `work`, and waits
  /// until no rank needs the memory of another.
  template <class Work>
  void run_collective(const Contribution& mine, Work work) {
    team_->contributions[static_cast<size_t>(rank_)] = mine;
    team_->begin_operation();
    struct EndOfOperation {
      Team& team;
      ~EndOfOperation() { team.end_operation(); }
    } const end{*team_};
    for (int i = 0; i < size(); ++i) {
      const Contribution& o = contribution(i);
      require(o.op == mine.op && o.argument == mine.argument && o.in.count == mine.in.count &&
                  o.in.dtype == mine.in.dtype,
              "operations do not match: rank {} calls {}, rank {} calls {}", rank_, text(mine), i, text(o));
    }
    work();
  }

  static std::string text(const Contribution& o) {
    return fmt::format("{} of {} {} ({})", o.op, o.in.count, name(o.in.dtype), o.argument);
  }

  std::shared_ptr<Team> team_;
  int rank_;
};

}  // namespace

void run_ranks(int ranks, const std::function<void(Collective& world)>& body) {
  require(ranks >= 1, "run_ranks: needs at least one rank, got {}", ranks);
  auto world = std::make_shared<World>();
  auto team = std::make_shared<Team>(world, ranks);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  const auto run = [&](int rank) {
    ThreadsCollective mine(team, rank);
    const auto record_failure = [&](std::string_view reason) {
      {
        const std::scoped_lock lock(mutex);
        if (!first) first = std::current_exception();
      }
      mine.abort(reason);
    };
    try {
      body(mine);
    } catch (const std::exception& error) {
      record_failure(error_text(error));
    } catch (...) {
      record_failure("an exception that is not a std::exception");
    }
  };
  try {
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  } catch (const std::system_error& error) {  // started ranks wait for one that will never start
    const std::string reason = fmt::format("run_ranks: cannot start rank {} of {}: {}", threads.size(), ranks,
                                           error.code().message());
    {
      const std::scoped_lock lock(mutex);
      if (!first) first = std::make_exception_ptr(Error(reason));
    }
    world->abort(reason);
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace tutti
