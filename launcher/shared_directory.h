#pragma once

#include <tutti/core/peers.h>

#include <filesystem>
#include <string_view>

namespace tutti {

/// Throws the same Error on all ranks, naming hosts, if a directory that rank 0 has created is not shared by
/// all hosts: rank 0 writes a file there, and one rank of each other host checks that it exists. `key` is the
/// run file's key, for the message. On one host, only host names are exchanged. Collective.
void check_all_hosts_share(const std::filesystem::path& directory, std::string_view key, Peers& peers);

/// Creates a directory on rank 0 if it is missing, and then checks that it is shared. Collective.
void make_shared_directory(const std::filesystem::path& directory, std::string_view key, Peers& peers);

}  // namespace tutti
