#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace tutti {
namespace {
namespace fs = std::filesystem;

/// Of the parser that this program is for: fuzz_idx_replay reads corpus/idx.
fs::path corpus_folder() {
  std::string parser = fs::read_symlink("/proc/self/exe").filename();
  parser = parser.substr(std::string_view("fuzz_").size());
  parser.resize(parser.size() - std::string_view("_replay").size());
  return fs::path(TUTTI_FUZZ_CORPORA) / parser;
}

std::vector<std::string> corpus() {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(corpus_folder()))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void run(const std::string& input) {
  // A copy of the exact size, so that a sanitizer sees a read past the end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  ASSERT_EQ(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()), 0);
}

TEST(Replay, Corpus) {
  const std::vector<std::string> inputs = corpus();
  ASSERT_FALSE(inputs.empty()) << "no file in " << corpus_folder();
  for (const std::string& input : inputs) run(input);
}

/// A few thousand damaged inputs, for builds without a fuzzer: cut off, flipped, spliced.
TEST(Replay, DamagedCorpus) {
  const std::vector<std::string> inputs = corpus();
  ASSERT_FALSE(inputs.empty());
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const int64_t rounds = 4000 / static_cast<int64_t>(inputs.size()) + 1;
  for (const std::string& input : inputs) {
    for (int64_t i = 0; i < rounds; ++i) {
      std::string damaged = input;
      switch (random() % 4) {
        case 0:
          damaged.resize(random() % (input.size() + 1));
          break;
        case 1:
          for (uint64_t flips = 1 + random() % 4; flips > 0 && !damaged.empty(); --flips) {
            damaged[random() % damaged.size()] ^= static_cast<char>(1 << (random() % 8));
          }
          break;
        case 2:
          if (!damaged.empty()) damaged.erase(random() % damaged.size(), 1 + random() % 8);
          break;
        default: {
          const std::string& other = inputs[random() % inputs.size()];
          damaged =
              input.substr(0, random() % (input.size() + 1)) + other.substr(random() % (other.size() + 1));
        }
      }
      run(damaged);
    }
  }
}

}  // namespace
}  // namespace tutti
