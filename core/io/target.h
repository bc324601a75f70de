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

/// Rules for an output file that the user named.
struct TargetRules {
  bool force = false;                           ///< --force: replace an existing file
  std::vector<std::filesystem::path> inputs{};  ///< files and directories that the command reads
  /// Text in the first 4 KiB of a file that identifies earlier output of the command. Such a file is replaced
  /// without `force`, also in an input directory. Empty for none.
  std::string generator_tag{};
  bool standard_output = false;  ///< whether `-` is allowed
  bool make_directories = true;  ///< whether missing parent directories are created
};

/// An output file that the user named; all commands use this class. It is created before the work, so that
/// errors are reported early, and committed after it, when the checks are repeated.
///
/// Refused are: an existing path that is not a regular file; a symbolic link of another account or a dangling
/// one (resolve_path()); an existing file without `force`; a file that this account may not write; an input
/// of the command under any name or link, and files in an input directory. A link that is followed is kept,
/// and the file that it leads to is replaced. Missing parent directories are created.
///
/// The content is written to a temporary file in the same directory, which is removed if it is not committed
/// or when a signal ends the process. The new file gets the permissions of the file that it replaces, and its
/// owner if the system allows it.
class FileTarget {
 public:
  /// Throws Error with the path and a remedy.
  explicit FileTarget(std::filesystem::path path, TargetRules rules = {});
  ~FileTarget();
  FileTarget(FileTarget&&) noexcept;
  FileTarget& operator=(FileTarget&&) = delete;

  /// Whether the user gave `-`: open() then writes to standard output, and commit() does nothing.
  [[nodiscard]] bool is_standard_output() const noexcept { return standard_output_; }
  /// As the user gave it.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Adds an input that became known later, and repeats the checks.
  void add_input(std::filesystem::path input);
  /// The new, empty temporary file, whose errors name path(); or standard output. May be called once; the
  /// caller calls finish() on it.
  OutputFile open();
  /// Renames the file to path() and syncs. Returns whether it replaced a file without the generator tag. If
  /// the checks fail, the content is kept under another name, which the Error gives.
  bool commit();

 private:
  void check();
  void move_into_place();

  std::filesystem::path path_;
  TargetRules rules_;
  bool standard_output_ = false;
  ResolvedPath resolved_;
  bool earlier_ = false;             ///< the existing file is earlier output, by its generator tag
  std::vector<TemporaryPath> made_;  ///< directories
  std::optional<TemporaryPath> temporary_;
};

/// The notice that a file was overwritten: "PATH: overwritten".
std::string overwritten_note(const std::filesystem::path& path);

/// Rules for an output directory that the user named.
struct DirectoryRules {
  bool force = false;                           ///< --force: write into a directory that is not empty
  std::vector<std::filesystem::path> inputs{};  ///< files and directories that the command reads
  std::vector<std::string> names{};             ///< of files that will be written, as far as known in advance
  std::string index{};                          ///< the file that lists all others; committed last
  /// Returns the names in an existing directory that an earlier run of the command wrote and that the new
  /// files replace; null for none.
  std::vector<std::string> (*earlier)(const std::filesystem::path& directory) = nullptr;
};

/// An output directory that the user named. It is created with its parents if it is missing. One that is not
/// empty is refused without `force`; with it, only `earlier` files are replaced or removed, and all others
/// are kept. A symbolic link or a mount point is kept as such.
///
/// Files are written to temporary names in it and renamed by commit(), the index last; then obsolete earlier
/// files are removed. A reader of the index sees either the old or the new content. Uncommitted files are
/// removed, also when a signal ends the process.
class DirectoryTarget {
 public:
  /// Throws Error with the path and a remedy.
  DirectoryTarget(std::filesystem::path path, DirectoryRules rules);
  ~DirectoryTarget();
  DirectoryTarget(const DirectoryTarget&) = delete;
  DirectoryTarget& operator=(const DirectoryTarget&) = delete;

  /// The path without symbolic links.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return resolved_.path; }
  /// A new, empty temporary file that commit() renames to `name`; the caller calls finish() on it. Throws
  /// Error if `name` exists and is not `earlier`.
  OutputFile add(const std::string& name);
  /// Whether the name neither exists in the directory nor was added.
  [[nodiscard]] bool is_free(const std::string& name) const;
  /// Names of the files that were added.
  [[nodiscard]] std::vector<std::string> names() const;
  /// Renames all files and syncs. A signal that would end the process is deferred until then.
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
