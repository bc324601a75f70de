#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

/// The vector instruction sets that row programs are compiled for.
enum class Isa : uint8_t { kBaseline, kAvx2, kAvx512 };

/// "baseline", "avx2", "avx512".
std::string_view name(Isa isa);

/// The instruction set in the environment variable TUTTI_ISA, else cpu_isa(). Throws Error if TUTTI_ISA is
/// not the name of an instruction set, or the CPU does not support it.
Isa best_isa();

/// Makes best_isa() return `isa`; for tests. Throws Error if the CPU does not support it.
void set_isa(Isa isa);
/// The best instruction set that the CPU supports.
Isa cpu_isa();

namespace detail {

// `flatten` inlines all calls of the body into these functions, so that the row programs in it are compiled
// for the function's instruction set. Thus no inline function compiled for AVX has a symbol of its own. If
// whole files were compiled with -mavx512f, the linker could replace baseline versions of inline functions
// with AVX versions.
#if defined(__x86_64__)
template <class F>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2"), flatten, noinline)) void
run_avx512(F& body) {
  body();
}
template <class F>
__attribute__((target("avx2,fma,f16c,bmi2"), flatten, noinline)) void run_avx2(F& body) {
  body();
}
#endif
template <class F>
__attribute__((flatten, noinline)) void run_baseline(F& body) {
  body();
}

}  // namespace detail

/// Runs `body`, compiled for best_isa(). The body is a loop over row programs; all functions that it calls
/// must be inlinable.
template <class F>
void run_best_isa(F&& body) {
#if defined(__x86_64__)
  switch (best_isa()) {
    case Isa::kAvx512:
      return detail::run_avx512(body);
    case Isa::kAvx2:
      return detail::run_avx2(body);
    case Isa::kBaseline:
      break;
  }
#endif
  detail::run_baseline(body);
}

}  // namespace tutti
