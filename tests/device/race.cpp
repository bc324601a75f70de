#include "tests/device/race.h"

#include "tests/device/kernel_name.h"
#include "tests/device/memory.h"
#include "tests/device/settings.h"

#include "software_cuda/lane.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <memory>

extern "C" {
extern char __bss_start[];
extern char _end[];
}

namespace software_cuda::race {
namespace {

/// An access to some of the four bytes of a cell.
struct Access {
  uint32_t work = 0;  // 0: none
  uint32_t block = 0;
  uint16_t thread = 0;
  uint16_t block_barriers = 0;
  uint16_t warp_barriers = 0;
  uint8_t bytes = 0;  // a bit for each
  Kind kind = Kind::kRead;

  [[nodiscard]] bool by(const Access& other) const {
    return work == other.work && block == other.block && thread == other.thread;
  }
};
static_assert(sizeof(Access) == 16);

constexpr size_t kCell = 4;  // bytes of memory
/// The accesses that are remembered. If there are more, some are forgotten: a race may be missed.
struct Cell {
  Access accesses[4];
};

constexpr size_t kPage = 4096;
struct Page {
  Cell cells[kPage / kCell];
};

struct Work {
  uint32_t timeline;
  uint32_t tick;
  const void* function;
  std::string name;
};

struct State {
  std::deque<Work> works{1};  // by id; the first is none
  const Clock* clock = nullptr;
  Access now;  // of the lane that runs
  const std::byte* begin[kMostDevices]{};
  std::vector<std::unique_ptr<Page>> pages[kMostDevices];
  // Shared variables are static: the accesses of different blocks are not compared.
  struct Tagged {
    uintptr_t address = 0;
    Cell cell;
  };
  std::vector<Tagged> shared{size_t{1} << 15};
  uint32_t random = 1;
};

State& state() {
  static auto& only = *new State;
  return only;
}

bool working = false;
thread_local bool reporting =
    false;  // a lane runs; not in this file, whose library functions may be instrumented too
uint32_t timelines = 0;

std::string describe(const Access& access) {
  const State& s = state();
  const Work& work = s.works[access.work];
  const char* const kinds[] = {"", "read", "written", "updated"};
  return fmt::format("{} by {}, block {}, thread {} after {} barriers", kinds[static_cast<int>(access.kind)],
                     work.function == nullptr ? work.name : kernel_name(work.function), access.block,
                     access.thread, access.block_barriers);
}

[[noreturn]] void report(const void* memory, const Access& before, const Access& now) {
  const std::string text =
      fmt::format("software device: a race at {}:\n  {}\n  {}\n", memory, describe(before), describe(now));
  (void)!write(STDERR_FILENO, text.data(), text.size());
  std::abort();
}

/// Whether `before` comes before what the current lane does.
bool ordered(const Access& before, const Access& now) {
  const State& s = state();
  if (before.work != now.work) {
    const Work& work = s.works[before.work];
    return work.timeline < s.clock->size() && (*s.clock)[work.timeline] >= work.tick;
  }
  if (before.block != now.block) return false;
  if (before.thread == now.thread || before.block_barriers != now.block_barriers) return true;
  return before.thread / 32 == now.thread / 32 && before.warp_barriers != now.warp_barriers;
}

void access(Cell& cell, const void* memory, Access now, bool shared) {
  Access* place = nullptr;
  int worth = 4;  // of what is forgotten: 0 nothing, 1 superseded, 2 a read, 3 a write
  for (Access& old : cell.accesses) {
    int value = 0;
    if (old.work != 0) {
      const bool same = old.by(now);
      if (same && old.kind == now.kind && old.bytes == now.bytes) {
        old = now;
        return;
      }
      const bool comparable = !shared || (old.work == now.work && old.block == now.block);
      const bool before = !comparable || ordered(old, now);
      const bool conflict = (old.bytes & now.bytes) != 0 &&
                            (old.kind == Kind::kWrite || now.kind == Kind::kWrite || old.kind != now.kind);
      if (!before && conflict && !same) report(memory, old, now);
      const bool superseded =
          !comparable || (before && now.kind == Kind::kWrite && (old.bytes & ~now.bytes) == 0);
      value = superseded ? 1 : old.kind == Kind::kRead ? 2 : 3;
    }
    if (value < worth ||
        (value == worth && (state().random = state().random * 1664525 + 1013904223) >> 31 != 0)) {
      worth = value;
      place = &old;
    }
  }
  *place = now;
}

/// Calls f(address of the cell, which of its bytes) for the cells of a range.
template <class F>
void for_cells(uintptr_t begin, uintptr_t end, F f) {
  while (begin < end) {
    const uintptr_t cell = begin / kCell * kCell;
    const uintptr_t last = cell + kCell < end ? cell + kCell : end;
    f(cell, static_cast<uint8_t>((1U << (last - cell)) - (1U << (begin - cell))));
    begin = last;
  }
}

/// The cells of the page of a device's memory at `offset`.
Page& page_of(int device, uintptr_t offset) {
  auto& pages = state().pages[device];
  if (offset / kPage >= pages.size()) pages.resize(offset / kPage + 256);
  auto& page = pages[offset / kPage];
  if (page == nullptr) page = std::make_unique<Page>();
  return *page;
}

void touch_device(int device, uintptr_t begin, uintptr_t end, Access now) {
  State& s = state();
  if (s.begin[device] == nullptr) s.begin[device] = device_begin(device);
  const auto base = reinterpret_cast<uintptr_t>(s.begin[device]);
  while (begin < end) {
    const uintptr_t limit = std::min(end, base + (begin - base) / kPage * kPage + kPage);
    Page& page = page_of(device, begin - base);
    for_cells(begin, limit, [&](uintptr_t cell, uint8_t bytes) {
      now.bytes = bytes;
      access(page.cells[(cell - base) % kPage / kCell], reinterpret_cast<const void*>(cell), now, false);
    });
    begin = limit;
  }
}

void touch_shared(uintptr_t begin, uintptr_t end, Access now) {
  State& s = state();
  for_cells(begin, end, [&](uintptr_t cell, uint8_t bytes) {
    auto& tagged = s.shared[cell / kCell % s.shared.size()];
    if (tagged.address != cell) tagged = {cell, {}};
    now.bytes = bytes;
    access(tagged.cell, reinterpret_cast<const void*>(cell), now, true);
  });
}

inline void report_access(const void* memory, size_t bytes, Kind kind) {
  // The indices of the thread itself are read all the time.
  const auto into_place = reinterpret_cast<uintptr_t>(memory) - reinterpret_cast<uintptr_t>(&position);
  if (!reporting || into_place < sizeof position) return;
  reporting = false;
  touch(memory, bytes, kind);
  reporting = true;
}

}  // namespace

uint32_t new_timeline() {
  return timelines++;
}

void join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

void begin_work(uint32_t timeline, Clock& clock, const void* function, std::string name) {
  State& s = state();
  if (clock.size() <= timeline) clock.resize(timeline + 1);
  s.works.push_back({timeline, ++clock[timeline], function, std::move(name)});
  s.clock = &clock;
  s.now = {.work = static_cast<uint32_t>(s.works.size() - 1)};
  working = true;
}

void end_work() {
  working = false;
}

void run_lane(const Lane* lane) {
  reporting = false;
  if (lane == nullptr) return;
  Access& now = state().now;
  now.block = lane->block;
  now.thread = lane->thread;
  now.block_barriers = lane->block_barriers;
  now.warp_barriers = lane->warp_barriers;
  reporting = true;
}

void touch(const void* memory, size_t bytes, Kind kind) {
  if (!working) return;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  Access now = state().now;
  now.kind = kind;
  if (const int device = device_of(memory); device >= 0) {
    touch_device(device, begin, begin + bytes, now);
  } else if (begin >= reinterpret_cast<uintptr_t>(__bss_start) && begin < reinterpret_cast<uintptr_t>(_end)) {
    touch_shared(begin, begin + bytes, now);
  }
}

}  // namespace software_cuda::race

// What the compiler calls at each access of instrumented code.
using software_cuda::race::Kind;
using software_cuda::race::report_access;
#define REPORT_ACCESSES(bytes)                            \
  extern "C" void __sanitizer_cov_load##bytes(void* p) {  \
    report_access(p, bytes, Kind::kRead);                 \
  }                                                       \
  extern "C" void __sanitizer_cov_store##bytes(void* p) { \
    report_access(p, bytes, Kind::kWrite);                \
  }
REPORT_ACCESSES(1)
REPORT_ACCESSES(2)
REPORT_ACCESSES(4)
REPORT_ACCESSES(8)
REPORT_ACCESSES(16)
