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

/// What all groups of a world share: one mutex is plenty for a handful of threads, and it makes abort simple.
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

/// What a rank contributes to the operation under way.
struct Offer {
  std::string_view op;
  Elements in;
  int argument = 0;  // root or Reduce: must agree
  int color = 0;
  int key = 0;
};

struct Team {
  Team(std::shared_ptr<World> world_, int size)
      : world(std::move(world_)),
        offers(static_cast<size_t>(size)),
        mail(static_cast<size_t>(size), std::vector<Elements*>(static_cast<size_t>(size))) {}

  std::shared_ptr<World> world;
  std::vector<Offer> offers;
  // mail[to][from]: a tensor that its sender waits to see taken.
  std::vector<std::vector<Elements*>> mail;
  std::map<int, std::shared_ptr<Team>> children;  // by color, during a split

  /// The beginning of an operation: either all ranks pass, or none does and all throw.
  void arrive() {
    std::unique_lock lock(world->mutex);
    if (world->aborted) fail("{}", world->reason);
    const uint64_t mine = generation;
    if (!complete()) world->wait(lock, [&] { return generation != mine; });
  }

  /// The end of an operation. All ranks are in it and will come here, so abort need not be looked at; and it
  /// must not be: others may still read the memory of a rank that left.
  void leave() noexcept {
    std::unique_lock lock(world->mutex);
    const uint64_t mine = generation;
    if (!complete()) world->changed.wait(lock, [&] { return generation != mine; });
  }

 private:
  bool complete() {
    if (++arrived < offers.size()) return false;
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
  [[nodiscard]] int size() const noexcept override { return static_cast<int>(team_->offers.size()); }
  void abort(std::string_view reason) noexcept override {
    try {
      team_->world->abort(fmt::format("rank {} aborted: {}", rank_, reason));
    } catch (const std::exception&) {
      team_->world->abort("aborted");
    }
  }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Place& place) override {
    const Elements all = Elements::of(inout);
    together({.op = "all_reduce", .in = all, .argument = static_cast<int>(op)}, [&] {
      const int64_t begin = part_begin(all.count, rank_, size());
      const int64_t end = part_begin(all.count, rank_ + 1, size());
      std::vector<Elements> parts;
      for (const Offer& o : team_->offers) parts.push_back(o.in.part(begin, end));
      reduce_tree(parts, parts, op, *place.pool);
    });
  }

  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op, const Place& place) override {
    const Elements out = Elements::of(output);
    together({.op = "reduce_scatter", .in = Elements::of(input), .argument = static_cast<int>(op)}, [&] {
      std::vector<Elements> parts;
      for (const Offer& o : team_->offers) parts.push_back(o.in.equal_part(rank_, size()));
      reduce_tree({&out, 1}, parts, op, *place.pool);
    });
  }

  void on_all_gather(const Tensor& output, const Tensor& input, const Place&) override {
    const Elements out = Elements::of(output);
    together({.op = "all_gather", .in = Elements::of(input)}, [&] {
      for (int i = 0; i < size(); ++i) copy_elements(out.equal_part(i, size()), offer(i).in);
    });
  }

  void on_all_to_all(const Tensor& output, const Tensor& input, const Place&) override {
    const Elements out = Elements::of(output);
    together({.op = "all_to_all", .in = Elements::of(input)}, [&] {
      for (int i = 0; i < size(); ++i)
        copy_elements(out.equal_part(i, size()), offer(i).in.equal_part(rank_, size()));
    });
  }

  void on_broadcast(const Tensor& inout, int root, const Place&) override {
    const Elements all = Elements::of(inout);
    together({.op = "broadcast", .in = all, .argument = root}, [&] {
      if (rank_ != root) copy_elements(all, offer(root).in);
    });
  }

  // A rendezvous: the strictest behaviour that the interface allows, so that tests find programs that count
  // on buffers.
  void on_send(const Tensor& tensor, int to, const Place&) override {
    Elements mine = Elements::of(tensor);
    World& world = *team_->world;
    Elements*& box = team_->mail[static_cast<size_t>(to)][static_cast<size_t>(rank_)];
    std::unique_lock lock(world.mutex);
    box = &mine;
    world.changed.notify_all();
    world.wait(lock, [&] { return box == nullptr; });
  }

  void on_recv(const Tensor& tensor, int from, const Place&) override {
    const Elements mine = Elements::of(tensor);
    World& world = *team_->world;
    Elements*& box = team_->mail[static_cast<size_t>(rank_)][static_cast<size_t>(from)];
    std::unique_lock lock(world.mutex);
    world.wait(lock, [&] { return box != nullptr; });
    require(box->bytes() == mine.bytes(), "recv: rank {} expected {} bytes from rank {}, which sent {}",
            rank_, mine.bytes(), from, box->bytes());
    copy_elements(mine, *box);
    box = nullptr;
    world.changed.notify_all();
  }

  void on_barrier(const Place&) override {
    together({.op = "barrier"}, [] {});
  }

  std::unique_ptr<Collective> on_split(int color, int key) override {
    std::vector<std::pair<int, int>> members;  // (key, rank)
    together({.op = "split", .color = color, .key = key}, [&] {
      for (int i = 0; i < size(); ++i) {
        if (offer(i).color == color) members.emplace_back(offer(i).key, i);
      }
      std::sort(members.begin(), members.end());
      if (color < 0 || members.front().second != rank_) return;
      auto child = std::make_shared<Team>(team_->world, static_cast<int>(members.size()));
      const std::scoped_lock lock(team_->world->mutex);
      team_->children[color] = std::move(child);
    });
    std::unique_ptr<Collective> mine;
    together({.op = "split, second part"}, [&] {
      if (color < 0) return;
      const auto me = std::find(members.begin(), members.end(), std::pair(key, rank_));
      const std::scoped_lock lock(team_->world->mutex);
      mine = std::make_unique<ThreadsCollective>(team_->children.at(color),
                                                 static_cast<int>(me - members.begin()));
    });
    // Nobody enters the next split before rank 0 has come here and gone on.
    if (rank_ == 0) team_->children.clear();
    return mine;
  }

 private:
  [[nodiscard]] const Offer& offer(int rank) const { return team_->offers[static_cast<size_t>(rank)]; }

  /// Shows this rank's part to the others, waits for theirs, checks that all do the same, works, and waits
  /// until nobody needs the others' memory any more.
  template <class Work>
  void together(const Offer& mine, Work work) {
    team_->offers[static_cast<size_t>(rank_)] = mine;
    team_->arrive();
    struct Leave {
      Team& team;
      ~Leave() { team.leave(); }
    } const leave{*team_};
    for (int i = 0; i < size(); ++i) {
      const Offer& o = offer(i);
      require(o.op == mine.op && o.argument == mine.argument && o.in.count == mine.in.count &&
                  o.in.dtype == mine.in.dtype,
              "ranks disagree: rank {} calls {}, rank {} calls {}", rank_, text(mine), i, text(o));
    }
    work();
  }

  static std::string text(const Offer& o) {
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
    const auto fails = [&](std::string_view reason) {
      {
        const std::scoped_lock lock(mutex);
        if (!first) first = std::current_exception();
      }
      mine.abort(reason);
    };
    try {
      body(mine);
    } catch (const std::exception& error) {
      fails(error_text(error));
    } catch (...) {
      fails("an exception that is not a std::exception");
    }
  };
  try {
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  } catch (const std::system_error& error) {  // those that run wait for one that will never come
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
