#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// Makes a metrics file fit to be appended to: lines that are no records, as a crash of the machine or a full
/// disk leaves them, are taken out; a file without any record is renamed to *.damaged. Returns what was done
/// in words; empty if nothing, or if there is no such file. Throws Error with the path if it cannot be read
/// or replaced.
std::string repair_records(const std::filesystem::path& path);

}  // namespace tutti
