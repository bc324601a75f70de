#include "launcher/cli/checks.h"
#include "launcher/cli/data_commands.h"

#include <tutti/core/data/token_shards.h>
#include <tutti/core/data/tokenizer.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct DataShowArguments {
  std::string directory;
  int64_t tokens = 60;
};

ExitCode show(const DataShowArguments& options, Console& console) {
  const fs::path directory(options.directory);
  const fs::path index_file = directory / kTokenIndex;
  const TokenIndex index =
      TokenIndex::parse(read_text_file(index_file, kMaxTokenIndexBytes), index_file.string());
  std::optional<Tokenizer> tokenizer;
  if (index.source.tokenizer_sha256 != kNoTokenizer)
    tokenizer = Tokenizer::load(directory / "tokenizer.json");
  console.out << fmt::format("{}: vocabulary {}{}\n", options.directory, index.source.vocabulary,
                             tokenizer ? "" : ", tokenizer unknown");
  for (const TokenIndex::Split& split : index.splits) {
    const TokenCorpus corpus = TokenCorpus::open(directory, split.name);
    std::vector<int32_t> ids(static_cast<size_t>(std::min(options.tokens, corpus.size())));
    corpus.read(0, ids);
    console.out << fmt::format("\n{}: {} tokens in {} shards, beginning with\n{}\n", split.name,
                               corpus.size(), corpus.shards().size(),
                               tokenizer ? tokenizer->decode(ids) : fmt::format("{}", fmt::join(ids, " ")));
  }
  return ExitCode::kDone;
}

}  // namespace

DataCommand add_data_show(CLI::App& data) {
  const auto options = std::make_shared<DataShowArguments>();
  CLI::App* const app = data.add_subcommand("show", "Show the content of a directory of token shards");
  app->add_option("DIR", options->directory, "The directory")->required();
  app->add_option("-n,--tokens", options->tokens, "Tokens of each split to print")
      ->check(between_numbers(0))
      ->capture_default_str();
  return {app, [options](Console& console) { return show(*options, console); }};
}

}  // namespace tutti
