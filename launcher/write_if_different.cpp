#include "launcher/write_if_different.h"

#include <tutti/core/checkpoint/file.h>

namespace tutti {

void write_if_different(const std::filesystem::path& path, const std::string& text) {
  std::error_code none;
  if (std::filesystem::is_regular_file(path, none) && std::filesystem::file_size(path, none) == text.size() &&
      read_text_file(path, static_cast<int64_t>(text.size())) == text) {
    return;
  }
  write_file_atomically(path, text);
}

}  // namespace tutti
