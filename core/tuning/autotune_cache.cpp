#include "core/tuning/autotune_cache.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace tutti {
namespace {

constexpr int64_t kMostBytes = int64_t{16} << 20;
constexpr size_t kMostText = 512;  // length of a problem, kind or scope
constexpr std::string_view kFormat = "tutti-choices-1";

const std::string& text_of(const nlohmann::json& object, const char* key, const std::string& name) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_string(), "{}: expected a string for '{}'", name, key);
  const auto& text = found->get_ref<const std::string&>();
  require(text.size() <= kMostText, "{}: '{}' is longer than {} bytes", name, key, kMostText);
  return text;
}

uint64_t parse_word(const nlohmann::json& value, const std::string& problem, const std::string& name) {
  require(value.is_string(), "{}: expected strings for the words of '{}'", name, problem);
  const auto& text = value.get_ref<const std::string&>();
  uint64_t word = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), word, 16);
  require(!text.empty() && error == std::errc() && end == text.data() + text.size(),
          "{}: '{}' of '{}' is not a 64-bit hexadecimal number", name, text, problem);
  return word;
}

void note(const std::string& text) {
  fmt::print(stderr, "tutti: {}\n", text);
}

}  // namespace

std::string to_json(const AutotuneResults& results) {
  nlohmann::json problems = nlohmann::json::object();
  for (const auto& [problem, words] : results.words) {
    nlohmann::json list = nlohmann::json::array();
    for (const uint64_t word : words) list.push_back(fmt::format("{:x}", word));
    problems[problem] = std::move(list);
  }
  const nlohmann::json root{
      {"format", kFormat}, {"kind", results.kind}, {"scope", results.scope}, {"choices", problems}};
  return root.dump(1) + "\n";
}

AutotuneResults parse_autotune_results(std::string_view text, const std::string& name) {
  const nlohmann::json root = parse_strict_json(text, name, 4);
  require(root.is_object(), "{}: not a JSON object", name);
  require(text_of(root, "format", name) == kFormat, "{}: expected format {}", name, kFormat);
  AutotuneResults result{
      .kind = text_of(root, "kind", name), .scope = text_of(root, "scope", name), .words = {}};
  const auto found = root.find("choices");
  require(found != root.end() && found->is_object() && root.size() == 4,
          "{}: expected the keys format, kind, scope and choices", name);
  for (const auto& [problem, list] : found->items()) {
    require(problem.size() <= kMostText, "{}: a problem's name is longer than {} bytes", name, kMostText);
    require(list.is_array() && !list.empty() && list.size() <= kMaxAutotuneWords,
            "{}: '{}': expected a list of 1 to {} words", name, problem, kMaxAutotuneWords);
    std::vector<uint64_t>& words = result.words[problem];
    words.reserve(list.size());
    for (const auto& word : list) words.push_back(parse_word(word, problem, name));
  }
  return result;
}

AutotuneCache::AutotuneCache(std::filesystem::path path, std::string kind, std::string scope)
    : path_(std::move(path)), results_{std::move(kind), std::move(scope), {}}, writable_(!path_.empty()) {
  if (auto before = read()) results_.words = std::move(before->words);
}

std::optional<AutotuneResults> AutotuneCache::read() const {
  std::error_code error;
  if (path_.empty() || !std::filesystem::exists(path_, error)) return std::nullopt;
  try {
    AutotuneResults found = parse_autotune_results(read_text_file(path_, kMostBytes), path_.string());
    require(found.kind == results_.kind && found.scope == results_.scope,
            "{}: contains results of '{}' for '{}'; expected '{}' for '{}'", path_.string(), found.kind,
            found.scope, results_.kind, results_.scope);
    return found;
  } catch (const Error& problem) {
    note(fmt::format("ignoring the autotune cache, autotuning again: {}", problem.what()));
    return std::nullopt;
  }
}

std::optional<std::vector<uint64_t>> AutotuneCache::find(const std::string& problem) const {
  const std::lock_guard lock(mutex_);
  const auto found = results_.words.find(problem);
  if (found == results_.words.end()) return std::nullopt;
  return found->second;
}

void AutotuneCache::store(const std::string& problem, const std::vector<uint64_t>& words) {
  require(!words.empty() && words.size() <= kMaxAutotuneWords && problem.size() <= kMostText,
          "AutotuneCache: {} words for '{}'; expected 1 to {}", words.size(), problem, kMaxAutotuneWords);
  const std::lock_guard lock(mutex_);
  results_.words[problem] = words;
  if (!writable_) return;
  try {
    // If two processes write at once, one result may be lost until its process writes again.
    if (auto others = read()) results_.words.merge(others->words);
    std::filesystem::create_directories(path_.parent_path());
    write_file_atomically(path_, to_json(results_));
  } catch (const std::exception& error) {
    writable_ = false;
    note(fmt::format("the autotune cache is not saved: {}", error.what()));
  }
}

size_t AutotuneCache::size() const {
  const std::lock_guard lock(mutex_);
  return results_.words.size();
}

std::filesystem::path autotune_directory() {
  if (const char* chosen = std::getenv("TUTTI_TUNING_DIR")) return chosen;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "tutti";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache" / "tutti";
  }
  return {};
}

}  // namespace tutti
