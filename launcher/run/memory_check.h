#pragma once

#include <tutti/core/module.h>
#include <tutti/core/peers.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Bytes that each parameter takes at least, besides activations: weight, gradient and the optimizer's states
/// in fp32.
int64_t least_bytes_a_parameter(std::string_view algorithm);

/// A sentence for each host whose memory, or the limit that a container or job sets, is smaller than what its
/// ranks take at least for the model; on rank 0, nothing on others. `usable_bytes` of this host; 0: the model
/// is not in its memory. Collective.
std::vector<std::string> memory_warnings(Module& model, std::string_view algorithm, int64_t usable_bytes,
                                         Peers& peers);

/// The same, from what each rank knows: "HOST LIMIT" with bytes.
std::vector<std::string> memory_warnings(int64_t bytes_a_rank, const std::vector<std::string>& hosts);

}  // namespace tutti
