#include "launcher/launch/visible_devices.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool has_only(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

bool is_device(std::string_view id) {
  constexpr std::string_view kDigits = "0123456789";
  constexpr std::string_view kUuid = "0123456789abcdefABCDEF-";
  if (has_only(id, kDigits)) return id.size() < 6;
  if (id.starts_with("MIG-GPU-")) {  // MIG-GPU-UUID/instance/compute instance
    id.remove_prefix(8);
    const size_t slash = id.find('/');
    const size_t second = id.find('/', slash + 1);
    return slash != std::string_view::npos && second != std::string_view::npos &&
           has_only(id.substr(0, slash), kUuid) &&
           has_only(id.substr(slash + 1, second - slash - 1), kDigits) &&
           has_only(id.substr(second + 1), kDigits);
  }
  return (id.starts_with("GPU-") || id.starts_with("MIG-")) && has_only(id.substr(4), kUuid);
}

}  // namespace

bool VisibleDevices::has_instances() const {
  return std::any_of(ids.begin(), ids.end(), [](const std::string& id) { return id.starts_with("MIG-"); });
}

VisibleDevices parse_visible_devices(std::optional<std::string_view> text) {
  if (!text || trimmed(*text) == "all") return {.all = true};
  VisibleDevices visible;
  std::string_view rest = *text;
  while (true) {
    const size_t comma = rest.find(',');
    const std::string_view id = trimmed(rest.substr(0, comma));
    if (!is_device(id)) break;
    require(std::find(visible.ids.begin(), visible.ids.end(), id) == visible.ids.end(),
            "CUDA_VISIBLE_DEVICES={}: {} is listed twice, for which CUDA shows no device", *text, id);
    visible.ids.emplace_back(id);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return visible;
}

int64_t visible_count(const VisibleDevices& visible, int64_t installed) {
  return visible.all ? installed : static_cast<int64_t>(visible.ids.size());
}

}  // namespace tutti
