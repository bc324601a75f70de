// Attention, positions, tokens and dropout.
#include "kernels/cases/table.h"

#include <tutti/kernels/attention.h>
#include <tutti/kernels/dropout.h>
#include <tutti/kernels/embedding.h>
#include <tutti/kernels/rotary.h>

#include <fmt/format.h>

#include <array>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;

OpCase attention_row(std::array<int64_t, 3> sizes, const AttentionConfig& c) {
  const auto [batch, positions, head_dim] = sizes;
  OpCase row = make_case("attention", {normal({batch, positions, (c.heads + 2 * c.kv_heads) * head_dim})},
                         [=](Tape& t, Vars v) { return attention(t, v[0], c); });
  row.what += fmt::format(", {} heads over {}, {}, scale {}, window {}, cap {}", c.heads, c.kv_heads,
                          c.causal ? "causal" : "full", c.scale, c.window, c.softcap);
  row.depends_on_timing = true;
  return row;
}

OpCase rotary_row(const Shape& qkv, const RotaryConfig& config) {
  return make_case("rotary", {normal(qkv)}, [=](Tape& t, Vars v) { return rotary(t, v[0], config); })
      .with(fmt::format("scaling {}, from {}", static_cast<int>(config.scaling.kind), config.first_position));
}

OpCase embedding_row(const Shape& table, Input tokens) {
  return make_case("embedding", {normal(table), std::move(tokens)},
                   [](Tape& t, Vars v) { return embedding(t, v[0], v[1].value); });
}

OpCase dropout_row(Input x, double p) {
  const StepContext context{.seed = 5, .step = 17, .first_sample = 1000, .samples = x.shape[0]};
  return make_case("dropout", {std::move(x)}, [=](Tape& t, Vars v) { return dropout(t, v[0], p, 99); })
      .in(context);
}

void add_attention(Rows& rows) {
  const std::pair<std::array<int64_t, 3>, AttentionConfig> all[] = {
      {{1, 1, 1}, {.heads = 1, .kv_heads = 1}},
      {{2, 5, 3}, {.heads = 2, .kv_heads = 1}},
      {{2, 67, 8}, {.heads = 3, .kv_heads = 3, .causal = false}},
      {{1, 300, 16}, {.heads = 4, .kv_heads = 2, .causal = true, .scale = 0.3}},
      {{1, 129, 5}, {.heads = 2, .kv_heads = 1, .causal = false}},
      {{2, 9, 3}, {.heads = 2, .kv_heads = 1, .window = 1}},
      {{1, 70, 4}, {.heads = 2, .kv_heads = 2, .window = 7}},
      {{1, 330, 6}, {.heads = 4, .kv_heads = 2, .scale = 0.3, .window = 65}},
      {{1, 200, 6}, {.heads = 2, .kv_heads = 1, .window = 200}},
      {{2, 40, 5}, {.heads = 2, .kv_heads = 1, .scale = 0.7, .softcap = 1.5}},
      {{1, 131, 8}, {.heads = 3, .kv_heads = 1, .window = 50, .softcap = 2}},
      {{3, 130, 16}, {.heads = 4, .kv_heads = 2}},
  };
  for (const auto& [sizes, config] : all)
    rows.push_back(attention_row(sizes, config)
                       .for_checks(sizes[1] <= 100 ? kDifferences | kPrecisions : kPrecisions)
                       .within({.fp32 = 1e-4, .bf16 = 5e-2}));
  const std::pair<std::array<int64_t, 3>, AttentionConfig> cuda[] = {
      {{2, 1, 8}, {.heads = 1, .kv_heads = 1}},    {{2, 37, 16}, {.heads = 3, .kv_heads = 3}},
      {{1, 64, 64}, {.heads = 4, .kv_heads = 4}},  {{2, 129, 64}, {.heads = 6, .kv_heads = 2}},
      {{1, 300, 32}, {.heads = 4, .kv_heads = 1}}, {{2, 77, 24}, {.heads = 2, .kv_heads = 2, .scale = 0.3}},
      {{1, 50, 7}, {.heads = 4, .kv_heads = 2}},   {{1, 1024, 64}, {.heads = 2, .kv_heads = 2}}};
  for (auto [sizes, config] : cuda) {
    for (const bool causal : {true, false}) {
      config.causal = causal;
      rows.push_back(
          attention_row(sizes, config).for_checks(kCuda).within({.fp32 = 5e-5, .bf16 = 3e-2, .fp64 = 1e-11}));
    }
  }
}

