#include "core/data/validate/scan.h"
#include <tutti/core/data/image/image.h>
#include <tutti/core/data/token_dataset.h>
#include <tutti/core/error.h>
#include <tutti/core/io/sha256.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace tutti {
namespace {

using Json = nlohmann::json;

constexpr int64_t kAtOnce = 256;  // samples between two reports of progress
constexpr size_t kHashedAtOnce = size_t{8} << 20;

/// Facts about one image.
struct ImageFacts {
  std::string problem;
  ContentDigest digest{};
  int64_t height = 0, width = 0;
};

ImageFacts look_at(const DataConfig& config, const ImageSource& source, int64_t id) {
  ImageFacts facts;
  try {
    if (const auto* folder = dynamic_cast<const ImageFolder*>(&source)) {
      const auto file = MappedFile::open(folder->path(id));
      const Image image = decode_image(file->bytes(), config.folder.channels, folder->path(id).string());
      facts.height = image.height;
      facts.width = image.width;
      facts.digest = content_digest(file->bytes());
    } else {
      const Shape shape = source.image_shape();
      std::vector<uint8_t> pixels(static_cast<size_t>(numel(shape)));
      source.load(id, pixels, nullptr);
      facts.height = shape[0];
      facts.width = shape[1];
      facts.digest = content_digest(std::as_bytes(std::span(pixels)));
    }
  } catch (const Error& error) {
    facts.problem = error.what();
  }
  return facts;
}

std::string hex(const std::vector<bool>& bits) {
  std::string text((bits.size() + 3) / 4, '0');
  for (size_t i = 0; i < bits.size(); ++i) {
    if (!bits[i]) continue;
    char& digit = text[i / 4];
    const int value = (digit <= '9' ? digit - '0' : digit - 'a' + 10) | 1 << i % 4;
    digit = "0123456789abcdef"[value];
  }
  return text;
}

/// Checks the file of a shard against its recorded checksum.
std::string checksum_problem(const std::filesystem::path& path, const std::string& recorded) {
  const auto file = MappedFile::open(path);
  Sha256 hash;
  for (auto rest = file->bytes(); !rest.empty();) {
    const auto part = rest.first(std::min(rest.size(), kHashedAtOnce));
    hash.update(part);
    rest = rest.subspan(part.size());
  }
  const std::string found = hash.finish();
  return found == recorded ? "" : fmt::format("SHA-256 {}; {} records {}", found, kTokenIndex, recorded);
}

}  // namespace

ContentDigest content_digest(std::span<const std::byte> content) {
  const std::string digits = sha256(content);
  ContentDigest digest;
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<uint8_t>(value(digits[2 * i]) << 4 | value(digits[2 * i + 1]));
  }
  return digest;
}

// Digests are most of the data: they follow the JSON text as bytes.
std::string ScanPart::to_text() const {
  Json problems_json = Json::array();
  for (const DataProblem& p : problems) {
    // File names need not be valid UTF-8.
    problems_json.push_back({p.id, std::vector<uint8_t>(p.name.begin(), p.name.end()),
                             std::vector<uint8_t>(p.reason.begin(), p.reason.end()), p.can_be_skipped});
  }
  const Json json{{"problems", problems_json},
                  {"sizes", {least_height, least_width, most_height, most_width, scaled_up}},
                  {"ids_bits", ids_used.size()},
                  {"ids", hex(ids_used)},
                  {"digests", digests.size()}};
  std::string text = json.dump();
  text.push_back('\0');
  for (const auto& [id, digest] : digests) {
    text.append(reinterpret_cast<const char*>(&id), sizeof id);
    text.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  }
  return text;
}

ScanPart ScanPart::from_text(const std::string& text) {
  const size_t end = text.find('\0');
  const Json json = Json::parse(text.substr(0, end));
  ScanPart part;
  for (const Json& p : json.at("problems")) {
    const auto name = p.at(1).get<std::vector<uint8_t>>();
    const auto reason = p.at(2).get<std::vector<uint8_t>>();
    part.problems.push_back({p.at(0).get<int64_t>(), std::string(name.begin(), name.end()),
                             std::string(reason.begin(), reason.end()), p.at(3).get<bool>()});
  }
  const auto sizes = json.at("sizes").get<std::vector<int64_t>>();
  part.least_height = sizes.at(0), part.least_width = sizes.at(1);
  part.most_height = sizes.at(2), part.most_width = sizes.at(3), part.scaled_up = sizes.at(4);
  const auto digits = json.at("ids").get<std::string>();
  part.ids_used.resize(json.at("ids_bits").get<size_t>());
  for (size_t i = 0; i < part.ids_used.size(); ++i) {
    const char digit = digits.at(i / 4);
    part.ids_used[i] = ((digit <= '9' ? digit - '0' : digit - 'a' + 10) >> i % 4 & 1) != 0;
  }
  part.digests.resize(json.at("digests").get<size_t>());
  const char* from = text.data() + end + 1;
  for (auto& [id, digest] : part.digests) {
    std::memcpy(&id, from, sizeof id);
    std::memcpy(digest.data(), from + sizeof id, digest.size());
    from += sizeof id + digest.size();
  }
  return part;
}

