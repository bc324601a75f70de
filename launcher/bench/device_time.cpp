#include "launcher/bench/device_trace.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <initializer_list>

namespace tutti {
namespace {

bool has_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

constexpr double kSecond = 1e9;

}  // namespace

std::string_view name(DeviceWork work) {
  switch (work) {
    case DeviceWork::kProducts:
      return "products";
    case DeviceWork::kAttention:
      return "attention";
    case DeviceWork::kConvolutions:
      return "convolutions";
    case DeviceWork::kOwn:
      return "own";
    case DeviceWork::kCollectives:
      return "collectives";
    case DeviceWork::kCopies:
      return "copies";
    case DeviceWork::kOther:
      return "other";
  }
  return "unknown";
}

DeviceWork work_of(std::string_view kernel) {
  if (kernel == "memcpy" || kernel == "memset") return DeviceWork::kCopies;
  if (has_any(kernel, {"nccl"})) return DeviceWork::kCollectives;
  if (has_any(kernel, {"tutti"})) return DeviceWork::kOwn;
  if (has_any(kernel, {"sdpa", "fmha", "flash"})) return DeviceWork::kAttention;
  // First, because names of convolution kernels may contain those of matrix products.
  if (has_any(kernel, {"conv", "fprop", "dgrad", "wgrad"})) return DeviceWork::kConvolutions;
  if (has_any(kernel, {"gemm", "cutlass", "nvjet", "xmma", "splitK"})) return DeviceWork::kProducts;
  return DeviceWork::kOther;
}

DeviceTime device_time(std::vector<DeviceSpan> spans, std::span<const int64_t> marks_ns) {
  require(marks_ns.size() >= 2 && std::is_sorted(marks_ns.begin(), marks_ns.end()),
          "device time: expected at least two times in order, got {}", marks_ns.size());
  std::sort(spans.begin(), spans.end(),
            [](const DeviceSpan& a, const DeviceSpan& b) { return a.begin_ns < b.begin_ns; });
  DeviceTime total;
  auto at = spans.begin();
  for (size_t step = 0; step + 1 < marks_ns.size(); ++step) {
    while (at != spans.end() && at->begin_ns < marks_ns[step]) ++at;
    int64_t reached = -1;  // end of the part of the step that is accounted for
    for (; at != spans.end() && at->begin_ns < marks_ns[step + 1]; ++at) {
      const int64_t begin = reached < 0 ? at->begin_ns : std::max(reached, at->begin_ns);
      reached = std::max(begin, at->end_ns);
      total.busy_s += static_cast<double>(reached - begin) / kSecond;
      total.work_s.at(static_cast<size_t>(work_of(at->name))) +=
          static_cast<double>(at->end_ns - at->begin_ns) / kSecond;
    }
  }
  const auto steps = static_cast<double>(marks_ns.size() - 1);
  total.busy_s /= steps;
  total.idle_s = static_cast<double>(marks_ns.back() - marks_ns.front()) / kSecond / steps - total.busy_s;
  for (double& seconds : total.work_s) seconds /= steps;
  return total;
}

}  // namespace tutti
