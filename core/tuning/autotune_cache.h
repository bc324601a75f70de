#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The fastest algorithm for each problem, found by autotuning. Only the library and the device of `scope`
/// ("NVIDIA H100 80GB HBM3, cuBLASLt 130100") can interpret the words.
struct AutotuneResults {
  std::string kind;   ///< kind of operation: "gemm"
  std::string scope;  ///< device and library version
  std::map<std::string, std::vector<uint64_t>> words;
};

inline constexpr size_t kMaxAutotuneWords = 16;

/// The text of a cache file: JSON, words in hexadecimal, problems in alphabetical order.
std::string to_json(const AutotuneResults& results);

/// The inverse. Throws Error naming `name` on anything that to_json does not write, untrusted text included.
AutotuneResults parse_autotune_results(std::string_view text, const std::string& name);

/// Autotune results in memory, backed by a file that the user's processes share. All functions may be called
/// from any thread.
class AutotuneCache {
 public:
  /// Reads `path` if it exists. A file that cannot be read, or that belongs to another library or device, is
  /// ignored with a notice on standard error and replaced by the next store(). An empty path keeps results in
  /// memory only.
  AutotuneCache(std::filesystem::path path, std::string kind, std::string scope);

  [[nodiscard]] std::optional<std::vector<uint64_t>> find(const std::string& problem) const;
  /// Adds or replaces a result and rewrites the file, merged with results that other processes have added. If
  /// the file cannot be written, prints one notice. Throws Error on more than kMaxAutotuneWords words or
  /// none.
  void store(const std::string& problem, const std::vector<uint64_t>& words);
  [[nodiscard]] size_t size() const;

 private:
  [[nodiscard]] std::optional<AutotuneResults> read() const;

  std::filesystem::path path_;
  AutotuneResults results_;
  bool writable_;
  mutable std::mutex mutex_;
};

/// The directory of cache files: the environment variable TUTTI_TUNING_DIR, else tutti in XDG_CACHE_HOME or
/// ~/.cache. Empty if none of them is set, or TUTTI_TUNING_DIR is empty.
std::filesystem::path autotune_directory();

}  // namespace tutti
