#include <tutti/core/config/nearest.h>
#include <tutti/core/data/image.h>
#include <tutti/core/data/image_folder.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace tutti {
namespace {

namespace fs = std::filesystem;

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

/// Entries of a directory in byte order, which no locale and no file system changes; hidden ones left out.
template <class Keep>
std::vector<fs::path> sorted_entries(const fs::path& directory, Keep&& keep) {
  std::vector<fs::path> all;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (!it->path().filename().string().starts_with('.') && keep(*it)) all.push_back(it->path());
  }
  require(!error, "{}: cannot be read: {}", directory.string(), error.message());
  std::sort(all.begin(), all.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return all;
}

/// Uniform in [0, 1).
double fraction(uint32_t word) {
  return static_cast<double>(word) * 0x1p-32;
}

/// A random part of the image; the whole, if no draw of a few fits into it.
Image random_part(const Image& image, double least_area, const RandomKey& random) {
  constexpr uint64_t kDraws = 10;
  const double area = static_cast<double>(image.height) * static_cast<double>(image.width);
  for (uint64_t draw = 1; draw <= kDraws; ++draw) {
    const auto words = random.words(draw);
    const double part = area * (least_area + (1 - least_area) * fraction(words[0]));
    const double aspect = 0.75 * std::pow(16.0 / 9.0, fraction(words[1]));  // log-uniform, width : height
    const int64_t height = std::max<int64_t>(1, std::llround(std::sqrt(part / aspect)));
    const int64_t width = std::max<int64_t>(1, std::llround(std::sqrt(part * aspect)));
    if (height > image.height || width > image.width) continue;
    const auto place = [](int64_t room, uint32_t word) {
      return static_cast<int64_t>(fraction(word) * static_cast<double>(room + 1));
    };
    return crop(image, place(image.height - height, words[2]), place(image.width - width, words[3]), height,
                width);
  }
  return image;
}

}  // namespace

void ImageFolderConfig::describe(Fields& f) {
  f.value("size", size, "height and width of a sample", between(1, 8192));
  f.value("resize", resize, "shorter side before the middle is cropped out; 0: `size`", between(0, 8192));
  f.value("channels", channels, "1: grey; 3: colours", between(1, 3));
  f.value("crop_area", crop_area, "training: random crops from this share of the area on; 1: none",
          between(0.01, 1));
  f.check(channels != 2, "channels", "must be 1 or 3");
  f.check(resize == 0 || resize >= size, "resize", "must not be smaller than size");
}

std::vector<std::string> ImageFolder::class_names(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::path& folder : sorted_entries(directory, [](const auto& e) { return e.is_directory(); })) {
    names.push_back(folder.filename().string());
  }
  return names;
}

ImageFolder::ImageFolder(const fs::path& directory, const ImageFolderConfig& config,
                         std::vector<std::string> classes)
    : directory_(directory), config_(config), names_(std::move(classes)) {
  check_settings(config, "data.folder");
  require(fs::is_directory(directory), "{}: no such directory", directory.string());
  require(config.resize == 0 || config.resize >= config.size,
          "image folder: resize {} is smaller than size {}", config.resize, config.size);
  const std::vector<std::string> folders = class_names(directory);
  require(!folders.empty(), "{}: no folders in it; expected one for each class", directory.string());
  if (names_.empty()) names_ = folders;
  for (const std::string& name : folders) {
    const fs::path folder = directory / name;
    const auto known = std::find(names_.begin(), names_.end(), name);
    require(known != names_.end(), "{}: the training data has no such class{}", folder.string(),
            did_you_mean(name, names_));
    const auto images = sorted_entries(
        folder, [](const auto& entry) { return entry.is_regular_file() && is_image(entry.path()); });
    require(!images.empty(), "{}: no JPEG or PNG files in this class", folder.string());
    const auto label = static_cast<int32_t>(known - names_.begin());
    for (const fs::path& image : images) files_.push_back({image, label});
  }
}

DataContent ImageFolder::content() const {
  DataContent content;
  content.small_files = true;
  content.classes = names_;
  content.files.reserve(files_.size());
  for (const File& file : files_) {
    content.files.push_back({.path = file.path,
                             .name = file.path.lexically_relative(directory_).string(),
                             .bytes = -1,
                             .sha256 = "",
                             .recorded_in = ""});
  }
  return content;
}

void ImageFolder::load(int64_t id, std::span<uint8_t> pixels, const RandomKey* augment) const {
  Image image = read_image(files_[static_cast<size_t>(id)].path, config_.channels);
  if (augment != nullptr && config_.crop_area < 1) {
    image = tutti::resize(random_part(image, config_.crop_area, *augment), config_.size, config_.size);
    std::copy(image.pixels.begin(), image.pixels.end(), pixels.begin());
    return;
  }
  const int64_t target = config_.resize > 0 ? config_.resize : config_.size;
  const double scale = static_cast<double>(target) / static_cast<double>(std::min(image.height, image.width));
  const auto side = [&](int64_t length) {
    return std::max<int64_t>(target, std::llround(static_cast<double>(length) * scale));
  };
  image =
      crop_middle(tutti::resize(image, side(image.height), side(image.width)), config_.size, config_.size);
  std::copy(image.pixels.begin(), image.pixels.end(), pixels.begin());
}

}  // namespace tutti
