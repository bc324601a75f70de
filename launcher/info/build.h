#pragma once

#include <string>

namespace tutti {

/// "0.1.0 (a1b2c3d4)": the version and, where known, the git revision of the sources.
std::string build_version();
/// "0.1.0".
std::string build_number();
/// The git revision that this program was built from, "-dirty" appended if files were changed; empty if it
/// was built outside a git checkout.
std::string build_revision();
/// "GNU 12.2.0, Release".
std::string build_compiler();

}  // namespace tutti
