#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

enum class Split : uint8_t { kTraining, kValidation };

/// "train" or "validation".
std::string_view name(Split split);

/// Samples that a run skips, such as damaged images, as a text file that `tutti data validate` writes and
/// users may edit. A line is the split, a space and the sample's name to the end of the line:
///
///     # cannot decode this JPEG file: premature end
///     train n01440764/n01440764_10042.JPEG
///     validation 1234
///
/// The name is that of ImageSource::name: for folders of images the file below the split's directory, else
/// the sample's number. Empty lines and lines that begin with # are ignored; in names, a line break is \n, a
/// carriage return \r and a backslash \\.
struct SkipList {
  struct Entry {
    Split split = Split::kTraining;
    std::string name;
    std::string reason;  ///< written as a comment before the line; not read
  };
  std::vector<Entry> entries;

  /// Throws Error naming `name` and the line unless the text has this form, without duplicate entries.
  static SkipList parse(std::string_view text, const std::string& name);
  static SkipList load(const std::filesystem::path& path);
  [[nodiscard]] std::string to_text() const;
  /// The names of one split, in byte order.
  [[nodiscard]] std::vector<std::string> names(Split split) const;
  /// SHA-256 of the entries in byte order, reasons left out.
  [[nodiscard]] std::string sha256() const;
};

}  // namespace tutti
