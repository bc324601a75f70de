#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <span>
#include <string>

namespace tutti {

/// The element of `inputs` that a file belongs to: the same file under any name, or a file in an input
/// directory, including through symbolic links in it; "" if there is none. Missing inputs are skipped.
std::string input_that_is(const struct stat& file, const std::filesystem::path& path,
                          std::span<const std::filesystem::path> inputs);

}  // namespace tutti
