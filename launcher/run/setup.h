#pragma once

#include <tutti/comm/compute.h>
#include <tutti/comm/distributed_model.h>
#include "launcher/run/run_settings.h"

namespace tutti {

// Preparation of a run's settings for Compute and DistributedModel (comm) in `tutti train`, `evaluate` and
// `bench step`.

/// Resolves parallel.mode auto. Throws Error, the same on all ranks, if model.fp8 is set and the GPU of a
/// rank does not support fp8. Collective.
void resolve_settings(RunSettings& settings, const Compute& compute, Peers& peers);

DistributedModelConfig distribution(const RunSettings& settings);

}  // namespace tutti
