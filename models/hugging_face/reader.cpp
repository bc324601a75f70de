#include "models/hugging_face/reader.h"

#include <tutti/core/error.h>
#include "core/config/value_text.h"

#include <cmath>

namespace tutti::hugging_face {
namespace {

constexpr int64_t kMost = int64_t{1} << 30;  // above any size of a model; products of two fit

}  // namespace

Reader::Reader(const nlohmann::json& object, HuggingFaceConfig& config, std::string prefix)
    : object_(object), config_(config), prefix_(std::move(prefix)) {}

const nlohmann::json* Reader::find(const std::string& key) {
  used_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string Reader::value_of(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() ? "absent" : shortened(found->dump());
}

void Reader::refuse(const std::string& key, const std::string& why) const {
  fail("{}: {}{}: {}: {}", config_.name, prefix_, key, value_of(key), why);
}

void Reader::note(const std::string& run_key, const std::string& key) {
  if (!run_key.empty()) config_.origins[run_key] = fmt::format("{}{}: {}", prefix_, key, value_of(key));
}

int64_t Reader::whole(const std::string& key, std::optional<int64_t> otherwise, const std::string& run_key,
                      int64_t least) {
  const nlohmann::json* const value = find(key);
  note(run_key, key);
  if (value == nullptr) {
    if (!otherwise) refuse(key, "expected a number; this key is required");
    return *otherwise;
  }
  if (!value->is_number_integer() || value->get<double>() < static_cast<double>(least) ||
      value->get<double>() > double{kMost})
    refuse(key, fmt::format("expected an integer, at least {}", least));
  return value->get<int64_t>();
}

double Reader::number(const std::string& key, std::optional<double> otherwise, const std::string& run_key) {
  const nlohmann::json* const value = find(key);
  note(run_key, key);
  if (value == nullptr) {
    if (!otherwise) refuse(key, "expected a number; this key is required");
    return *otherwise;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>()) || !(value->get<double>() > 0))
    refuse(key, "expected a positive number");
  return value->get<double>();
}

bool Reader::flag(const std::string& key, bool otherwise, const std::string& run_key) {
  const nlohmann::json* const value = find(key);
  note(run_key, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(key, "expected true or false");
  return value->get<bool>();
}

std::string Reader::text(const std::string& key, const std::string& otherwise, const std::string& run_key) {
  const nlohmann::json* const value = find(key);
  note(run_key, key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) refuse(key, "expected a string");
  return value->get<std::string>();
}

void Reader::only(const std::string& key, const nlohmann::json& value) {
  const nlohmann::json* const found = find(key);
  if (found != nullptr && *found != value)
    refuse(key, fmt::format("is not supported, only {}", shortened(value.dump())));
}

void Reader::finish(const std::set<std::string, std::less<>>& harmless) const {
  for (const auto& [key, value] : object_.items()) {
    if (value.is_null() || used_.contains(key) || harmless.contains(key)) continue;
    fail(
        "{}: {}{}: {}: unknown key for model_type {}, which may change the model; if it does not, remove it "
        "from a copy of the file",
        config_.name, prefix_, key, shortened(value.dump()), config_.model_type);
  }
}

Reader Reader::inner(const std::string& key, const nlohmann::json& object) {
  return {object, config_, prefix_ + key + "."};
}

}  // namespace tutti::hugging_face
