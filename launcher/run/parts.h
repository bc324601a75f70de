#pragma once

#include "launcher/placement/device_placement.h"
#include "launcher/run/run_settings.h"

#include <tutti/comm/collective.h>

#include <memory>

namespace tutti {

// Pieces of a run as its settings want them, for all that trains: `tutti train` and `tutti bench step`.

GroupOptions group_options(const RunSettings& settings, const Collective& world);

/// What gradients on GPUs travel by; null on the CPU, where it is the world itself. Collective.
std::unique_ptr<Collective> gradient_collective(const RunSettings& settings, const DevicePlacement& place,
                                                Collective& world, const Stream& compute);

}  // namespace tutti
