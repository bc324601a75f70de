#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

/// The vector instruction sets that row programs are compiled for.
enum class Isa : uint8_t { kBaseline, kAvx2, kAvx512 };

/// "baseline", "avx2", "avx512".
std::string_view name(Isa isa);

/// The best one of this CPU, or the one that the environment variable TUTTI_ISA names if the CPU has it.
/// Throws Error if TUTTI_ISA names none, or one that the CPU lacks.
Isa best_isa();

/// Makes best_isa() return `isa` from now on; for tests. Throws Error if the CPU lacks it.
void set_isa(Isa isa);
/// The best one that the CPU has, whatever was set.
Isa cpu_isa();

namespace detail {

// `flatten` inlines everything that the body calls into these functions, so that the row programs inside are
// compiled for their instruction set. Nothing compiled for AVX gets a symbol of its own that the linker could
// merge with a baseline one, which is what happens to inline functions when whole files are compiled with
// -mavx512f.
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

/// Runs `body` compiled for the best instruction set of this machine. The body is a plain loop over row
/// programs: all that it calls must be inlinable.
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
