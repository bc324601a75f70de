#pragma once

#include "launcher/run/run_settings.h"

namespace tutti {

// What `tutti train`, `evaluate` and `bench step` make of a run's settings before Compute and
// DistributedModel (comm) take over.

/// Fills in parallel.mode where it is auto. Throws Error, the same on all ranks, if one of them is on a GPU
/// that has no fp8 and model.fp8 wants it. Collective.
void settle(RunSettings& settings, const Compute& compute, Peers& peers);

DistributedModelConfig distribution(const RunSettings& settings);

}  // namespace tutti
