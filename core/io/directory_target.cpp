#include <tutti/core/error.h>
#include "core/io/inputs.h"
#include "core/io/path_operations.h"
#include "core/io/target.h"
#include "core/system_check.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace tutti {
namespace fs = std::filesystem;
namespace {

/// The name of a file in the directory, ignoring leftovers of a killed process; "" if there is none.
std::string anything_in(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!is_temporary_name(name)) return name;
  }
  require(!error, "{}: cannot be listed: {}", directory.string(), error.message());
  return "";
}

/// The status of a name, without following links; empty if it does not exist.
std::optional<struct stat> status_of(const fs::path& path) {
  struct stat status {};
  const SystemCheck known = ::lstat(path.c_str(), &status) == 0;
  if (known.ok()) return status;
  require_system(known.error_number() == ENOENT ? SystemCheck(true) : known, "{}", path.string());
  return std::nullopt;
}

}  // namespace

struct DirectoryTarget::Part {
  std::string name;
  TemporaryPath temporary;
};

DirectoryTarget::DirectoryTarget(fs::path path, DirectoryRules rules)
    : path_(std::move(path)), rules_(std::move(rules)) {
  require(path_ != "-", "-: a directory cannot be written to standard output; give its name");
  require(!path_.empty(), "the name of an output directory is empty");
  refuse_tilde(path_);
  resolved_ = resolve_path(path_);
  if (resolved_.status) {
    require(S_ISDIR(resolved_.status->st_mode), "{}: is {}; expected a directory, or nothing", path_.string(),
            kind_of(*resolved_.status));
    const std::string other = anything_in(resolved_.path);
    require(other.empty() || rules_.force,
            "{}: contains {} already; choose another directory, or use --force to replace earlier output of "
            "this command (other files are kept)",
            path_.string(), other);
    if (rules_.earlier != nullptr) earlier_ = rules_.earlier(resolved_.path);
  } else {
    resolved_.missing.push_back(resolved_.path);
    make_directories(resolved_.missing, made_, path_);
  }
  for (const std::string& name : rules_.names) check_name(name);
  for (const std::string& name : earlier_) check_name(name);
  probe_directory(resolved_.path, path_);
}

DirectoryTarget::~DirectoryTarget() {
  parts_.clear();
  while (!made_.empty()) made_.pop_back();  // the innermost first
}

bool DirectoryTarget::is_earlier(const std::string& name) const {
  return std::find(earlier_.begin(), earlier_.end(), name) != earlier_.end();
}

void DirectoryTarget::check_name(const std::string& name) const {
  require(fs::path(name).filename() == name && name != "." && name != "..",
          "{}: '{}' cannot be the name of a file in it", path_.string(), name);
  const fs::path path = resolved_.path / name;
  const std::optional<struct stat> status = status_of(path);
  if (!status) return;
  const std::string shown = (path_ / name).string();
  require(S_ISREG(status->st_mode), "{}: is {}; only a regular file can be replaced", shown,
          kind_of(*status));
  require(is_earlier(name),
          "{}: was not written by this command and would be replaced; choose another directory", shown);
  const std::string input = input_that_is(*status, path, rules_.inputs);
  require(input.empty(), "{}: would be replaced, but this command reads {}; choose another directory", shown,
          input);
}

OutputFile DirectoryTarget::add(const std::string& name) {
  check_name(name);
  const bool twice =
      std::any_of(parts_.begin(), parts_.end(), [&](const auto& part) { return part->name == name; });
  require(!twice, "{}: is written twice", (path_ / name).string());
  auto part = std::make_unique<Part>(Part{name, TemporaryPath(resolved_.path / temporary_name())});
  OutputFile file = OutputFile::create(part->temporary.path(), 0666, path_ / name);
  parts_.push_back(std::move(part));
  return file;
}

bool DirectoryTarget::is_free(const std::string& name) const {
  for (const auto& part : parts_) {
    if (part->name == name) return false;
  }
  return !status_of(resolved_.path / name);
}

std::vector<std::string> DirectoryTarget::names() const {
  std::vector<std::string> names;
  names.reserve(parts_.size());
  for (const auto& part : parts_) names.push_back(part->name);
  return names;
}

void DirectoryTarget::give_name(Part& part) const {
  const fs::path path = resolved_.path / part.name;
  if (is_earlier(part.name)) {
    require_system(::rename(part.temporary.path().c_str(), path.c_str()) == 0, "{}: cannot rename to it",
                   path.string());
  } else {
    require(rename_no_replace(part.temporary.path(), path),
            "{}: was created by another program meanwhile; it is not replaced", path.string());
  }
  part.temporary.keep();
}

void DirectoryTarget::commit() {
  const ResolvedPath now = resolve_path(path_);
  require(now.status && now.path == resolved_.path, "{}: changed during the run: it leads to {}, not to {}",
          path_.string(), now.path.string(), resolved_.path.string());
  for (const auto& part : parts_) check_name(part->name);
  const DeferredTermination whole;   // all of the following, or nothing
  std::vector<TemporaryPath> named;  // removed again if a later rename fails
  for (const auto& part : parts_) {
    if (is_earlier(part->name) || part->name == rules_.index) continue;
    give_name(*part);
    named.emplace_back(resolved_.path / part->name);
  }
  sync_directory(resolved_.path);
  // Files that replace earlier ones are renamed right before the index, which makes the new files visible.
  for (const auto& part : parts_) {
    if (is_earlier(part->name) && part->name != rules_.index) give_name(*part);
  }
  for (const auto& part : parts_) {
    if (part->name == rules_.index) give_name(*part);
  }
  for (TemporaryPath& name : named) name.keep();
  for (TemporaryPath& directory : made_) directory.keep();
  sync_directory(resolved_.path);
  for (const std::string& name : earlier_) {
    const bool written =
        std::any_of(parts_.begin(), parts_.end(), [&](const auto& part) { return part->name == name; });
    if (written) continue;
    require_system(::unlink((resolved_.path / name).c_str()) == 0 || errno == ENOENT,
                   "{}: an obsolete file that cannot be removed", (resolved_.path / name).string());
  }
}

}  // namespace tutti
