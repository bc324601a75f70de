#include <tutti/core/data/cifar.h>
#include <tutti/core/data/data_config.h>
#include <tutti/core/data/idx.h>
#include <tutti/core/data/image_folder.h>
#include <tutti/core/data/token_dataset.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<const ImageSource> open_folder(const DataConfig& config, const fs::path& path, Split split,
                                               const std::vector<std::string>& skip) {
  const bool has_splits = fs::is_directory(fs::path(config.path) / "train");
  const fs::path training = has_splits ? fs::path(config.path) / "train" : fs::path(config.path);
  if (split == Split::kTraining) {
    return std::make_unique<ImageFolder>(training, config.folder, std::vector<std::string>{}, skip);
  }
  // A separate validation_path contains the class directories itself.
  const bool own_path = !config.validation_path.empty();
  if (!own_path && (!has_splits || !fs::is_directory(path / "val"))) return nullptr;
  // Classes keep their training numbers, even if some are missing here.
  return std::make_unique<ImageFolder>(own_path ? path : path / "val", config.folder,
                                       ImageFolder::class_names(training), skip);
}

fs::path split_path(const DataConfig& config, Split split) {
  return split == Split::kTraining || config.validation_path.empty() ? config.path : config.validation_path;
}

bool has_split(const fs::path& directory, std::string_view split) {
  const fs::path index = directory / kTokenIndex;
  if (!fs::exists(index)) return true;  // opening reports the error
  const auto names =
      TokenIndex::parse(read_text_file(index, kMaxTokenizerBytes), index.string()).split_names();
  return std::find(names.begin(), names.end(), split) != names.end();
}

}  // namespace

void DataConfig::describe(Fields& f) {
  f.choice("kind", kind, {"tokens", "idx", "cifar10", "folder"}, "format of the data at `path`");
  f.path("path", path, "directory of the data", not_empty());
  f.path("validation_path", validation_path, "separate directory for validation; empty: `path`");
  if (kind == "tokens" || f.wants_all()) {
    f.value("context", context, "tokens in a sample", at_least(1));
  }
  if (kind != "tokens" || f.wants_all()) {
    f.path("skip", skip, "file listing images to skip, written by `tutti data validate`; empty: none");
  }
  if (kind != "tokens" || f.wants_all()) f.section("image", image, "how pixels become inputs");
  if (kind == "folder" || f.wants_all()) f.section("folder", folder, "size of the images");
  f.choice("verify", verify, {"full", "quick"},
           "before training; full: read all data once and compare it with recorded checksums; quick: check "
           "only sizes and headers");
  f.value("threads", threads, "threads per rank that read data", between(1, 256));
  f.value("ahead", ahead, "number of steps to prefetch", between(2, 1024));
}

std::shared_ptr<const Dataset> open_dataset(const DataConfig& config, Split split,
                                            const std::string& damage_advice) {
  require(!config.path.empty(), "data.path is not set");
  check_settings(config, "data");
  const bool training = split == Split::kTraining;
  const fs::path path = split_path(config, split);
  if (config.kind == "tokens") {
    if (!training && config.validation_path.empty() && !has_split(path, "validation")) return nullptr;
    TokenCorpus corpus = TokenCorpus::open(path, training ? "train" : "validation");
    if (path != config.path) {
      require(corpus.source() == TokenCorpus::open(config.path, "train").source(),
              "{}: made with another tokenizer than {}", path.string(), config.path);
    }
    return std::make_shared<TokenDataset>(std::move(corpus), config.context);
  }
  const std::vector<std::string> skip = open_skip_list(config).names(split);
  std::unique_ptr<const ImageSource> source = open_image_source(config, split, skip);
  if (source == nullptr) return nullptr;
  return std::make_shared<ImageDataset>(std::move(source), config.image,
                                        training ? Augment::kOn : Augment::kOff, skip, damage_advice);
}

std::unique_ptr<const ImageSource> open_image_source(const DataConfig& config, Split split,
                                                     const std::vector<std::string>& keep) {
  const bool training = split == Split::kTraining;
  const fs::path path = split_path(config, split);
  if (config.kind == "idx") return IdxImages::from_directory(path, training ? "train" : "t10k");
  if (config.kind == "cifar10") return training ? CifarImages::training(path) : CifarImages::test(path);
  return open_folder(config, path, split, keep);
}

SkipList open_skip_list(const DataConfig& config) {
  return config.skip.empty() ? SkipList{} : SkipList::load(config.skip);
}

std::optional<Tokenizer> open_tokenizer(const DataConfig& config) {
  if (config.kind != "tokens") return std::nullopt;
  const fs::path path = fs::path(config.path) / "tokenizer.json";
  const TokenSource source = TokenCorpus::open(config.path, "train").source();
  if (source.tokenizer_sha256 == kNoTokenizer) return std::nullopt;
  Tokenizer tokenizer = Tokenizer::load(path);
  require(tokenizer.sha256() == source.tokenizer_sha256,
          "{}: not the tokenizer that made the token shards beside it", path.string());
  return tokenizer;
}

}  // namespace tutti
