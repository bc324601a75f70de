#pragma once

#include <tutti/core/function_ref.h>

#include <filesystem>
#include <string_view>

namespace tutti {

/// Writes a small file of a launch or a run: atomically, or, if there is no space for a second file, in place
/// over the existing one, which needs none. `shorter` is then written if `text` does not fit. A file that
/// already contains `text` is not changed. Throws Error naming the file if neither is possible.
void write_or_overwrite(const std::filesystem::path& path, std::string_view text,
                        std::string_view shorter = {});

/// Throws Error naming the file if `path` exists and is not a regular file, such as a link, or was not
/// written by a launch (`is_own` is false).
void require_replaceable(const std::filesystem::path& path, FunctionRef<bool()> is_own);

}  // namespace tutti
