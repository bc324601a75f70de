#pragma once

#include <tutti/core/checkpoint/shared_work.h>
#include <tutti/core/data/content.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// How much of the data is read before training begins.
enum class DataCheck : uint8_t {
  kFull,   ///< all of it: contents must have their recorded checksums
  kQuick,  ///< sizes and headers
};
/// "full" or "quick"; the values of data.verify.
DataCheck data_check_from_name(std::string_view name);

/// Digests that are equal for equal data, in any directory and on any number of ranks.
struct DataIdentity {
  /// Of recorded checksums or of names and sizes, of class names and facts: always known.
  std::string listed;
  /// Of contents where no checksums are recorded; empty if they were not read.
  std::string contents;
  std::string described;  ///< the same for people: files, bytes, facts
  std::vector<std::string> classes;
  int64_t files = 0;
  int64_t bytes = 0;
};

/// Contents of data sets of small files are read up to this many bytes.
inline constexpr int64_t kMostBytesOfSmallFiles = int64_t{2} << 30;

/// Identifies a data set and, with DataCheck::kFull, compares its files with their recorded checksums; the
/// ranks read a share each. Empty if the work was cancelled. Throws AgreedError on all ranks naming the files
/// that are damaged, of another length or cannot be read. Collective.
std::optional<DataIdentity> identify(const DataContent& content, DataCheck check, Peers& peers,
                                     const SharedWork& options);

}  // namespace tutti
