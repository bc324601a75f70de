#pragma once

#include <tutti/core/peers.h>

#include <filesystem>
#include <string_view>

namespace tutti {

/// Throws the same Error on all ranks, naming hosts, if a directory that rank 0 has made is not the one that
/// all hosts have by this name: rank 0 writes a file there, and one rank of each other host looks for it.
/// `key` is the run file's, for the message. Costs a run on one host an exchange of names. Collective.
void check_all_hosts_share(const std::filesystem::path& directory, std::string_view key, Peers& peers);

/// Makes a directory on rank 0 where there is none, and checks the same of it. Collective.
void make_shared_directory(const std::filesystem::path& directory, std::string_view key, Peers& peers);

}  // namespace tutti
