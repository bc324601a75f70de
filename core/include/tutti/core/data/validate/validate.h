#pragma once

#include <tutti/core/data/data_config.h>
#include <tutti/core/data/image_folder.h>
#include <tutti/core/peers.h>
#include <tutti/core/thread_pool.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// An error in one sample or file.
struct DataProblem {
  int64_t id = -1;   ///< the sample's number; -1 for a file that is not a sample
  std::string name;  ///< ImageSource::name, or the file's name
  std::string reason;
  bool can_be_skipped = false;  ///< by a skip list
};

/// Two samples with the same content.
struct DuplicateExample {
  std::string first, second;  ///< "train ant/1.jpg"
};

struct DuplicateCounts {
  int64_t samples = 0;                     ///< with the content of an earlier one
  int64_t conflicts = 0;                   ///< of them with another class
  std::vector<DuplicateExample> examples;  ///< the first few
};

/// Facts about one split.
struct SplitReport {
  Split split = Split::kTraining;
  std::string path;
  int64_t samples = 0;
  int64_t skipped = 0;  ///< of them, by data.skip
  std::vector<std::string> class_names;
  std::vector<int64_t> class_counts;
  // Images: sizes after orientation. An image is scaled up if a side is below data.folder.size or resize.
  int64_t least_height = 0, least_width = 0, most_height = 0, most_width = 0;
  int64_t scaled_up = 0;
  // Tokens.
  int64_t tokens = 0;
  int64_t shards = 0;
  int64_t ids_used = 0;
  int64_t vocabulary = 0;
  DuplicateCounts duplicates;         ///< within the split
  std::vector<DataProblem> problems;  ///< samples on which training would fail, by id
  std::vector<LeftOutFile> left_out;
  std::vector<std::string> missing;  ///< images listed in data.skip that do not exist
};

/// The result of validate_data().
struct DataReport {
  std::vector<SplitReport> splits;
  DuplicateCounts shared;             ///< validation samples whose content is also in the training data
  std::vector<std::string> errors;    ///< about a split as a whole: training could not begin
  std::vector<std::string> warnings;  ///< accepted by training, but possibly not intended
  bool complete = true;               ///< all samples were checked; if false, `errors` has the reasons

  /// Whether training would read all samples.
  [[nodiscard]] bool good() const;
  /// The list of data.skip plus the problems that can be skipped; covers all samples only if the report is
  /// `complete`.
  [[nodiscard]] SkipList skip_list(const SkipList& given) const;
};

/// Reads all samples of the training and validation data, a part on each rank and thread: decodes images,
/// compares shards with their recorded checksums, ids with the vocabulary, and contents with each other.
/// Images listed in data.skip are not decoded. The report is the same on all ranks. `progress` is called on
/// rank 0 with the number of this rank's samples that are done. Errors in files are in the report; throws
/// only if there can be no report. Collective.
DataReport validate_data(const DataConfig& config, Peers& peers, ThreadPool& pool,
                         const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace tutti
