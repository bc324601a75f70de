#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include "core/config/nearest.h"

#include <array>
#include <cstring>

namespace tutti {
namespace {

struct DtypeRow {
  std::string_view name;
  int64_t size;
  std::optional<DType> dtype;
};

constexpr std::array kDtypes{
    DtypeRow{"F32", 4, DType::kFloat32},  DtypeRow{"BF16", 2, DType::kBFloat16},
    DtypeRow{"F16", 2, DType::kFloat16},  DtypeRow{"F64", 8, DType::kFloat64},
    DtypeRow{"I32", 4, DType::kInt32},    DtypeRow{"I64", 8, DType::kInt64},
    DtypeRow{"U8", 1, DType::kUInt8},     DtypeRow{"BOOL", 1, std::nullopt},
    DtypeRow{"I8", 1, std::nullopt},      DtypeRow{"I16", 2, std::nullopt},
    DtypeRow{"U16", 2, std::nullopt},     DtypeRow{"U32", 4, std::nullopt},
    DtypeRow{"U64", 8, std::nullopt},     DtypeRow{"F8_E4M3", 1, std::nullopt},
    DtypeRow{"F8_E5M2", 1, std::nullopt}, DtypeRow{"F8_E8M0", 1, std::nullopt},
};

const DtypeRow* row(std::string_view name) {
  for (const DtypeRow& candidate : kDtypes) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

}  // namespace

int64_t safetensors_element_size(std::string_view dtype) {
  const DtypeRow* found = row(dtype);
  return found != nullptr ? found->size : 0;
}

std::string_view safetensors_dtype(DType dtype) {
  for (const DtypeRow& candidate : kDtypes) {
    if (candidate.dtype == dtype) return candidate.name;
  }
  fail("safetensors: dtype {} is not supported", name(dtype));
}

std::optional<DType> dtype_from_safetensors(std::string_view dtype) {
  const DtypeRow* found = row(dtype);
  return found != nullptr ? found->dtype : std::nullopt;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.path_ = path;
  file.mapping_ = MappedFile::open(path);
  file.header_ = parse_safetensors(file.mapping_->bytes(), path.string());
  for (size_t i = 0; i < file.entries().size(); ++i) file.index_.emplace(file.entries()[i].name, i);
  return file;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) {
    std::vector<std::string> names;
    names.reserve(entries().size());
    for (const SafetensorsEntry& candidate : entries()) names.push_back(candidate.name);
    fail("{}: has no tensor '{}'{}", path_.string(), name, did_you_mean(name, names));
  }
  return *entry;
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return mapping_->bytes().subspan(static_cast<size_t>(header_.data_begin + entry.begin),
                                   static_cast<size_t>(entry.bytes()));
}

Tensor SafetensorsFile::tensor(const SafetensorsEntry& entry) const {
  const std::optional<DType> dtype = dtype_from_safetensors(entry.dtype);
  if (!dtype) {
    fail("{}: tensor '{}' has dtype {}, which tensors cannot have", path_.string(), entry.name, entry.dtype);
  }
  const std::span<const std::byte> data = bytes(entry);
  if (reinterpret_cast<uintptr_t>(data.data()) % static_cast<size_t>(size_of(*dtype)) == 0) {
    // Tensor has no read-only form; the mapping is protected against writes.
    return Tensor::borrow(const_cast<std::byte*>(data.data()), entry.shape, *dtype,
                          std::const_pointer_cast<MappedFile>(mapping_));
  }
  auto copy = std::make_shared<std::vector<std::byte>>(data.begin(), data.end());
  std::byte* start = copy->data();
  return Tensor::borrow(start, entry.shape, *dtype, std::move(copy));
}

}  // namespace tutti
