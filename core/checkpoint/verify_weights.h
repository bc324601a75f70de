#pragma once

#include <tutti/core/checkpoint/shared_work.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tutti {

/// Whether the directory has a checkpoint's manifest.json; one of something else says nothing of weights.
bool has_checkpoint_manifest(const std::filesystem::path& directory);

/// The lines of `sha256sum`: file -> digest. Throws Error naming `name` and the line that is none.
std::map<std::string, std::string> parse_checksum_list(std::string_view text, const std::string& name);

/// Compares the files that ModelFiles::open(path) reads with the checksums recorded beside them: in
/// SHA256SUMS, as checkpoints have it, and in the manifest of a checkpoint. The ranks read a share each.
/// Returns how many files had a recorded checksum, 0 where none is recorded; empty if the work was cancelled.
/// Throws AgreedError on all ranks naming the files that are damaged, or the record that cannot be read.
/// Collective.
std::optional<int64_t> verify_weights(const std::filesystem::path& path, Peers& peers,
                                      const SharedWork& options);

}  // namespace tutti
