#include "launcher/overwrite.h"

#include "launcher/launch/child.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/io/resolved_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace tutti {
namespace {

constexpr int64_t kMostBytes = int64_t{16} << 20;
constexpr int64_t kUnit = 512;  // of st_blocks

/// Writes a text into the blocks that a file already has; false if they are too few.
bool overwrite(const std::filesystem::path& path, std::string_view text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat found {};
  if (file.number() < 0 || fstat(file.number(), &found) != 0 || !S_ISREG(found.st_mode)) return false;
  if (static_cast<int64_t>(text.size()) > static_cast<int64_t>(found.st_blocks) * kUnit) return false;
  // One write, so that a reader sees one text or the other.
  std::string whole(text);
  if (static_cast<int64_t>(whole.size()) < found.st_size)
    whole.resize(static_cast<size_t>(found.st_size), '\n');
  return pwrite(file.number(), whole.data(), whole.size(), 0) == static_cast<ssize_t>(whole.size()) &&
         ftruncate(file.number(), static_cast<off_t>(text.size())) == 0;
}

}  // namespace

void write_or_overwrite(const std::filesystem::path& path, std::string_view text, std::string_view shorter) {
  std::error_code error;
  try {
    if (std::filesystem::is_regular_file(path, error) && read_text_file(path, kMostBytes) == text) return;
  } catch (const Error&) {
    // It is written again.
  }
  try {
    write_file_atomically(path, text);
  } catch (const Error&) {
    if (overwrite(path, text) || (!shorter.empty() && overwrite(path, shorter))) return;
    throw;
  }
}

void require_replaceable(const std::filesystem::path& path, FunctionRef<bool()> is_own) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return;  // does not exist, or the write reports the error
  const auto refuse = [&](const std::string& why) {
    fail("{}: {}, and the launch would overwrite it. Move it, or choose another --dir or run.dir",
         path.string(), why);
  };
  if (!S_ISREG(found.st_mode)) refuse(fmt::format("is {}", kind_of(found)));
  if (!is_own()) refuse("was not written by `tutti launch`");
}

}  // namespace tutti
