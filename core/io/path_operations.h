#pragma once

#include "core/io/temporary.h"

#include <filesystem>
#include <vector>

namespace tutti {

/// Makes directories, outermost first; `made` removes them again unless they are kept. Errors name `whole`,
/// the path that the user gave.
void make_directories(const std::vector<std::filesystem::path>& missing, std::vector<TemporaryPath>& made,
                      const std::filesystem::path& whole);

/// Throws Error if a path begins with `~`, which no shell has replaced by the home directory.
void refuse_tilde(const std::filesystem::path& path);

/// Throws Error unless a file can be made in the directory: one is, and goes away at once.
void probe_directory(const std::filesystem::path& directory, const std::filesystem::path& whole);

/// Renames a file unless something is at the new name; returns whether it did. Throws Error where the system
/// refuses for another reason.
bool rename_no_replace(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace tutti
