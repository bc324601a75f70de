#include "core/io/target.h"
#include <tutti/core/error.h>
#include "core/io/inputs.h"
#include "core/io/path_operations.h"
#include "core/system_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <utility>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMarkBytes = 4096;

bool contains_tag(const fs::path& path, const std::string& tag) {
  if (tag.empty()) return false;
  const int file = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return false;
  std::array<char, kMarkBytes> head{};
  const ssize_t got = ::read(file, head.data(), head.size());
  ::close(file);
  return got > 0 &&
         std::string_view(head.data(), static_cast<size_t>(got)).find(tag) != std::string_view::npos;
}

/// Gives a new file the owner and the permissions of the file that it replaces. If the group cannot be kept,
/// the new group gets only the permissions of others.
void pass_on_owner(const OutputFile& file, const struct stat& old) {
  struct stat now {};
  require_system(::fstat(file.descriptor(), &now) == 0, "{}: cannot stat", file.path().string());
  mode_t mode = old.st_mode & 0777;
  if (now.st_uid != old.st_uid) (void)!::fchown(file.descriptor(), old.st_uid, static_cast<gid_t>(-1));
  if (now.st_gid != old.st_gid && ::fchown(file.descriptor(), static_cast<uid_t>(-1), old.st_gid) != 0) {
    mode = (mode & ~static_cast<mode_t>(0070)) | ((mode & 0007) << 3 & mode);
  }
  require_system(::fchmod(file.descriptor(), mode) == 0, "{}: cannot set its permissions",
                 file.path().string());
}

}  // namespace

FileTarget::FileTarget(fs::path path, TargetRules rules) : path_(std::move(path)), rules_(std::move(rules)) {
  if (path_ == "-") {
    require(rules_.standard_output,
            "-: standard output is not supported here; give a file name (./- for a file named -)");
    standard_output_ = true;
    return;
  }
  check();
  require(rules_.make_directories || resolved_.missing.empty(), "{}: the directory {} is missing",
          path_.string(), resolved_.missing.empty() ? "" : resolved_.missing.front().string());
  make_directories(resolved_.missing, made_, path_);
  probe_directory(resolved_.directory(), path_);
}

FileTarget::~FileTarget() {
  temporary_.reset();
  while (!made_.empty()) made_.pop_back();  // the innermost first
}

FileTarget::FileTarget(FileTarget&&) noexcept = default;

void FileTarget::check() {
  require(!path_.empty(), "the name of an output file is empty");
  refuse_tilde(path_);
  require(path_.has_filename() && path_.filename() != "." && path_.filename() != "..",
          "{}: is the name of a directory; expected that of a file", path_.string());
  resolved_ = resolve_path(path_);
  earlier_ = false;
  if (!resolved_.status) return;
  const struct stat& there = *resolved_.status;
  require(S_ISREG(there.st_mode), "{}: is {}; only a regular file can be written and replaced",
          path_.string(), kind_of(there));
  earlier_ = contains_tag(resolved_.path, rules_.generator_tag);
  if (!earlier_) {
    const std::string input = input_that_is(there, resolved_.path, rules_.inputs);
    require(input.empty(), "{}: {} {}, which this command reads; choose another name", path_.string(),
            input == path_.string() ? "is" : "is, or is in,", input);
    require(rules_.force, "{}: exists; choose another name, or use --force to replace it", path_.string());
  }
  require_system(::faccessat(AT_FDCWD, resolved_.path.c_str(), W_OK, AT_EACCESS) == 0,
                 "{}: cannot be replaced: the file is not writable", path_.string());
}

void FileTarget::add_input(fs::path input) {
  rules_.inputs.push_back(std::move(input));
  if (!standard_output_) check();
}

OutputFile FileTarget::open() {
  if (standard_output_) {
    std::cout.flush();
    return OutputFile::standard_output();
  }
  require(!temporary_, "{}: is already open for writing", path_.string());
  temporary_.emplace(resolved_.directory() / temporary_name());
  OutputFile file = OutputFile::create(temporary_->path(), resolved_.status ? 0600 : 0666, path_);
  if (resolved_.status) pass_on_owner(file, *resolved_.status);
  return file;
}

bool FileTarget::commit() {
  if (standard_output_) return false;
  require(temporary_.has_value(), "{}: nothing was written", path_.string());
  const fs::path before = resolved_.path;
  try {
    check();
    require(resolved_.path == before && resolved_.missing.empty(),
            "{}: changed during the run: it leads to {}, not to {}", path_.string(), resolved_.path.string(),
            before.string());
    move_into_place();
  } catch (const Error& error) {
    const fs::path kept = before.string() + fmt::format(".{}", temporary_name().substr(7, 8));
    if (!rename_no_replace(temporary_->path(), kept)) throw;
    temporary_->keep();
    for (TemporaryPath& directory : made_) directory.keep();
    fail("{}; the output is saved in {}", error.what(), kept.string());
  }
  temporary_->keep();
  for (TemporaryPath& directory : made_) directory.keep();
  sync_directory(resolved_.directory());
  return resolved_.status.has_value() && !earlier_;
}

void FileTarget::move_into_place() {
  if (resolved_.status) {
    require_system(::rename(temporary_->path().c_str(), resolved_.path.c_str()) == 0,
                   "{}: cannot rename to it", path_.string());
    return;
  }
  require(rename_no_replace(temporary_->path(), resolved_.path),
          "{}: was created by another program meanwhile; it is not replaced", path_.string());
}

std::string overwritten_note(const fs::path& path) {
  return fmt::format("{}: overwritten", path.string());
}

}  // namespace tutti
