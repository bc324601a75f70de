#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// A file of a data set.
struct ContentFile {
  std::filesystem::path path;
  std::string name;         ///< relative to the data set's directory
  int64_t bytes = -1;       ///< -1: unknown
  std::string sha256;       ///< as recorded when the file was created; empty: not recorded
  std::string recorded_in;  ///< the file with the record
};

/// Determines the sample of each number, so that a resumed run can check that it has the same data.
struct DataContent {
  std::vector<ContentFile> files;    ///< in the order of the samples
  std::vector<std::string> classes;  ///< names by number; empty if there are none
  /// Other influences on samples: the tokenizer, skipped samples.
  std::vector<std::string> facts;
  /// Many small files, which are identified by names and sizes; contents are compared up to a total size.
  bool small_files = false;
};

/// Content of a few files without recorded checksums. Throws Error with the path of a missing file.
DataContent content_of_files(const std::vector<std::filesystem::path>& files);

}  // namespace tutti
