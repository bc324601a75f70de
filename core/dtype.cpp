#include <tutti/core/dtype.h>

#include <array>

namespace tutti {
namespace {
constexpr std::array kNames{"fp32", "bf16", "fp16", "fp64", "int32", "int64", "uint8"};
}  // namespace

std::string_view name(DType dtype) {
  return kNames.at(static_cast<size_t>(dtype));
}

DType dtype_from_name(std::string_view text) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text == kNames[i]) return static_cast<DType>(i);
  }
  fail("'{}' is not a dtype; expected one of {}", text, fmt::join(kNames, ", "));
}

}  // namespace tutti
