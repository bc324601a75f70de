#include "launcher/launch/adapters/slurm_host_list.h"

#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>

#include <charconv>
#include <optional>

namespace tutti {
namespace {

constexpr size_t kMostHosts = 100'000;

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// Splits at the commas outside of brackets.
std::vector<std::string_view> cut(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '[') ++depth;
    if (i < text.size() && text[i] == ']') --depth;
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(text.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  return parts;
}

/// The texts of "1-3,05": 1, 2, 3, 05.
std::vector<std::string> expand_range(std::string_view ranges, std::string_view all) {
  std::vector<std::string> texts;
  for (const std::string_view range : cut(ranges)) {
    const size_t dash = range.find('-');
    const std::string_view low = range.substr(0, dash);
    const std::string_view high = dash == std::string_view::npos ? low : range.substr(dash + 1);
    const std::optional<int64_t> first = number(low);
    const std::optional<int64_t> last = number(high);
    require(first && last && *first <= *last, "host list '{}': '{}' is not a range of numbers", all, range);
    require(texts.size() + static_cast<uint64_t>(*last - *first) < kMostHosts,
            "host list '{}' names more than {} hosts", all, kMostHosts);
    for (int64_t i = *first; i <= *last; ++i) texts.push_back(fmt::format("{:0{}}", i, low.size()));
  }
  return texts;
}

/// Appends the hosts of `pattern`, each with the prefix `begin`.
void expand(const std::string& begin, std::string_view pattern, std::string_view all,
            std::vector<std::string>& hosts) {
  const size_t open = pattern.find('[');
  if (open == std::string_view::npos) {
    std::string host = begin + std::string(pattern);
    require(is_host_name(host), "host list '{}': '{}' is not a host name", all, host);
    require(hosts.size() < kMostHosts, "host list '{}' names more than {} hosts", all, kMostHosts);
    hosts.push_back(std::move(host));
    return;
  }
  const size_t close = pattern.find(']', open);
  require(close != std::string_view::npos, "host list '{}': a ']' is missing", all);
  for (const std::string& text : expand_range(pattern.substr(open + 1, close - open - 1), all)) {
    expand(begin + std::string(pattern.substr(0, open)) + text, pattern.substr(close + 1), all, hosts);
  }
}

}  // namespace

std::vector<std::string> expand_host_list(std::string_view text) {
  std::vector<std::string> hosts;
  for (const std::string_view pattern : cut(text)) expand("", pattern, text, hosts);
  return hosts;
}

std::vector<int64_t> expand_counts(std::string_view text) {
  std::vector<int64_t> counts;
  for (const std::string_view part : cut(text)) {
    const size_t open = part.find("(x");
    const std::optional<int64_t> value = number(part.substr(0, open));
    int64_t times = 1;
    bool good = value.has_value();
    if (open != std::string_view::npos) {
      const std::optional<int64_t> given =
          part.ends_with(')') ? number(part.substr(open + 2, part.size() - open - 3)) : std::nullopt;
      good = good && given.has_value();
      times = given.value_or(0);
    }
    require(good && static_cast<size_t>(times) <= kMostHosts - counts.size(),
            "'{}' is not a list of counts such as 2(x3),1", text);
    counts.insert(counts.end(), static_cast<size_t>(times), *value);
  }
  return counts;
}

}  // namespace tutti
