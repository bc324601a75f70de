#pragma once

#include <tutti/core/data/validate/validate.h>

#include <cstring>

namespace tutti {

/// The first half of a SHA-256: distinguishes contents.
using ContentDigest = std::array<uint8_t, 16>;
ContentDigest content_digest(std::span<const std::byte> content);

/// The results of a rank's part of a split.
struct ScanPart {
  std::vector<DataProblem> problems;
  std::vector<std::pair<int64_t, ContentDigest>> digests;  ///< of samples that could be read
  int64_t least_height = 0, least_width = 0, most_height = 0, most_width = 0;  ///< 0: there was no image
  int64_t scaled_up = 0;
  std::vector<bool> ids_used;

  [[nodiscard]] std::string to_text() const;
  static ScanPart from_text(const std::string& text);
};

using ScanProgress = std::function<void(int64_t done, int64_t total)>;

/// Reads samples [begin, end) of a split of images, except those in `skip` (sorted).
ScanPart scan_images(const DataConfig& config, const ImageSource& source, const std::vector<int64_t>& skip,
                     int64_t begin, int64_t end, ThreadPool& pool, const ScanProgress& progress);

/// Reads this rank's part of a split of tokens: checksums of shards, ids, and contents of samples.
ScanPart scan_tokens(const std::filesystem::path& directory, std::string_view split, int64_t context,
                     int rank, int ranks, ThreadPool& pool, const ScanProgress& progress);

}  // namespace tutti
