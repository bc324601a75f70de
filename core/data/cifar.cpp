#include <tutti/core/data/cifar.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

namespace tutti {
namespace {

constexpr size_t kPlane = 32 * 32;
constexpr size_t kRecord = 1 + 3 * kPlane;

}  // namespace

CifarImages::CifarImages(const std::vector<std::filesystem::path>& files) : paths_(files) {
  require(!files.empty(), "CIFAR-10: no files");
  for (const auto& path : files) append(MappedFile::open(path)->bytes(), path.string());
}

void CifarImages::append(std::span<const std::byte> file, const std::string& name) {
  require(!file.empty() && file.size() % kRecord == 0,
          "{}: {} bytes; a CIFAR-10 file is a whole number of records of {}", name, file.size(), kRecord);
  for (size_t at = 0; at < file.size(); at += kRecord) {
    const auto label = static_cast<uint8_t>(file[at]);
    require(label < 10, "{}: record {} has label {}; CIFAR-10 has 0 to 9", name, at / kRecord, label);
    labels_.push_back(label);
    const auto* pixels = reinterpret_cast<const uint8_t*>(file.data()) + at + 1;
    planes_.insert(planes_.end(), pixels, pixels + 3 * kPlane);
  }
}

std::unique_ptr<CifarImages> CifarImages::training(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i <= 5; ++i) files.push_back(directory / fmt::format("data_batch_{}.bin", i));
  return std::make_unique<CifarImages>(files);
}

std::unique_ptr<CifarImages> CifarImages::test(const std::filesystem::path& directory) {
  return std::make_unique<CifarImages>(std::vector{directory / "test_batch.bin"});
}

void CifarImages::load(int64_t id, std::span<uint8_t> pixels, const RandomKey*) const {
  const uint8_t* planes = planes_.data() + static_cast<size_t>(id) * 3 * kPlane;
  for (size_t i = 0; i < kPlane; ++i) {
    for (size_t c = 0; c < 3; ++c) pixels[i * 3 + c] = planes[c * kPlane + i];
  }
}

}  // namespace tutti
