#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// The commit that is checked out where `directory` lies, read from git's files without running git (a
/// process that uses MPI had better not fork); empty if it is no git checkout or has no commit.
std::string git_revision(const std::filesystem::path& directory);

}  // namespace tutti
