#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The hosts of Slurm's compressed form: "node[1-3,5],gpu-07" and "rack[1-2]n[01-16]". Zeros in front are
/// kept. Throws Error if the text is malformed, names more than 100,000 hosts, or one that is no host name.
std::vector<std::string> expand_host_list(std::string_view text);

/// The numbers of Slurm's compressed form, one a node: "2(x3),1" is 2, 2, 2, 1. Throws Error if malformed.
std::vector<int64_t> expand_counts(std::string_view text);

}  // namespace tutti
