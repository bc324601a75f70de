#pragma once

#include <tutti/core/error.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

/// What libFuzzer calls with each input; each *_fuzz.cpp defines it. An input that is refused with
/// tutti::Error is fine; anything else that leaves the function is a defect.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tutti::fuzz {

inline std::string_view text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Ends the program unless `ok`, so that the fuzzer keeps the input.
inline void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "fuzz: broken promise: %s\n", what);
  std::abort();
}

/// Runs the parser; false if it refused the input. The message must not be empty.
template <class F>
bool accepted(F&& parse) {
  try {
    parse();
    return true;
  } catch (const Error& error) {
    check(error.what()[0] != '\0', "an error has a message");
    return false;
  }
}

}  // namespace tutti::fuzz
