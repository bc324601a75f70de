#pragma once

#include <tutti/core/error.h>
#include <tutti/core/peers.h>

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tutti {

/// Ranks as threads of this process, for tests of code that uses Peers.
class ThreadWorld {
 public:
  /// Runs `body` on `ranks` threads and rethrows the first exception. If a rank throws, waiting ranks
  /// throw, too.
  static void run(int ranks, const std::function<void(Peers&)>& body) {
    ThreadWorld world(ranks);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&world, &body, rank] {
        Member member(world, rank);
        try {
          body(member);
        } catch (...) {
          const std::lock_guard lock(world.mutex_);
          if (!world.error_) world.error_ = std::current_exception();
          world.changed_.notify_all();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (world.error_) std::rethrow_exception(world.error_);
  }

 private:
  class Member final : public Peers {
   public:
    Member(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return world_.ranks_; }
    std::vector<std::string> all_gather(const std::string& mine) override {
      return world_.exchange(rank_, mine);
    }

   private:
    ThreadWorld& world_;
    int rank_;
  };

  explicit ThreadWorld(int ranks) : ranks_(ranks), texts_(static_cast<size_t>(ranks)) {}

  std::vector<std::string> exchange(int rank, const std::string& mine) {
    std::unique_lock lock(mutex_);
    texts_[static_cast<size_t>(rank)] = mine;
    const int64_t turn = turn_;
    if (++arrived_ == ranks_) {
      arrived_ = 0;
      ++turn_;
      result_ = texts_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return turn_ != turn || error_; });
    require(turn_ != turn, "another rank failed");
    // The result is not overwritten before this rank has reached the next exchange.
    return result_;
  }

  int ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> texts_;
  std::vector<std::string> result_;
  int arrived_ = 0;
  int64_t turn_ = 0;
  std::exception_ptr error_;
};

}  // namespace tutti
