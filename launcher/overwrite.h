#pragma once

#include <tutti/core/function_ref.h>

#include <filesystem>
#include <string_view>

namespace tutti {

/// Writes a small file of a launch or a run: atomically; where there is no space left for a second one, into
/// the place of the one that is there, which takes none. Then `shorter` is written if `text` does not fit. A
/// file that holds `text` already stays as it is. Throws Error naming the file if neither can be done.
void write_or_overwrite(const std::filesystem::path& path, std::string_view text,
                        std::string_view shorter = {});

/// Throws Error naming the file if something is at `path` that is no regular file, such as a link, or that
/// `is_own` says a launch has not written.
void require_replaceable(const std::filesystem::path& path, FunctionRef<bool()> is_own);

}  // namespace tutti
