#include "models/hugging_face/reader.h"

#include <tutti/core/error.h>

namespace tutti::hugging_face {
namespace {

const std::set<std::string, std::less<>>& no_keys() {
  static const std::set<std::string, std::less<>> none;
  return none;
}

/// The original context of a scaling, which transformers reads from three keys.
int64_t original_context(Reader& from, const GptConfig& to) {
  const int64_t outer = to.rotary_scaling.original_context;
  const int64_t context = from.whole("original_max_position_embeddings", outer > 0 ? outer : to.context,
                                     "rotary_scaling.original_context");
  if (outer > 0 && context != outer)
    from.refuse("original_max_position_embeddings",
                fmt::format("the same key outside has {}; remove one of them", outer));
  return context;
}

}  // namespace

void read_scaling(Reader& from, GptConfig& to, const std::string& type) {
  GptRotaryScaling& scaling = to.rotary_scaling;
  from.only("partial_rotary_factor", 1.0);
  if (from.config().model_type == "phi3" && (type == "yarn" || type == "su" || type == "longrope"))
    from.refuse(from.object().contains("rope_type") ? "rope_type" : "type", "long rope is not supported");
  if (type == "default" || type == "dynamic") {
    // Dynamic scaling applies only beyond the model's context, which require_same_model() does not allow.
    (void)from.find("factor");
    (void)from.find("original_max_position_embeddings");
    scaling = {};
  } else if (type == "linear") {
    scaling.kind = type;
    scaling.factor = from.number("factor", std::nullopt, "rotary_scaling.factor");
    (void)from.find("original_max_position_embeddings");
    scaling.original_context = 0;
  } else if (type == "llama3") {
    scaling.kind = type;
    scaling.factor = from.number("factor", std::nullopt, "rotary_scaling.factor");
    scaling.low_frequency = from.number("low_freq_factor", std::nullopt, "rotary_scaling.low_frequency");
    scaling.high_frequency = from.number("high_freq_factor", std::nullopt, "rotary_scaling.high_frequency");
    scaling.original_context = original_context(from, to);
  } else if (type == "yarn") {
    scaling.kind = type;
    scaling.original_context = original_context(from, to);
    const double stretched = static_cast<double>(to.context) / static_cast<double>(scaling.original_context);
    scaling.factor = from.number("factor", stretched, "rotary_scaling.factor");
    scaling.beta_fast = from.number("beta_fast", 32.0, "rotary_scaling.beta_fast");
    scaling.beta_slow = from.number("beta_slow", 1.0, "rotary_scaling.beta_slow");
    scaling.attention_factor = from.number("attention_factor", 0.0, "rotary_scaling.attention_factor");
    from.only("truncate", true);
    if (from.find("mscale") != nullptr) from.refuse("mscale", "is not supported");
    if (from.find("mscale_all_dim") != nullptr) from.refuse("mscale_all_dim", "is not supported");
  } else {
    from.refuse(from.object().contains("rope_type") ? "rope_type" : "type",
                "is not supported; default, linear, dynamic, llama3 and yarn are");
  }
  from.note("rotary_scaling.kind", from.object().contains("rope_type") ? "rope_type" : "type");
}

Json scaling_json(const GptRotaryScaling& scaling) {
  if (scaling.kind == "none") return {{"rope_type", "default"}};
  Json json{{"rope_type", scaling.kind}, {"factor", scaling.factor}};
  if (scaling.kind == "linear") return json;
  json["original_max_position_embeddings"] = scaling.original_context;
  if (scaling.kind == "llama3") {
    json["low_freq_factor"] = scaling.low_frequency;
    json["high_freq_factor"] = scaling.high_frequency;
    return json;
  }
  json["beta_fast"] = scaling.beta_fast;
  json["beta_slow"] = scaling.beta_slow;
  if (scaling.attention_factor > 0) json["attention_factor"] = scaling.attention_factor;
  return json;
}

void read_rope(Reader& from, GptConfig& to, double usual_base) {
  const double base = from.number("rope_theta", usual_base, "rotary_base");
  to.rotary_base = base;
  from.only("partial_rotary_factor", 1.0);
  from.only("rope_interleaved", false);
  const int64_t original = from.whole("original_max_position_embeddings", 0);
  // transformers 5 writes rope_parameters with the base among them, 4 rope_scaling without, which it reads if
  // both are present.
  std::optional<Json> scaled;
  for (const char* const key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* const found = from.find(key);
    if (found == nullptr) continue;
    if (!found->is_object()) from.refuse(key, "expected a map");
    if (found->empty()) continue;
    Reader inner = from.inner(key, *found);
    to.rotary_base = inner.number("rope_theta", base, found->contains("rope_theta") ? "rotary_base" : "");
    to.rotary_scaling = {};
    to.rotary_scaling.original_context = original;
    const std::string old = inner.text("type", "default");
    read_scaling(inner, to, inner.text("rope_type", old));
    inner.finish(no_keys());
    Json one = scaling_json(to.rotary_scaling);
    one["rope_theta"] = to.rotary_base;
    if (scaled && one != *scaled)
      from.refuse(key, "differs from rope_scaling, which transformers reads instead; remove one of them");
    scaled = std::move(one);
  }
  if (to.rotary_scaling.kind == "none") to.rotary_scaling = {};
}

void write_rope(const GptConfig& from, Json& to) {
  Json rope = scaling_json(from.rotary_scaling);
  // For transformers 4, and then for 5.
  to["rope_theta"] = from.rotary_base;
  if (from.rotary_scaling.kind != "none") to["rope_scaling"] = rope;
  rope["rope_theta"] = from.rotary_base;
  to["rope_parameters"] = rope;
}

}  // namespace tutti::hugging_face
