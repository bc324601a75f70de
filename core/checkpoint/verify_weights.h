#pragma once

#include <tutti/core/checkpoint/shared_work.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tutti {

/// Whether the directory has the manifest.json of a checkpoint; other manifests do not describe weights.
bool has_checkpoint_manifest(const std::filesystem::path& directory);

/// Parses the output of `sha256sum`: file -> digest. Throws Error naming `name` and the invalid line.
std::map<std::string, std::string> parse_checksum_list(std::string_view text, const std::string& name);

/// Compares the files that ModelFiles::open(path) reads with the checksums recorded in their directory, in
/// SHA256SUMS and in the manifest of a checkpoint. Each rank reads a share. Returns the number of files with
/// a recorded checksum; empty if the work was cancelled. Throws AgreedError on all ranks naming the damaged
/// files, or the record that cannot be read. Collective.
std::optional<int64_t> verify_weights(const std::filesystem::path& path, Peers& peers,
                                      const SharedWork& options);

}  // namespace tutti
