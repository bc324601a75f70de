#include "launcher/metrics/summary.h"

#include "launcher/info/machine.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <limits>

namespace tutti {
namespace {

constexpr int64_t kMostSummaryBytes = 1 << 20;

double number_or_nan(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::optional<double> optional_number(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

}  // namespace

std::string to_json(const Summary& summary) {
  // nlohmann-json writes non-finite numbers as null.
  nlohmann::ordered_json json{
      {"steps", summary.steps}, {"world_size", summary.world_size}, {"loss", summary.loss}};
  json["val_loss"] = summary.val_loss ? nlohmann::ordered_json(*summary.val_loss) : nullptr;
  json["val_accuracy"] = summary.val_accuracy ? nlohmann::ordered_json(*summary.val_accuracy) : nullptr;
  if (summary.val_bits_per_byte) json["val_bits_per_byte"] = *summary.val_bits_per_byte;
  json[summary.item + "_per_s"] = summary.items_per_s;
  json["wall_s"] = summary.wall_s;
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["params_sha256"] = summary.params_sha256;
  json["exit_reason"] = summary.exit_reason;
  return json.dump(2) + "\n";
}

void write_summary(const std::filesystem::path& path, const Summary& summary) {
  write_file_atomically(path, to_json(summary));
}

Summary read_summary(const std::filesystem::path& path) {
  const nlohmann::json json = parse_strict_json(read_text_file(path, kMostSummaryBytes), path.string());
  require(json.is_object(), "{}: not a summary: expected a JSON object", path.string());
  try {
    Summary summary;
    summary.steps = json.at("steps").get<int64_t>();
    summary.world_size = json.at("world_size").get<int>();
    summary.loss = number_or_nan(json.at("loss"));
    summary.val_loss = optional_number(json, "val_loss");
    summary.val_accuracy = optional_number(json, "val_accuracy");
    summary.val_bits_per_byte = optional_number(json, "val_bits_per_byte");
    summary.item = json.contains("images_per_s") ? "images" : "tokens";
    summary.items_per_s = number_or_nan(json.at(summary.item + "_per_s"));
    summary.wall_s = number_or_nan(json.at("wall_s"));
    summary.peak_memory_bytes = json.at("peak_memory_bytes").get<int64_t>();
    summary.params_sha256 = json.at("params_sha256").get<std::string>();
    summary.exit_reason = json.at("exit_reason").get<std::string>();
    return summary;
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not a summary of a run: {}", path.string(), error.what());
  }
}

int64_t peak_memory_bytes(Peers& peers) {
  int64_t most = 0;
  for (const std::string& text : peers.all_gather(std::to_string(peak_resident_bytes()))) {
    int64_t bytes = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
    require(error == std::errc(), "peak memory: a rank sent '{}'", text);
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace tutti
