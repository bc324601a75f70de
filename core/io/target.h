#pragma once

#include <tutti/core/io/file.h>
#include "core/io/resolved_path.h"
#include "core/io/temporary.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// What may happen to what is at a path that the user named for output.
struct TargetRules {
  bool force = false;  ///< --force: replace an existing file
  std::vector<std::filesystem::path>
      inputs{};  ///< what the command reads: files; directories with all in them
  /// Text in the first 4 KiB of a file by which the command knows an earlier output of its own, which it
  /// replaces without `force`, in an input directory too; empty for none.
  std::string generator_tag{};
  bool standard_output = false;  ///< whether `-` is taken
  bool make_directories = true;  ///< whether those that are missing above it are made
};

/// A file that the user named for output, the one way for all commands: made before the work, so that what is
/// wrong is said before it, and committed after it, with the same checks again.
///
/// Refused are: what exists and is no regular file; a symbolic link that others may have placed, or that
/// leads nowhere (resolve_path()); an existing file without `force`; a file that this account may not write;
/// an input of the command, whatever name or link it has, and what is in an input directory. A link that is
/// followed stays, and the file that it leads to is replaced. Missing directories above are made.
///
/// The content is written to a temporary name in the same directory, which goes away if it is not committed
/// and when a signal ends the process. A file that is replaced passes on its permissions, and its owner where
/// the system allows it.
class FileTarget {
 public:
  /// Throws Error that names the path and says what to do.
  explicit FileTarget(std::filesystem::path path, TargetRules rules = {});
  ~FileTarget();
  FileTarget(FileTarget&&) noexcept;
  FileTarget& operator=(FileTarget&&) = delete;

  /// Whether the user named `-`: then open() writes there, and commit() has nothing to do.
  [[nodiscard]] bool is_standard_output() const noexcept { return standard_output_; }
  /// As the user named it.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Names a further input that became known, and checks again.
  void add_input(std::filesystem::path input);
  /// The temporary file, new and empty, whose errors name path(); or standard output. Once; the caller calls
  /// finish() on it.
  OutputFile open();
  /// Gives the file its name, on the disk. Returns whether it replaced a file without the mark. If the checks
  /// fail now, the content is kept under another name, which the Error says.
  bool commit();

 private:
  void check();
  void move_into_place();

  std::filesystem::path path_;
  TargetRules rules_;
  bool standard_output_ = false;
  ResolvedPath resolved_;
  bool earlier_ = false;             ///< what is there is the command's own, by its mark
  std::vector<TemporaryPath> made_;  ///< directories
  std::optional<TemporaryPath> temporary_;
};

/// Says to the user that a file was overwritten: "PATH: overwritten".
std::string overwritten_note(const std::filesystem::path& path);

/// What may happen in a directory that the user named for output.
struct DirectoryRules {
  bool force = false;                           ///< --force: write into a directory that holds something
  std::vector<std::filesystem::path> inputs{};  ///< files and directories that the command reads
  std::vector<std::string> names{};             ///< of files that will be written, as far as known beforehand
  std::string index{};                          ///< of them the one that tells of all others; comes last
  /// Given an existing directory, the names in it that an earlier run of the command wrote and that the new
  /// ones replace; null for none.
  std::vector<std::string> (*earlier)(const std::filesystem::path& directory) = nullptr;
};

/// A directory that the user named for output. It is made if it is missing, with those above it. One that
/// holds something is refused without `force`; with it, only `earlier` files are replaced or removed, and all
/// others stay. A directory that is a symbolic link or a mount point stays what it is.
///
/// Files are written to temporary names in it and get their own at the commit, the index last, after which
/// the earlier files that have no successor are removed: to a reader of the index, the old content is there
/// until the new one is. What is not committed goes away, also when a signal ends the process.
class DirectoryTarget {
 public:
  /// Throws Error that names the path and says what to do.
  DirectoryTarget(std::filesystem::path path, DirectoryRules rules);
  ~DirectoryTarget();
  DirectoryTarget(const DirectoryTarget&) = delete;
  DirectoryTarget& operator=(const DirectoryTarget&) = delete;

  /// Where it is, without symbolic links.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return resolved_.path; }
  /// The file that will have `name`, under a temporary one, new and empty; the caller calls finish() on it.
  /// Throws Error if `name` is taken by a file that is not `earlier`.
  OutputFile add(const std::string& name);
  /// Whether nothing in the directory has this name, nor will have it.
  [[nodiscard]] bool is_free(const std::string& name) const;
  /// Of the files that were added.
  [[nodiscard]] std::vector<std::string> names() const;
  /// Gives all files their names, on the disk. A signal that would end the process waits until that is done.
  void commit();

 private:
  struct Part;
  void give_name(Part& part) const;
  void check_name(const std::string& name) const;
  [[nodiscard]] bool is_earlier(const std::string& name) const;

  std::filesystem::path path_;
  DirectoryRules rules_;
  ResolvedPath resolved_;
  std::vector<std::string> earlier_;
  std::vector<TemporaryPath> made_;  ///< directories
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace tutti
