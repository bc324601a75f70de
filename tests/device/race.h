#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Finds accesses to device or shared memory that have no order: two threads, one of them writing, without a
// barrier between them; or two kernels of different streams without an event between them. Kernels report
// their accesses where the compiler instruments them (-fsanitize-coverage=trace-loads,trace-stores); copies
// and libraries report ranges by touch(). All functions but touch() are for the device's thread.
namespace software_cuda::race {

/// How much of each timeline comes before something. A timeline is a stream, or a branch of a graph.
using Clock = std::vector<uint32_t>;

uint32_t new_timeline();
/// Adds what comes before `other`.
void join(Clock& clock, const Clock& other);

/// Work that begins now: the next of `timeline`, after `clock`, which it is added to.
/// `function` is that of a kernel; else `name` is its name.
void begin_work(uint32_t timeline, Clock& clock, const void* function, std::string name = {});
void end_work();

enum class Kind : uint8_t { kRead = 1, kWrite = 2, kAtomic = 3 };

/// A thread of a kernel, and the barriers of its block and of its warp that it has passed.
struct Lane {
  uint32_t block = 0;
  uint16_t thread = 0;
  uint16_t block_barriers = 0;
  uint16_t warp_barriers = 0;
};
/// The following accesses are those of a thread; null: of none.
void run_lane(const Lane* lane);

/// An access by the work that runs; ignored if none does. Ends the process if it is a race.
void touch(const void* memory, size_t bytes, Kind kind);

}  // namespace software_cuda::race