ScanPart scan_images(const DataConfig& config, const ImageSource& source, const std::vector<int64_t>& skip,
                     int64_t begin, int64_t end, ThreadPool& pool, const ScanProgress& progress) {
  ScanPart part;
  const int64_t target = config.folder.resize > 0 ? config.folder.resize : config.folder.size;
  std::vector<ImageFacts> facts;
  for (int64_t at = begin; at < end; at += kAtOnce) {
    const int64_t count = std::min(kAtOnce, end - at);
    facts.assign(static_cast<size_t>(count), {});
    pool.parallel_for(count, [&](int64_t i) {
      if (std::binary_search(skip.begin(), skip.end(), at + i)) return;
      facts[static_cast<size_t>(i)] = look_at(config, source, at + i);
    });
    for (int64_t i = 0; i < count; ++i) {
      if (std::binary_search(skip.begin(), skip.end(), at + i)) continue;
      ImageFacts& f = facts[static_cast<size_t>(i)];
      if (!f.problem.empty()) {
        part.problems.push_back({at + i, source.name(at + i), std::move(f.problem), true});
        continue;
      }
      part.digests.emplace_back(at + i, f.digest);
      const bool first = part.most_height == 0;
      part.least_height = first ? f.height : std::min(part.least_height, f.height);
      part.least_width = first ? f.width : std::min(part.least_width, f.width);
      part.most_height = std::max(part.most_height, f.height);
      part.most_width = std::max(part.most_width, f.width);
      if (config.kind == "folder" && std::min(f.height, f.width) < target) ++part.scaled_up;
    }
    if (progress) progress(at + count - begin, end - begin);
  }
  return part;
}

ScanPart scan_tokens(const std::filesystem::path& directory, std::string_view split, int64_t context,
                     int rank, int ranks, ThreadPool& pool, const ScanProgress& progress) {
  ScanPart part;
  const std::filesystem::path index_file = directory / kTokenIndex;
  const TokenIndex index =
      TokenIndex::parse(read_text_file(index_file, kMaxTokenIndexBytes), index_file.string());
  const auto listed = std::find_if(index.splits.begin(), index.splits.end(),
                                   [&](const TokenIndex::Split& s) { return s.name == split; });
  std::mutex mutex;
  const auto report = [&](int64_t sample, const std::string& name, const std::string& reason) {
    const std::scoped_lock lock(mutex);
    part.problems.push_back({sample, name, reason, false});
  };
  std::vector<const TokenIndex::Shard*> mine;
  for (size_t i = 0; i < listed->shards.size(); ++i) {
    if (i % static_cast<size_t>(ranks) == static_cast<size_t>(rank)) mine.push_back(&listed->shards[i]);
  }
  pool.parallel_for(static_cast<int64_t>(mine.size()), [&](int64_t i) {
    const TokenIndex::Shard& shard = *mine[static_cast<size_t>(i)];
    const std::string problem = checksum_problem(directory / shard.file, shard.sha256);
    if (!problem.empty()) report(-1, shard.file, problem);
  });

  const TokenDataset data(TokenCorpus::open(directory, split), context);
  const auto vocabulary = static_cast<size_t>(index.source.vocabulary);
  part.ids_used.resize(vocabulary);
  const int64_t begin = data.size() * rank / ranks;
  const int64_t end = data.size() * (rank + 1) / ranks;
  part.digests.resize(static_cast<size_t>(end - begin));
  std::atomic<int64_t> faults = 0;
  constexpr int64_t kMostFaults = 100;  // messages, not faults: a shard of another vocabulary has millions
  std::vector<bool> bad(part.digests.size());
  for (int64_t at = begin; at < end; at += kAtOnce * 64) {
    const int64_t count = std::min(kAtOnce * 64, end - at);
    pool.parallel_ranges(count, kAtOnce, [&](int64_t first, int64_t last) {
      std::vector<bool> used(vocabulary);
      std::vector<int32_t> ids;
      std::vector<int64_t> failed;
      for (int64_t sample = at + first; sample < at + last; ++sample) {
        ids.resize(static_cast<size_t>(data.predictions(sample)) + 1);
        try {
          data.corpus().read(sample * context, ids);
        } catch (const Error& error) {
          failed.push_back(sample - begin);
          if (++faults <= kMostFaults) report(sample, fmt::format("sample {}", sample), error.what());
          continue;
        }
        for (const int32_t id : ids) used[static_cast<size_t>(id)] = true;
        part.digests[static_cast<size_t>(sample - begin)] = {sample,
                                                             content_digest(std::as_bytes(std::span(ids)))};
      }
      const std::scoped_lock lock(mutex);
      for (size_t i = 0; i < vocabulary; ++i) part.ids_used[i] = part.ids_used[i] || used[i];
      for (const int64_t i : failed) bad[static_cast<size_t>(i)] = true;
    });
    if (progress) progress(at + count - begin, end - begin);
  }
  size_t kept = 0;
  for (size_t i = 0; i < part.digests.size(); ++i) {
    if (!bad[i]) part.digests[kept++] = part.digests[i];
  }
  part.digests.resize(kept);
  return part;
}

}  // namespace tutti
