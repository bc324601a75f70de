#include "launcher/cli/commands.h"
#include "launcher/cli/data_commands.h"

#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>

#include <CLI/CLI.hpp>

#include <vector>

namespace tutti {
namespace {

CommandAction setup_data(CLI::App& app) {
  app.require_subcommand(1);
  const std::vector<DataCommand> commands{add_data_tokens(app), add_data_tokenizer(app), add_data_show(app),
                                          add_data_validate(app)};
  return [commands](Console& console) {
    for (const DataCommand& command : commands) {
      if (command.app->parsed()) return command.action(console);
    }
    return ExitCode::kUsage;
  };
}

}  // namespace

std::string megabytes(double bytes) {
  return fmt::format("{:.1f} MB", bytes / 1e6);
}

int threads_or_all(int64_t threads) {
  return threads > 0 ? static_cast<int>(threads) : usable_cores();
}

const Command kDataCommand{"data", "Prepare and check training data",
                           R"(  tutti data tokens --input book.txt --train-tokenizer 2048 --out data/book
  tutti data tokens --input a.txt b.txt --tokenizer gpt2/tokenizer.json --validation 0.01 --out data/ab
  tutti data tokens --ids train.bin --validation-ids val.bin --vocabulary 50257 --out data/owt
  tutti data tokenizer --input book.txt --vocabulary 8192 --out tokenizer.json
  tutti data show data/book
  tutti data validate run.yaml                       # reads all samples before hours are spent
  mpirun -n 8 tutti data validate --kind folder --path imagenet --write-skip skip.txt)",
                           &setup_data};

}  // namespace tutti
