#pragma once

#include <tutti/core/module.h>
#include <tutti/core/peers.h>
#include "launcher/run/run_settings.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// Minimum bytes of `parameters` on one of `ranks`, without activations: weights, gradients, masters and
/// optimizer states, of which a rank has its part with parallel.zero.
int64_t min_bytes(int64_t parameters, const RunSettings& settings, int64_t ranks);

/// A warning for each host whose memory, or limit of a container or job, is smaller than the minimum for the
/// model in its ranks; on rank 0, none on others. `usable_bytes` of this host; 0: the model is not in its
/// memory. Collective.
std::vector<std::string> memory_warnings(Module& model, const RunSettings& settings, int64_t usable_bytes,
                                         Peers& peers);

/// The same from the values of all ranks: "HOST LIMIT" in bytes.
std::vector<std::string> memory_warnings(int64_t bytes_per_rank, const std::vector<std::string>& hosts);

}  // namespace tutti
