#include "launcher/run/setup.h"

#include <tutti/kernels/fp8.h>

namespace tutti {

void resolve_settings(RunSettings& settings, const Compute& compute, Peers& peers) {
  settings.parallel.data.resolve_mode(compute.device().type);
  peers.agree([&] {
    if (settings.model.kind == "gpt" && settings.model.fp8 != "none") require_fp8(compute.stream());
  });
}

DistributedModelConfig distribution(const RunSettings& settings) {
  return {.precision = settings.precision,
          .parallel = settings.parallel,
          .seed = static_cast<uint64_t>(settings.run.seed)};
}

}  // namespace tutti
