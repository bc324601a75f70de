#include <tutti/core/data/image/image.h>
#include <tutti/core/data/image_folder.h>
#include <tutti/core/error.h>
#include "core/config/nearest.h"
#include "core/counted.h"

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
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

/// Entries of a directory in byte order, independent of locale and file system.
std::vector<fs::directory_entry> sorted_entries(const fs::path& directory) {
  std::vector<fs::directory_entry> all;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    all.push_back(*it);
  }
  require(!error, "{}: cannot be read: {}", directory.string(), error.message());
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.path().native() < b.path().native(); });
  return all;
}

bool is_hidden(const fs::path& path) {
  return path.filename().native().starts_with('.');
}

bool is_class(const fs::directory_entry& entry) {
  std::error_code ignored;  // an entry without status is not a class
  return !is_hidden(entry.path()) && entry.is_directory(ignored);
}

/// Why an entry of a class is not a sample; empty if it is one.
std::string reason_to_leave_out(const fs::directory_entry& entry) {
  if (is_hidden(entry.path())) return "hidden";
  std::error_code error;
  const fs::file_status status = entry.status(error);
  if (status.type() == fs::file_type::not_found) return "dangling link";
  if (status.type() == fs::file_type::none) return "cannot be accessed: " + error.message();
  if (status.type() == fs::file_type::directory) return "a directory inside a class";
  if (status.type() != fs::file_type::regular) return "not a regular file";
  return is_image(entry.path()) ? "" : "not named as a JPEG, PNG or WebP file";
}

/// Uniform in [0, 1).
double fraction(uint32_t word) {
  return static_cast<double>(word) * 0x1p-32;
}

/// A random crop of the image; the whole image if none of several draws fits.
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
  f.value("resize", resize, "shorter side before the centre crop; 0: `size`", between(0, 8192));
  f.value("channels", channels, "1: grey; 3: RGB", between(1, 3));
  f.value("crop_area", crop_area,
          "training: minimum area of random crops, as a fraction of the image; 1: no crops",
          between(0.01, 1));
  f.check(channels != 2, "channels", "must be 1 or 3");
  f.check(resize == 0 || resize >= size, "resize", "must not be smaller than size");
}

std::vector<std::string> ImageFolder::class_names(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : sorted_entries(directory)) {
    if (is_class(entry)) names.push_back(entry.path().filename().string());
  }
  return names;
}

ImageFolder::ImageFolder(const fs::path& directory, const ImageFolderConfig& config,
                         std::vector<std::string> classes, const std::vector<std::string>& skip)
    : directory_(directory), config_(config), names_(std::move(classes)) {
  check_settings(config, "data.folder");
  require(fs::is_directory(directory), "{}: no such directory", directory.string());
  require(config.resize == 0 || config.resize >= config.size,
          "image folder: resize {} is smaller than size {}", config.resize, config.size);
  std::vector<fs::path> folders;
  for (const fs::directory_entry& entry : sorted_entries(directory)) {
    if (is_class(entry)) {
      folders.push_back(entry.path());
    } else {
      const std::string reason = reason_to_leave_out(entry);
      left_out_.push_back({entry.path().filename().string(), reason.empty() ? "not in a class" : reason});
    }
  }
  require(!folders.empty(), "{}: contains no directories; expected one for each class", directory.string());
  if (names_.empty()) {
    for (const fs::path& folder : folders) names_.push_back(folder.filename().string());
  }
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename().string();
    const auto known = std::find(names_.begin(), names_.end(), name);
    require(known != names_.end(), "{}: the training data has no such class{}", folder.string(),
            did_you_mean(name, names_));
    add_class(folder, static_cast<int32_t>(known - names_.begin()));
  }
  std::stable_sort(files_.begin(), files_.end(),
                   [](const File& a, const File& b) { return a.label < b.label; });
  for (const std::string& name : skip) keep_place(name);
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename().string();
    const auto first = position(name + '/');
    require(first != files_.end() && names_[static_cast<size_t>(first->label)] == name,
            "{}: no JPEG, PNG or WebP files in this class", folder.string());
  }
}

