#include "launcher/cli/cli.h"
#include "launcher/cli/completion.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

namespace tutti {
namespace {

struct Outcome {
  ExitCode code;
  std::string out;
  std::string err;
};

Outcome run(const std::vector<std::string>& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  Console console{out, err};
  CommandLine line;
  const ExitCode code = line.run(arguments, console);
  return {code, out.str(), err.str()};
}

/// The message of a wrong command line: one line on err, nothing on out.
std::string usage_error(const std::vector<std::string>& arguments) {
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.code, ExitCode::kUsage);
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("tutti: error: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  return outcome.err;
}

/// Calls `visit` with each command of the tree and its path ("tutti data tokens").
void each_command(const CLI::App& app, const std::string& path,
                  const std::function<void(const CLI::App&, const std::string&)>& visit) {
  visit(app, path);
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    each_command(*command, path + " " + command->get_name(), visit);
  }
}

TEST(CliTest, HelpOfEachCommandComesWithExamples) {
  for (const Command* command : commands()) {
    const std::string name(command->name);
    const Outcome outcome = run({name, "--help"});
    EXPECT_EQ(outcome.code, ExitCode::kDone);
    EXPECT_EQ(outcome.err, "");
    EXPECT_NE(outcome.out.find(command->summary), std::string::npos);
    EXPECT_NE(outcome.out.find("Examples:"), std::string::npos);
    EXPECT_NE(outcome.out.find("tutti " + name), std::string::npos) << outcome.out;
    EXPECT_NE(run({"--help"}).out.find("\n  " + name + " "), std::string::npos);
  }
  EXPECT_NE(run({"--help"}).out.find("75  "), std::string::npos);
}

TEST(CliTest, Version) {
  const Outcome outcome = run({"--version"});
  EXPECT_EQ(outcome.code, ExitCode::kDone);
  EXPECT_TRUE(outcome.out.starts_with("tutti 0.")) << outcome.out;
}

TEST(CliTest, UsageErrorsAreOneMessageAndCodeTwo) {
  EXPECT_NE(usage_error({}).find("a command is missing: one of train"), std::string::npos);
  EXPECT_NE(usage_error({"trian", "x.yaml"}).find("unknown command 'trian'; did you mean 'train'?"),
            std::string::npos);
  EXPECT_NE(usage_error({"data", "tokns"}).find("did you mean 'tokens'?"), std::string::npos);
  EXPECT_NE(usage_error({"report", "x", "--pgn=plots"}).find("'--pgn'; did you mean '--png'?"),
            std::string::npos);
  EXPECT_NE(usage_error({"info", "more"}).find("'more' is one argument too many"), std::string::npos);
  // Errors of the ranks' command line are reported before the ranks are started.
  EXPECT_NE(usage_error({"launch", "--dry-run", "trian", "x.yaml"}).find("did you mean 'train'"),
            std::string::npos);
  EXPECT_NE(usage_error({"launch", "--dry-run", "train", "x.yaml", "--nodes", "2"})
                .find("unknown option '--nodes'"),
            std::string::npos);
  EXPECT_NE(usage_error({"launch", "--nodes", "two", "train", "x.yaml"})
                .find("--nodes: expected a number, at least 0; got 'two'"),
            std::string::npos);
  EXPECT_NE(usage_error({"train"}).find("RUN.yaml is required"), std::string::npos);
  EXPECT_NE(usage_error({"generate", "run", "--tokens", "-3"}).find("at least 1; got '-3'"),
            std::string::npos);
  EXPECT_NE(usage_error({"generate", "run", "--top-p", "nan"}).find("between 0 and 1; got 'nan'"),
            std::string::npos);
  EXPECT_NE(usage_error(
                {"data", "tokens", "-i", "a", "-o", "b", "--tokenizer", "bytes", "--train-tokenizer", "300"})
                .find("excludes"),
            std::string::npos);
}

TEST(CliTest, HelpDoesNotHideAWrongCommand) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"nonsense", "--help"},
                                                    {"nonsense", "-h"},
                                                    {"nonsense", "x", "--help"},
                                                    {"nonsense", "--version"},
                                                    {"data", "nonsense", "--help"},
                                                    {"bench", "nonsense", "--help"},
                                                    {"launch", "nonsense", "--help"}}) {
    EXPECT_NE(usage_error(arguments).find("unknown command 'nonsense'"), std::string::npos) << arguments[0];
  }
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--help", "nonsense"},
                                                    {"data", "--help"},
                                                    {"data", "tokens", "--help"},
                                                    {"launch", "--help"},
                                                    {"launch", "--nodes", "2", "train", "--help"},
                                                    {"train", "run.yaml", "--help"}}) {
    EXPECT_EQ(run(arguments).code, ExitCode::kDone) << arguments[0];
  }
}

