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

/// What was measured to be the fastest way to do something, by problem. The words mean something only to the
/// library whose `scope` ("NVIDIA H100 80GB HBM3, cuBLASLt 130100") they were measured with.
struct Choices {
  std::string kind;   ///< what is chosen: "gemm"
  std::string scope;  ///< device and library version
  std::map<std::string, std::vector<uint64_t>> words;
};

inline constexpr size_t kMaxChoiceWords = 16;

/// The text of a choices file: JSON, words in hexadecimal, problems in alphabetical order.
std::string to_json(const Choices& choices);

/// The inverse. Throws Error naming `name` on anything that to_json does not write, untrusted text included.
Choices parse_choices(std::string_view text, const std::string& name);

/// Choices in memory, backed by a file that this user's processes share. All functions may be called from any
/// thread.
class ChoiceFile {
 public:
  /// Reads `path` if it is there. One that cannot be read or was measured with another library or device is
  /// ignored with a notice on standard error, and replaced by the next choice. An empty path keeps choices in
  /// memory only.
  ChoiceFile(std::filesystem::path path, std::string kind, std::string scope);

  [[nodiscard]] std::optional<std::vector<uint64_t>> find(const std::string& problem) const;
  /// Adds or replaces a choice, and rewrites the file with those that other processes have added meanwhile. A
  /// file that cannot be written costs a notice, once. Throws Error on more than kMaxChoiceWords words or
  /// none.
  void keep(const std::string& problem, const std::vector<uint64_t>& words);
  [[nodiscard]] size_t size() const;

 private:
  [[nodiscard]] std::optional<Choices> read() const;

  std::filesystem::path path_;
  Choices choices_;
  bool writable_;
  mutable std::mutex mutex_;
};

/// How kernels choose among a library's algorithms for one problem, which differ in speed and in last bits.
enum class Choosing : uint8_t {
  /// The fastest here: timed at first use, and remembered. Attention's backward in bf16 on CUDA may then add
  /// in the order in which its parts are done.
  kMeasured,
  /// The one that the library names first, the same wherever device model and library are the same; the bits
  /// of all results follow from the inputs.
  kPredicted,
};
/// Of this process from now on; kMeasured at first.
void set_choosing(Choosing choosing) noexcept;
[[nodiscard]] Choosing choosing() noexcept;

/// The folder for choices: the environment variable TUTTI_TUNING_DIR, else tutti in XDG_CACHE_HOME or
/// ~/.cache. Empty if there is none, or TUTTI_TUNING_DIR is set to nothing.
std::filesystem::path tuning_directory();

}  // namespace tutti
