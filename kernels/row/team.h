#pragma once

#include <tutti/core/host_device.h>

#include <cstdint>

// Before a loop whose iterations are independent even where its pointers are equal, as in an update in place:
// without this the compiler guards vector code with overlap checks, which an update in place fails.
#if defined(__clang__)
#  define INDEPENDENT_LOOP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#  define INDEPENDENT_LOOP _Pragma("GCC ivdep")
#else
#  define INDEPENDENT_LOOP
#endif

namespace tutti {

/// The threads that work on one row. A row program is a template over a Team with
///   lane(), lanes()  which part of a strided loop is this thread's
///   sum(x), max(x)   reduction over the lanes, the same result on all; also a barrier
///   barrier()
/// The CPU runs rows with one lane each and leaves the loop to the vectoriser; CUDA runs them with a block;
/// tests run them with ThreadTeam (thread_team.h), so that races show up under ThreadSanitizer.
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
