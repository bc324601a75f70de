#include "tests/device/grid.h"

#include "tests/device/fiber.h"
#include "tests/device/race.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace software_cuda {

Position position;

namespace {

constexpr unsigned kWarp = 32;

enum class Waits : uint8_t { kNothing, kBlock, kWarpBarrier, kExchange };

struct Thread {
  uint3 index{};
  race::Lane lane;
  unsigned exchanges = 0;  // their number until now
  Fiber* fiber = nullptr;  // while it waits
};

struct Warp {
  // What its lanes give each other. A lane can be at most one exchange ahead of those that still read: two
  // places.
  alignas(16) std::byte given[2][kWarp][16];
  Waits waits = Waits::kNothing;  // what `arrived` lanes wait for, and all of `mask` have to come to
  unsigned mask = 0;
  unsigned arrived = 0;
};

class Block {
 public:
  /// `number` is that of the block in the grid.
  std::string run(const Kernel& kernel, uint3 index, uint32_t number, Random& random) {
    count_ = kernel.threads.x * kernel.threads.y * kernel.threads.z;
    kernel_ = &kernel;
    position.block = index;
    number_ = number;
    if (threads_.size() < count_) {
      threads_.resize(count_);
      warps_.resize((count_ + kWarp - 1) / kWarp);
    }
    for (unsigned warp = 0; warp * kWarp < count_; ++warp) warps_[warp].arrived = 0;
    backwards_ = random() % 2 == 0;
    next_ = 0;
    ended_ = 0;
    problem_.clear();
    at_barrier_.clear();
    while (problem_.empty() && (next_ < count_ || !ready_.empty())) {
      // Threads that can go on do so first, or at last: both are orders that a GPU may choose.
      if (!ready_.empty() && (next_ == count_ || backwards_)) {
        current_ = ready_.back();
        ready_.pop_back();
        enter(*current_->fiber);
      } else {
        enter(idle_fiber());
      }
    }
    ready_.clear();
    if (problem_.empty() && ended_ < count_)
      problem_ = "some threads wait for others of their warp or block that never come to the same place";
    return problem_;
  }

  // Called by kernels, on a fiber.

  void wait_for_block() {
    at_barrier_.push_back(current_);
    ++current_->lane.block_barriers;
    release_block();
    leave();
  }

  void wait_for_warp(Waits what, unsigned mask) {
    const auto i = static_cast<unsigned>(index_of(*current_));
    Warp& warp = warps_[i / kWarp];
    if (what == Waits::kWarpBarrier) ++current_->lane.warp_barriers;
    if (warp.arrived != 0 && (warp.mask != mask || warp.waits != what))
      problem_ = fmt::format("lanes of the warp of thread {} are at different operations", i);
    warp.mask = mask;
    warp.waits = what;
    warp.arrived |= 1U << i % kWarp;
    if (warp.arrived == mask) {
      for (unsigned lane = 0; lane < kWarp; ++lane) {
        if ((mask >> lane & 1U) != 0) ready_.push_back(&threads_[i / kWarp * kWarp + lane]);
      }
      warp.arrived = 0;
    }
    leave();
  }

  const void* exchange(unsigned mask, const void* value, size_t bytes, unsigned from) {
    auto& given = give(mask, value, bytes);
    if ((mask >> from % kWarp & 1U) == 0) problem_ = "a lane reads from one that is not part of the exchange";
    return given[from % kWarp];
  }

