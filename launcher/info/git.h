#pragma once

#include <filesystem>
#include <string>

namespace tutti {

/// The commit that is checked out in the tree of `directory`, read from git's files: a process that uses MPI
/// should not fork to run git. Empty if it is not in a git checkout, or has no commit.
std::string git_revision(const std::filesystem::path& directory);

}  // namespace tutti
