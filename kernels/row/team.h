#pragma once

#include <tutti/core/host_device.h>

#include <cstdint>

// For a loop whose iterations are independent even if its pointers are equal, as in an update in place.
// Without it, vector code runs only if a check finds no overlap, and an update in place fails that check.
#if defined(__clang__)
#  define INDEPENDENT_LOOP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#  define INDEPENDENT_LOOP _Pragma("GCC ivdep")
#else
#  define INDEPENDENT_LOOP
#endif

namespace tutti {

/// The threads that work on one row. A row program is a template over a Team with
///   lane(), lanes()  start and stride of this thread's part of a loop
///   sum(x), max(x)   reduction over the lanes, the same result on all; also a barrier
///   barrier()
/// The CPU runs each row with one lane, and the compiler vectorises its loops. CUDA runs rows with a warp or
/// a block. Tests run them with ThreadTeam (thread_team.h), so that ThreadSanitizer can detect races.
struct SerialTeam {
  static constexpr int64_t lane() { return 0; }
  static constexpr int64_t lanes() { return 1; }
  template <class T>
  static T sum(T x) {
    return x;
  }
  template <class T>
  static T max(T x) {
    return x;
  }
  static void barrier() {}
};

}  // namespace tutti
