#pragma once

#include <exception>
#include <string>

namespace tutti {

/// Memory use for an out-of-memory message: of this process, its address-space limit if there is one, and the
/// memory available on the machine.
std::string memory_summary();

/// The message of an exception. std::bad_alloc and std::bad_array_new_length, whose own texts are type names,
/// become "out of memory" with memory_summary().
std::string error_text(const std::exception& error);

}  // namespace tutti
