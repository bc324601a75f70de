#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// A file that a data set is made of.
struct ContentFile {
  std::filesystem::path path;
  std::string name;         ///< below the data set's directory
  int64_t bytes = -1;       ///< -1: not known yet
  std::string sha256;       ///< as recorded when the file was made; empty: not recorded
  std::string recorded_in;  ///< the file that says so
};

/// What decides which sample stands behind each number, so that a run can tell whether it goes on with the
/// same data.
struct DataContent {
  std::vector<ContentFile> files;    ///< in the order of the samples
  std::vector<std::string> classes;  ///< names by number; empty where they have none
  /// What else changes samples: the tokenizer, samples that are left out.
  std::vector<std::string> facts;
  /// Many small files, which are told apart by names and sizes; contents count up to a bound on their sum.
  bool small_files = false;
};

/// Of a few files without recorded checksums. Throws Error with the path where one is not there.
DataContent content_of_files(const std::vector<std::filesystem::path>& files);

}  // namespace tutti
