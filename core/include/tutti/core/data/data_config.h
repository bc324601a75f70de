#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/data/image_settings.h>
#include <tutti/core/data/skip_list.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

class Dataset;
class ImageSource;
class Tokenizer;

/// The data section of a run file.
struct DataConfig {
  std::string kind = "tokens";
  std::string path;
  std::string validation_path;
  std::string verify = "full";
  std::string skip;
  int64_t context = 256;
  ImageConfig image;
  ImageFolderConfig folder;
  int64_t threads = 1;
  int64_t ahead = 2;

  void describe(Fields& f);
};

/// The training or validation set of a run; null when there is no validation set. Only training sets are
/// augmented.
///
/// tokens: a directory that `tutti data tokens` wrote, with its splits `train` and `validation`.
/// idx: a directory with MNIST's file names, `train` and `t10k`.
/// cifar10: a directory with data_batch_1.bin to data_batch_5.bin and test_batch.bin. folder: a directory of
/// class folders, or one with such directories `train` and `val`. With `validation_path`, the validation set
/// is that split of the other directory (for folder: it itself). Images listed in `skip` are skipped
/// (ImageDataset).
///
/// Throws Error naming a missing or damaged file. `damage_advice` is appended to the message of a
/// DamagedSample.
std::shared_ptr<const Dataset> open_dataset(const DataConfig& config, Split split,
                                            const std::string& damage_advice = {});

/// The images of a split without skipping; null if there is no validation set. The names in `keep`
/// (SkipList::names) have numbers even if their files are missing. Throws Error as open_dataset does.
std::unique_ptr<const ImageSource> open_image_source(const DataConfig& config, Split split,
                                                     const std::vector<std::string>& keep = {});

/// The skip list of `config.skip`; empty if there is none. Throws Error naming the file.
SkipList open_skip_list(const DataConfig& config);

/// The tokenizer of the token shards: tokenizer.json in their directory. Empty for images, and for ids with
/// an unknown tokenizer. Throws Error if it is not the one that the shards name.
std::optional<Tokenizer> open_tokenizer(const DataConfig& config);

}  // namespace tutti
