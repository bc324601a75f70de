#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// Writes a file atomically, unless it holds `text` already: what is started again on a full disk finds its
/// files as it left them. Throws Error with the path if it cannot be written.
void write_if_different(const std::filesystem::path& path, const std::string& text);

}  // namespace tutti
