#pragma once

#include <tutti/core/tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The progress of a training when its state was saved.
struct CheckpointMetadata {
  int64_t step = 0;         ///< optimizer steps done
  int64_t next_sample = 0;  ///< the global data cursor: samples consumed so far
  uint64_t seed = 0;        ///< of all random numbers
  int64_t world_size = 1;   ///< ranks that saved; set by Checkpoints::save
  std::string run_file;     ///< the resolved run file's text
  std::string version;      ///< of Tutti and its libraries
  std::map<std::string, std::string> extra;
};

/// Size of the blocks of a tensor's data that have their own checksums, so that damage can be located.
inline constexpr int64_t kChecksumBlock = int64_t{1} << 20;  // bytes

/// manifest.json of a checkpoint: its content and where it is stored.
struct Manifest {
  struct File {
    int64_t bytes = 0;
    std::string sha256;
  };
  /// A contiguous range of a tensor's elements (row-major, flat) in one file.
  struct Piece {
    std::string file;
    int64_t offset = 0;             ///< of the first byte in the file
    int64_t begin = 0;              ///< first element
    int64_t end = 0;                ///< past the last element
    std::vector<std::string> sums;  ///< first 16 digits of the SHA-256 of each kChecksumBlock
  };
  struct Entry {
    DType dtype = DType::kFloat32;
    Shape shape;
    std::vector<Piece> pieces;  ///< by `begin`
  };
  using Group = std::map<std::string, Entry, std::less<>>;

  CheckpointMetadata metadata;
  std::map<std::string, File> files;
  std::map<std::string, Group> groups;  ///< "model", "optimizer"
};

/// The manifest as JSON text. Throws Error if a string in it is not valid UTF-8.
std::string to_json(const Manifest& manifest);

/// Reads a manifest. Throws Error naming `name` and the key, file or tensor if it is invalid: unknown
/// version, wrong types, file names outside the directory, or tensors whose pieces do not cover them exactly.
Manifest parse_manifest(std::string_view text, const std::string& name);

/// The same for the part that one rank contributes: pieces need not cover their tensors yet.
Manifest parse_manifest_part(std::string_view text, const std::string& name);

/// Adds the files and pieces of `part`. Throws Error naming the tensor if dtypes or shapes disagree.
void merge(Manifest& manifest, const Manifest& part);

/// Throws Error naming `name` and the tensor unless the pieces of each cover it exactly.
void check_complete(const Manifest& manifest, const std::string& name);

/// The text of SHA256SUMS for `sha256sum --check`, with a line for the manifest and each data file.
std::string checksum_list(const Manifest& manifest, std::string_view manifest_text);

}  // namespace tutti
