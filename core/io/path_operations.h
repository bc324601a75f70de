#pragma once

#include "core/io/temporary.h"

#include <filesystem>
#include <vector>

namespace tutti {

/// Creates directories, outermost first; `made` removes them again unless they are kept. Errors name `whole`,
/// the path that the user gave.
void make_directories(const std::vector<std::filesystem::path>& missing, std::vector<TemporaryPath>& made,
                      const std::filesystem::path& whole);

/// Throws Error if a path begins with a `~` that the shell has not expanded.
void refuse_tilde(const std::filesystem::path& path);

/// Throws Error unless a file can be created in the directory: creates one and removes it at once.
void probe_directory(const std::filesystem::path& directory, const std::filesystem::path& whole);

/// Renames a file unless the new name exists (RENAME_NOREPLACE); returns whether it was renamed. Throws Error
/// if the rename fails for another reason.
bool rename_no_replace(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace tutti