void add_rotary(Rows& rows) {
  using Kind = RotaryScaling::Kind;
  rows.push_back(rotary_row({2, 3, 4 * 4}, {.heads = 2, .kv_heads = 1, .base = 100, .first_position = 3})
                     .for_checks(kDifferences));
  const std::pair<RotaryScaling, double> scalings[] = {
      {{.kind = Kind::kLinear, .factor = 4}, 10000.0},
      {{.kind = Kind::kLlama3, .factor = 8, .original_context = 8192}, 500000.0},
      {{.kind = Kind::kLlama3, .factor = 32, .original_context = 64}, 10000.0},
      {{.kind = Kind::kYarn, .factor = 4, .original_context = 4096}, 10000.0},
      {{.kind = Kind::kYarn,
        .factor = 40,
        .original_context = 512,
        .beta_fast = 16,
        .beta_slow = 2,
        .attention_factor = 0.7},
       1000000.0}};
  for (const auto& [scaling, base] : scalings)
    rows.push_back(rotary_row({2, 5, 4 * 16}, {.heads = 2, .kv_heads = 1, .base = base, .scaling = scaling})
                       .for_checks(kDifferences)
                       .with(fmt::format("factor {}", scaling.factor)));
  for (const int64_t head_dim : {2, 6, 64, 128})
    rows.push_back(rotary_row({2, 37, 8 * head_dim}, {.heads = 4, .kv_heads = 2, .first_position = 3000})
                       .for_checks(kPrecisions | kCuda));
  for (const Kind kind : {Kind::kLinear, Kind::kLlama3, Kind::kYarn}) {
    const RotaryScaling scaling{.kind = kind, .factor = 8, .original_context = 512};
    rows.push_back(
        rotary_row({2, 37, 8 * 64}, {.heads = 4, .kv_heads = 2, .scaling = scaling, .first_position = 3000})
            .for_checks(kCuda));
  }
}

void add_embedding(Rows& rows) {
  for (const DType dtype : {DType::kInt32, DType::kInt64})
    rows.push_back(embedding_row({7, 5}, integers({3, 6}, 0, 6, dtype))
                       .for_checks(kDifferences)
                       .with(std::string(name(dtype))));
  rows.push_back(embedding_row({4, 3}, integers({0, 2}, 0, 3)).for_checks(kDifferences));
  // More rows than tasks, a width of more than one piece, tokens that repeat often.
  rows.push_back(embedding_row({1000, 300}, integers({2, 500}, 0, 40))
                     .for_checks(kPrecisions)
                     .within({.fp32 = 1e-5, .bf16 = 2e-2}));
  // On CUDA, runs of few distinct tokens span many pieces, runs of many distinct tokens are within one.
  for (const int64_t vocabulary : {1, 3, 50, 5000}) {
    for (const int64_t width : {1, 37, 768}) {
      for (const int64_t tokens : {1, 33, 64, 1501}) {
        const DType dtype = tokens % 2 == 0 ? DType::kInt64 : DType::kInt32;
        rows.push_back(embedding_row({vocabulary, width}, integers({tokens}, 0, vocabulary - 1, dtype))
                           .for_checks(kCuda));
      }
    }
  }
}

void add_dropout(Rows& rows) {
  rows.push_back(dropout_row(normal({3, 11}), 0.4).for_checks(kDifferences));
  rows.push_back(
      dropout_row(normal({3, 30011}), 0.4).for_checks(kPrecisions).within({.fp32 = 1e-6, .bf16 = 1e-2}));
  // Whole packs, and samples that end within a pack and a block of random words.
  for (const int64_t per_sample : {1024, 1021, 4, 3})
    rows.push_back(dropout_row(uniform({6, per_sample}, 1, 2), 0.3).for_checks(kCuda));
}

}  // namespace

void add_sequence_rows(Rows& rows) {
  add_attention(rows);
  add_rotary(rows);
  add_embedding(rows);
  add_dropout(rows);
}

void add_timed_dropout(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape shape{s.tokens, s.width};
  const double bytes = 2 * count(numel(shape)) * e;
  rows.push_back({.name = "dropout",
                  .shape = size_text(shape),
                  .forward = {.bytes = bytes},
                  .backward = {.bytes = bytes},
                  .row = dropout_row(normal(shape), 0.1)});
}

void add_timed_lookups(TimedRows& rows, const KernelSizes& s, double e) {
  const int64_t r = s.tokens;
  const int64_t c = s.width;
  const int64_t v = s.vocabulary;
  const Shape qkv{r / s.context, s.context, 3 * c};
  rows.push_back({.name = "rotary",
                  .shape = size_text(qkv),
                  .forward = {.bytes = 6 * count(r * c) * e},
                  .backward = {.bytes = 6 * count(r * c) * e},
                  .row = rotary_row(qkv, {.heads = s.heads, .kv_heads = s.heads})});
  rows.push_back({.name = "embedding",
                  .shape = fmt::format("{} of {} x {}", r, v, c),
                  .forward = {.bytes = 2 * count(r * c) * e + 4 * count(r)},
                  .backward = {.bytes = count(r * c) * e + count(v * c) * e + 4 * count(r)},
                  .row = embedding_row({v, c}, integers({r}, 0, v - 1))});
}

void add_timed_attention(TimedRows& rows, const KernelSizes& s, double e) {
  const int64_t b = s.tokens / s.context;
  const int64_t t = s.context;
  const int64_t c = s.width;
  // Two products of the half of the scores that is not masked; backward has five.
  const double flops = 2 * count(b) * count(t) * count(t + 1) * count(c);
  const double one = count(b * t * c) * e;
  rows.push_back({.name = "attention, causal",
                  .shape = fmt::format("{} x {} x {}, {} heads", b, t, c, s.heads),
                  .forward = {4 * one, flops},
                  .backward = {8 * one, 2.5 * flops},
                  .row = attention_row({b, t, c / s.heads}, {.heads = s.heads, .kv_heads = s.heads})});
}

}  // namespace tutti::cases
