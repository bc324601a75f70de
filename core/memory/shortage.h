#pragma once

#include <exception>
#include <string>

namespace tutti {

/// How much memory there is, for a message that some is missing: what this process has, how much address
/// space it may have where that is limited, and what the machine has left.
std::string memory_in_words();

/// What an exception says. One of the standard library that means a lack of memory, such as std::bad_alloc,
/// becomes "out of memory" with memory_in_words(); its own text is a type's name.
std::string words_of(const std::exception& error);

}  // namespace tutti
