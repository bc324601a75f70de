#pragma once

#include "launcher/launch/adapter.h"

namespace tutti {

// Each stands in a file of its own.
extern const Adapter kSlurmAdapter;
extern const Adapter kPbsAdapter;
extern const Adapter kTorqueAdapter;
extern const Adapter kLsfAdapter;
extern const Adapter kFluxAdapter;
extern const Adapter kKubernetesAdapter;
extern const Adapter kHostFileAdapter;
extern const Adapter kLocalAdapter;

}  // namespace tutti