  unsigned largest(unsigned mask, unsigned value) {
    auto& given = give(mask, &value, sizeof value);
    unsigned most = 0;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1U) == 0) continue;
      unsigned other = 0;
      std::memcpy(&other, given[lane], sizeof other);
      most = std::max(most, other);
    }
    return most;
  }

  [[nodiscard]] unsigned lane_of_warp() const { return static_cast<unsigned>(index_of(*current_) % kWarp); }

 private:
  [[nodiscard]] size_t index_of(const Thread& t) const { return static_cast<size_t>(&t - threads_.data()); }

  std::byte (&give(unsigned mask, const void* value, size_t bytes))[kWarp][16] {
    const size_t i = index_of(*current_);
    auto& given = warps_[i / kWarp].given[current_->exchanges++ % 2];
    std::memcpy(given[i % kWarp], value, bytes);
    wait_for_warp(Waits::kExchange, mask);
    return given;
  }

  /// Threads that have ended do not count, as on GPUs since Volta.
  void release_block() {
    if (at_barrier_.size() + ended_ < count_) return;
    ready_.insert(ready_.end(), at_barrier_.begin(), at_barrier_.end());
    at_barrier_.clear();
  }

  Fiber& idle_fiber() {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>([this](Fiber& self) {
        while (true) {
          start_threads();
          idle_.push_back(&self);
          self.leave();
        }
      }));
      return *fibers_.back();
    }
    Fiber& fiber = *idle_.back();
    idle_.pop_back();
    return fiber;
  }

  void enter(Fiber& fiber) {
    running_ = &fiber;
    fiber.enter();
  }

  /// From the fiber of the current thread, until it can go on.
  void leave() {
    Thread& self = *current_;
    Fiber& fiber = *running_;
    self.fiber = &fiber;
    race::run_lane(nullptr);
    fiber.leave();
    current_ = &self;
    position.thread = self.index;
    race::run_lane(&self.lane);
  }

  /// On a fiber: runs threads that have not started, one after the other. One that waits and is continued is
  /// the last.
  void start_threads() {
    while (next_ < count_) {
      const unsigned i = backwards_ ? count_ - 1 - next_ : next_;
      ++next_;
      Thread& t = threads_[i];
      t.exchanges = 0;
      t.fiber = nullptr;
      t.index = {i % kernel_->threads.x, i / kernel_->threads.x % kernel_->threads.y,
                 i / kernel_->threads.x / kernel_->threads.y};
      t.lane = {.block = number_, .thread = static_cast<uint16_t>(i)};
      current_ = &t;
      position.thread = t.index;
      race::run_lane(&t.lane);
      kernel_->body();
      race::run_lane(nullptr);
      ++ended_;
      release_block();
      if (t.fiber != nullptr) return;
    }
  }

  const Kernel* kernel_ = nullptr;
  uint32_t number_ = 0;
  unsigned count_ = 0;
  unsigned next_ = 0;  // threads that have started
  unsigned ended_ = 0;
  bool backwards_ = false;
  std::string problem_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Thread*> at_barrier_;
  std::vector<Thread*> ready_;
  Thread* current_ = nullptr;
  Fiber* running_ = nullptr;
  std::vector<Fiber*> idle_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

// Never destroyed: its fibers may still be needed at the end of the program.
Block& block() {
  static auto& only = *new Block;
  return only;
}

const Kernel* running = nullptr;

}  // namespace

void block_barrier() {
  block().wait_for_block();
}

void warp_barrier(unsigned mask) {
  block().wait_for_warp(Waits::kWarpBarrier, mask);
}

const void* exchange(unsigned mask, const void* value, size_t bytes, unsigned from) {
  return block().exchange(mask, value, bytes, from);
}

unsigned lane_of_warp() {
  return block().lane_of_warp();
}

unsigned reduce_max(unsigned mask, unsigned value) {
  return block().largest(mask, value);
}

void access_atomically(const void* memory, size_t bytes) {
  race::touch(memory, bytes, race::Kind::kAtomic);
}

void access(const void* memory, size_t bytes, bool writes) {
  race::touch(memory, bytes, writes ? race::Kind::kWrite : race::Kind::kRead);
}

std::string run_grid(const Kernel& kernel, Random& random) {
  running = &kernel;
  position.threads = kernel.threads;
  position.blocks = kernel.blocks;
  const uint64_t count = uint64_t{kernel.blocks.x} * kernel.blocks.y * kernel.blocks.z;
  const bool backwards = random() % 2 == 0;
  std::string problem;
  for (uint64_t b = 0; b < count && problem.empty(); ++b) {
    const uint64_t i = backwards ? count - 1 - b : b;
    const uint3 index{static_cast<unsigned>(i % kernel.blocks.x),
                      static_cast<unsigned>(i / kernel.blocks.x % kernel.blocks.y),
                      static_cast<unsigned>(i / kernel.blocks.x / kernel.blocks.y)};
    problem = block().run(kernel, index, static_cast<uint32_t>(i), random);
  }
  running = nullptr;
  return problem;
}

const Kernel* running_kernel() noexcept {
  return running;
}

}  // namespace software_cuda