TEST(CliTest, InvalidOptionsAreUsageErrors) {
  const TemporaryDirectory folder;
  write_all(folder / "run.yaml", "data: {kind: tokens, path: tokens}\n");
  const std::string run_file = (folder / "run.yaml").string();
  const auto launch = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"launch", "--dry-run"});
    options.insert(options.end(), {"train", run_file});
    return usage_error(options);
  };
  EXPECT_NE(launch({"--time", "soon"}).find("--time: a time of 'soon'"), std::string::npos);
  EXPECT_NE(launch({"--time", ""}).find("--time"), std::string::npos);
  EXPECT_NE(launch({"--grace", "5"}).find("--grace: a time of '5'"), std::string::npos);
  EXPECT_NE(launch({"--wait", "x"}).find("--wait: a time of 'x'"), std::string::npos);
  EXPECT_NE(
      launch({"--name", "my run"}).find("--name 'my run': expected letters, digits and any of . _ + - and"),
      std::string::npos);
  EXPECT_NE(launch({"--preflight", "maybe"}).find("expected on, strict or off"), std::string::npos);
  EXPECT_NE(launch({"--scheduler", "slrum"}).find("did you mean 'slurm'"), std::string::npos);
  EXPECT_NE(launch({"--env", "TUTTI_NO_SUCH_VARIABLE"}).find("is not set here"), std::string::npos);
  EXPECT_NE(launch({"--env", "A=b"}).find("--env 'A=b'"), std::string::npos);
  EXPECT_NE(launch({"--sweep", "a"}).find("--sweep 'a'"), std::string::npos);
  EXPECT_NE(launch({"--after", "$(id)"}).find("--after '$(id)'"), std::string::npos);
  EXPECT_NE(launch({"--scheduler", "local", "--requeue"}).find("--restarts N"), std::string::npos);
  EXPECT_NE(launch({"--scheduler", "flux", "--requeue"}).find("--after JOB"), std::string::npos);
  EXPECT_NE(launch({"--scheduler", "lsf", "--qos", "x"}).find("--qos: LSF has none"), std::string::npos);
  EXPECT_NE(usage_error({"launch"}).find("what to run is missing"), std::string::npos);
  for (const std::string& command : {std::string("train"), std::string("preflight"), std::string("config")}) {
    EXPECT_NE(usage_error({command, run_file, "--set", "train.steps"})
                  .find("--set: expected KEY=VALUE; got 'train.steps'"),
              std::string::npos);
  }
  EXPECT_NE(usage_error({"train", run_file, "--progress", "some"}).find("--progress"), std::string::npos);
}

TEST(CliTest, ErrorsOfCommandsNameTheFileAndExitWithOne) {
  const TemporaryDirectory folder;
  const std::string missing = (folder / "nowhere").string();
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"report", missing},
        {"generate", missing},
        {"export", missing, "--out", (folder / "w.safetensors").string()},
        {"config", missing},
        {"data", "show", missing},
        {"data", "tokenizer", "--input", missing, "--out", (folder / "t.json").string()},
        {"data", "tokens", "--input", missing, "--out", (folder / "t").string()}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, ExitCode::kError) << arguments[0];
    EXPECT_TRUE(outcome.err.starts_with("tutti: error: ")) << outcome.err;
    EXPECT_NE(outcome.err.find(missing), std::string::npos) << outcome.err;
  }
}

