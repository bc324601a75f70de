#include "core/tuning/choices.h"

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
constexpr size_t kMostText = 512;  // of a problem, a kind or a scope
constexpr std::string_view kFormat = "tutti-choices-1";

const std::string& text_of(const nlohmann::json& object, const char* key, const std::string& name) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_string(), "{}: no text under '{}'", name, key);
  const auto& text = found->get_ref<const std::string&>();
  require(text.size() <= kMostText, "{}: '{}' is longer than {} bytes", name, key, kMostText);
  return text;
}

uint64_t parse_word(const nlohmann::json& value, const std::string& problem, const std::string& name) {
  require(value.is_string(), "{}: a word of '{}' is no text", name, problem);
  const auto& text = value.get_ref<const std::string&>();
  uint64_t word = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), word, 16);
  require(!text.empty() && error == std::errc() && end == text.data() + text.size(),
          "{}: '{}' of '{}' is no hexadecimal number of 64 bits", name, text, problem);
  return word;
}

std::atomic<Choosing> now_choosing = Choosing::kMeasured;

void note(const std::string& text) {
  fmt::print(stderr, "tutti: {}\n", text);
}

}  // namespace

std::string to_json(const Choices& choices) {
  nlohmann::json problems = nlohmann::json::object();
  for (const auto& [problem, words] : choices.words) {
    nlohmann::json list = nlohmann::json::array();
    for (const uint64_t word : words) list.push_back(fmt::format("{:x}", word));
    problems[problem] = std::move(list);
  }
  const nlohmann::json root{
      {"format", kFormat}, {"kind", choices.kind}, {"scope", choices.scope}, {"choices", problems}};
  return root.dump(1) + "\n";
}

Choices parse_choices(std::string_view text, const std::string& name) {
  const nlohmann::json root = parse_strict_json(text, name, 4);
  require(root.is_object(), "{}: not a JSON object", name);
  require(text_of(root, "format", name) == kFormat, "{}: the format is not {}", name, kFormat);
  Choices result{.kind = text_of(root, "kind", name), .scope = text_of(root, "scope", name), .words = {}};
  const auto found = root.find("choices");
  require(found != root.end() && found->is_object() && root.size() == 4,
          "{}: expected the keys format, kind, "
          "scope and choices",
          name);
  for (const auto& [problem, list] : found->items()) {
    require(problem.size() <= kMostText, "{}: a problem's name is longer than {} bytes", name, kMostText);
    require(list.is_array() && !list.empty() && list.size() <= kMaxChoiceWords,
            "{}: '{}' has no list of 1 to {} words", name, problem, kMaxChoiceWords);
    std::vector<uint64_t>& words = result.words[problem];
    words.reserve(list.size());
    for (const auto& word : list) words.push_back(parse_word(word, problem, name));
  }
  return result;
}

ChoiceFile::ChoiceFile(std::filesystem::path path, std::string kind, std::string scope)
    : path_(std::move(path)), choices_{std::move(kind), std::move(scope), {}}, writable_(!path_.empty()) {
  if (auto before = read()) choices_.words = std::move(before->words);
}

std::optional<Choices> ChoiceFile::read() const {
  std::error_code error;
  if (path_.empty() || !std::filesystem::exists(path_, error)) return std::nullopt;
  try {
    Choices found = parse_choices(read_text_file(path_, kMostBytes), path_.string());
    require(found.kind == choices_.kind && found.scope == choices_.scope,
            "{}: holds choices of '{}' for '{}', not of '{}' for '{}'", path_.string(), found.kind,
            found.scope, choices_.kind, choices_.scope);
    return found;
  } catch (const Error& problem) {
    note(fmt::format("ignoring measured choices, which are measured anew: {}", problem.what()));
    return std::nullopt;
  }
}

std::optional<std::vector<uint64_t>> ChoiceFile::find(const std::string& problem) const {
  const std::lock_guard lock(mutex_);
  const auto found = choices_.words.find(problem);
  if (found == choices_.words.end()) return std::nullopt;
  return found->second;
}

void ChoiceFile::keep(const std::string& problem, const std::vector<uint64_t>& words) {
  require(!words.empty() && words.size() <= kMaxChoiceWords && problem.size() <= kMostText,
          "ChoiceFile: {} words for '{}', expected 1 to {}", words.size(), problem, kMaxChoiceWords);
  const std::lock_guard lock(mutex_);
  choices_.words[problem] = words;
  if (!writable_) return;
  try {
    // Two processes that write at once lose one choice, which its owner writes again with its next one.
    if (auto others = read()) choices_.words.merge(others->words);
    std::filesystem::create_directories(path_.parent_path());
    write_file_atomically(path_, to_json(choices_));
  } catch (const std::exception& error) {
    writable_ = false;
    note(fmt::format("measured choices are not kept for the next run: {}", error.what()));
  }
}

size_t ChoiceFile::size() const {
  const std::lock_guard lock(mutex_);
  return choices_.words.size();
}

void set_choosing(Choosing choosing) noexcept {
  now_choosing = choosing;
}

Choosing choosing() noexcept {
  return now_choosing;
}

std::filesystem::path tuning_directory() {
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
