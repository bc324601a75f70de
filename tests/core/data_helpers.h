#pragma once

#include <gtest/gtest.h>
#include <tutti/core/error.h>
#include "tests/temporary_directory.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>

namespace tutti::test {

using tutti::TemporaryDirectory;

/// One generator per test program; its seed is printed so that a failure can be reproduced.
inline std::mt19937_64& random() {
  static std::mt19937_64 generator{[] {
    const uint64_t seed = std::random_device{}();
    std::printf("random seed %llu\n", static_cast<unsigned long long>(seed));
    return seed;
  }()};
  return generator;
}

/// Uniform in 0 .. n - 1.
inline size_t draw(size_t n) {
  return std::uniform_int_distribution<size_t>(0, n - 1)(random());
}

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  ASSERT_TRUE(file.good()) << path;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Expects an Error whose message contains `part`.
template <class F>
void expect_error(F&& f, const std::string& part) {
  try {
    f();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "message: " << error.what() << "\nexpected in it: " << part;
  }
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

inline std::string random_bytes(size_t n) {
  std::string bytes(n, '\0');
  for (char& c : bytes) c = static_cast<char>(static_cast<unsigned char>(draw(256)));
  return bytes;
}

}  // namespace tutti::test