void ImageFolder::add_class(const fs::path& folder, int32_t label) {
  for (const fs::directory_entry& entry : sorted_entries(folder)) {
    std::string reason = reason_to_leave_out(entry);
    if (reason.empty()) {
      files_.push_back({entry.path(), label});
    } else {
      left_out_.push_back({(folder.filename() / entry.path().filename()).string(), std::move(reason)});
    }
  }
}

std::vector<ImageFolder::File>::const_iterator ImageFolder::position(std::string_view name) const {
  const size_t slash = name.find('/');
  const auto found = std::find(names_.begin(), names_.end(), name.substr(0, slash));
  require(slash != std::string_view::npos && found != names_.end(),
          "data.skip: '{}' is not a CLASS/FILE of {}: no such class{}", name, directory_.string(),
          did_you_mean(std::string(name.substr(0, slash)), names_));
  const auto label = static_cast<int32_t>(found - names_.begin());
  const std::string_view file = name.substr(slash + 1);
  return std::lower_bound(files_.begin(), files_.end(), file, [&](const File& at, std::string_view sought) {
    if (at.label != label) return at.label < label;
    // The last part of the path, without a copy for each of a million files.
    const std::string& path = at.path.native();
    return std::string_view(path).substr(path.rfind('/') + 1) < sought;
  });
}

void ImageFolder::keep_place(const std::string& name) {
  const auto at = position(name);
  const fs::path path = directory_ / name;
  if (at != files_.end() && at->path == path) return;
  require(std::count(name.begin(), name.end(), '/') == 1 && is_image(path) && !is_hidden(path),
          "data.skip: '{}' cannot be an image of {}: expected CLASS/FILE.jpg, .png or .webp", name,
          directory_.string());
  const auto found = std::find(names_.begin(), names_.end(), name.substr(0, name.find('/')));
  files_.insert(at, {path, static_cast<int32_t>(found - names_.begin()), false});
  missing_.push_back(name);
}

std::string ImageFolder::name(int64_t id) const {
  const File& file = files_[static_cast<size_t>(id)];
  return names_[static_cast<size_t>(file.label)] + '/' + file.path.filename().string();
}

std::vector<int64_t> ImageFolder::find(const std::vector<std::string>& names) const {
  std::vector<int64_t> ids;
  for (const std::string& name : names) {
    const auto at = position(name);
    require(at != files_.end() && at->path == directory_ / name, "data.skip: '{}' is not an image of {}",
            name, directory_.string());
    ids.push_back(at - files_.begin());
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::string ImageFolder::left_out() const {
  std::vector<std::pair<std::string, std::vector<const std::string*>>> reasons;
  for (const LeftOutFile& file : left_out_) {
    auto found =
        std::find_if(reasons.begin(), reasons.end(), [&](const auto& r) { return r.first == file.reason; });
    if (found == reasons.end()) found = reasons.insert(found, {file.reason, {}});
    found->second.push_back(&file.name);
  }
  std::vector<std::string> parts;
  parts.reserve(reasons.size());
  for (const auto& [reason, names] : reasons) {
    parts.push_back(fmt::format("{} {} ({}{})", grouped(static_cast<int64_t>(names.size())), reason,
                                *names.front(), names.size() > 1 ? ", ..." : ""));
  }
  std::string text;
  if (!left_out_.empty()) {
    text = fmt::format("{} ignored: {}", counted(static_cast<int64_t>(left_out_.size()), "file"),
                       fmt::join(parts, ", "));
  }
  if (!missing_.empty()) {
    text += fmt::format("{}{} of data.skip missing, with {} kept", text.empty() ? "" : "; ",
                        counted(static_cast<int64_t>(missing_.size()), "file"),
                        missing_.size() == 1 ? "its place" : "their places");
  }
  return text;
}

DataContent ImageFolder::content() const {
  DataContent content;
  content.small_files = true;
  content.classes = names_;
  content.files.reserve(files_.size());
  for (const File& file : files_) {
    if (!file.is_there) continue;
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
