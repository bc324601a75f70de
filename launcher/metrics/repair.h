#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// Repairs a metrics file before records are appended: removes lines that are not records, left by a machine
/// crash or a full disk; renames a file without any record to *.damaged. Returns a description of what was
/// done; empty if nothing, or if there is no such file. Throws Error with the path if it cannot be read or
/// replaced.
std::string repair_records(const std::filesystem::path& path);

}  // namespace tutti
