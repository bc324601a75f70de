#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <span>
#include <string>

namespace tutti {

/// Which of `inputs` a file is: the same file under whatever name, or inside of an input directory, also
/// behind symbolic links in it; "" for none. Inputs that are not there are passed over.
std::string input_that_is(const struct stat& file, const std::filesystem::path& path,
                          std::span<const std::filesystem::path> inputs);

}  // namespace tutti