TEST(CliTest, ConfigPrintsARunFileThatReadsBack) {
  const TemporaryDirectory folder;
  const Outcome first = run({"config", "--set", "train.steps=17", "--set", "data.path=x"});
  ASSERT_EQ(first.code, ExitCode::kDone) << first.err;
  write_all(folder / "run.yaml", first.out);
  const Outcome second = run({"config", (folder / "run.yaml").string()});
  EXPECT_EQ(second.out, first.out);
  EXPECT_NE(first.out.find("steps: 17"), std::string::npos);

  const Outcome wrong = run({"config", "--set", "train.stps=17"});
  EXPECT_EQ(wrong.code, ExitCode::kError);
  EXPECT_NE(wrong.err.find("steps"), std::string::npos) << wrong.err;
  EXPECT_NE(run({"config", "--help-keys"}).out.find("train.steps"), std::string::npos);
}

TEST(CliTest, TokensFromTextAndBack) {
  const TemporaryDirectory folder;
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line " + std::to_string(i * i) + " of a small book\n";
  write_all(folder / "book.txt", text);
  const std::string out = (folder / "tokens").string();
  const Outcome tokens =
      run({"data", "tokens", "--input", (folder / "book.txt").string(), "--train-tokenizer", "300",
           "--validation", "0.1", "--out", out, "--threads", "2"});
  ASSERT_EQ(tokens.code, ExitCode::kDone) << tokens.err;
  const Outcome shown = run({"data", "show", out, "--tokens", "20"});
  ASSERT_EQ(shown.code, ExitCode::kDone) << shown.err;
  EXPECT_NE(shown.out.find("vocabulary 300"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("\nline 0 of a small"), std::string::npos) << shown.out;
}

TEST(CompletionTest, IncludesAllCommandsAndOptions) {
  const CommandLine line;
  const std::string bash = bash_completion(line.app());
  const std::string zsh = zsh_completion(line.app());
  const std::string fish = fish_completion(line.app());
  int options = 0;
  each_command(line.app(), "tutti", [&](const CLI::App& app, const std::string& path) {
    EXPECT_NE(bash.find("    '" + path + "') words='"), std::string::npos) << path;
    EXPECT_NE(zsh.find("    '" + path + "')\n"), std::string::npos) << path;
    if (app.get_parent() != nullptr) {
      EXPECT_NE(fish.find(" -a '" + app.get_name() + "' "), std::string::npos) << path;
    }
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        ++options;
        EXPECT_NE(bash.find("--" + name), std::string::npos);
        EXPECT_NE(zsh.find("'--" + name + ":"), std::string::npos);
        EXPECT_NE(fish.find(" -l " + name + " "), std::string::npos);
      }
    }
  });
  EXPECT_GT(options, 20);
}

/// The completions of bash for the last of `words`.
std::string bash_offers(const std::string& script, const std::vector<std::string>& words) {
  std::string array;
  for (const std::string& word : words) array += " '" + word + "'";
  const TemporaryDirectory folder;
  write_all(folder / "complete", script + "\nCOMP_WORDS=(" + array +
                                     ")\nCOMP_CWORD=" + std::to_string(words.size() - 1) +
                                     "\n_tutti\nprintf '%s ' \"${COMPREPLY[@]}\"\n");
  const std::string command = "bash '" + (folder / "complete").string() + "' 2>&1";
  FILE* const pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 4096> buffer{};
  std::string out;
  while (fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) out += buffer.data();
  EXPECT_EQ(pclose(pipe), 0);
  return out;
}

TEST(CompletionTest, BashCompletesCommandsAndOptions) {
  const CommandLine line;
  const std::string script = bash_completion(line.app());
  EXPECT_EQ(bash_offers(script, {"tutti", "tr"}), "train ");
  EXPECT_EQ(bash_offers(script, {"tutti", "data", "toke"}), "tokens tokenizer ");
  EXPECT_EQ(bash_offers(script, {"tutti", "data", "tokens", "--val"}), "--validation-ids --validation ");
  EXPECT_EQ(bash_offers(script, {"tutti", "train", "run.yaml", "--res"}), "--resume ");
  // The value of an option is for bash's own completion of files.
  EXPECT_EQ(bash_offers(script, {"tutti", "report", "--out", "t"}), " ");
  // A directory with the name of a command is not a command.
  EXPECT_EQ(bash_offers(script, {"tutti", "report", "train", "--sv"}), "--svg ");
}

}  // namespace
}  // namespace tutti
