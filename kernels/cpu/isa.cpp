#include "kernels/cpu/isa.h"

#include <tutti/core/error.h>

#include <atomic>
#include <cstdlib>

namespace tutti {
namespace {

Isa initial_isa() {
  const char* wanted = std::getenv("TUTTI_ISA");
  if (wanted == nullptr || *wanted == '\0') return cpu_isa();
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (name(isa) != wanted) continue;
    require(isa <= cpu_isa(), "TUTTI_ISA={}: this CPU supports up to {}", wanted, name(cpu_isa()));
    return isa;
  }
  fail("TUTTI_ISA={}: expected baseline, avx2 or avx512", wanted);
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kBaseline:
      return "baseline";
  }
  return "baseline";
}

Isa cpu_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

Isa best_isa() {
  return current().load(std::memory_order_relaxed);
}

void set_isa(Isa isa) {
  require(isa <= cpu_isa(), "set_isa: this CPU supports up to {}, not {}", name(cpu_isa()), name(isa));
  current().store(isa, std::memory_order_relaxed);
}

}  // namespace tutti
