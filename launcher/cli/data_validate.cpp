#include "comm/placement/placement.h"
#include "launcher/cli/checks.h"
#include "launcher/cli/data_commands.h"
#include "launcher/cli/status_line.h"
#include "launcher/info/libraries.h"
#include "launcher/info/text.h"
#include "launcher/launch/bootstrap_check.h"
#include "launcher/run/training.h"

#include <tutti/comm/factory.h>
#include <tutti/comm/peers.h>
#include <tutti/core/data/validate/validate.h>
#include <tutti/core/error.h>
#include <tutti/models/builder.h>
#include "core/counted.h"
#include "core/io/target.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <memory>
#include <optional>

namespace tutti {
namespace {

using Json = nlohmann::ordered_json;

struct DataValidateArguments {
  TrainOptions train;  // the run file, if one is given
  DataConfig data;
  int64_t threads = 0;
  int64_t show = 20;
  std::string json;
  std::string write_skip;
  bool force = false;
  bool strict = false;
};

/// File names may contain any bytes: invalid UTF-8 is shown as U+FFFD.
std::string dumped(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json duplicates_json(const DuplicateCounts& counts) {
  Json examples = Json::array();
  for (const DuplicateExample& e : counts.examples) examples.push_back({e.first, e.second});
  return {{"samples", counts.samples}, {"in_another_class", counts.conflicts}, {"examples", examples}};
}

Json split_json(const SplitReport& split) {
  Json json{{"path", split.path}, {"samples", split.samples}};
  if (split.class_counts.empty()) {
    json.update({{"tokens", split.tokens},
                 {"shards", split.shards},
                 {"vocabulary", split.vocabulary},
                 {"ids_used", split.ids_used}});
  } else {
    Json classes = Json::array();
    for (size_t i = 0; i < split.class_counts.size(); ++i) {
      classes.push_back({{"name", i < split.class_names.size() ? split.class_names[i] : std::to_string(i)},
                         {"samples", split.class_counts[i]}});
    }
    json.update({{"skipped", split.skipped},
                 {"classes", classes},
                 {"height", {split.least_height, split.most_height}},
                 {"width", {split.least_width, split.most_width}},
                 {"scaled_up", split.scaled_up}});
  }
  json["duplicates"] = duplicates_json(split.duplicates);
  json["problems"] = Json::array();
  for (const DataProblem& p : split.problems) {
    json["problems"].push_back({{"sample", p.id}, {"name", p.name}, {"reason", p.reason}});
  }
  json["left_out"] = Json::array();
  for (const LeftOutFile& file : split.left_out) {
    json["left_out"].push_back({{"name", file.name}, {"reason", file.reason}});
  }
  return json;
}

std::string to_json(const DataReport& report, double seconds) {
  Json json{{"good", report.good()},   {"complete", report.complete}, {"seconds", seconds},
            {"errors", report.errors}, {"warnings", report.warnings}, {"splits", Json::object()}};
  for (const SplitReport& split : report.splits)
    json["splits"][std::string(name(split.split))] = split_json(split);
  json["shared"] = duplicates_json(report.shared);
  return dumped(json);
}

std::string range(int64_t least, int64_t most) {
  return least == most ? std::to_string(least) : fmt::format("{} to {}", least, most);
}

void print_classes(const SplitReport& split, std::ostream& out) {
  constexpr size_t kShown = 12;
  const size_t shown = std::min(split.class_counts.size(), kShown);
  for (size_t i = 0; i < shown; ++i) {
    out << fmt::format("    {:<28} {:>12}\n",
                       i < split.class_names.size() ? split.class_names[i] : std::to_string(i),
                       grouped(split.class_counts[i]));
  }
  if (split.class_counts.size() <= kShown) return;
  const auto [least, most] = std::minmax_element(split.class_counts.begin(), split.class_counts.end());
  out << fmt::format("    and {} more; of all, the smallest has {}, the largest {}\n",
                     counted(static_cast<int64_t>(split.class_counts.size() - kShown), "class", "classes"),
                     grouped(*least), grouped(*most));
}

void print_split(const SplitReport& split, int64_t most, std::ostream& out) {
  const auto line = [&](std::string_view what, const std::string& value) {
    out << fmt::format("  {:<12} {}\n", what, value);
  };
  out << fmt::format("{}: {}\n", name(split.split), split.path);
  if (split.class_counts.empty()) {
    line("tokens", fmt::format("{} in {}, {}", grouped(split.tokens), counted(split.shards, "shard"),
                               counted(split.samples, "sample")));
    line("ids", fmt::format("{} of {} are used", grouped(split.ids_used), grouped(split.vocabulary)));
  } else {
    line("images",
         grouped(split.samples) +
             (split.skipped > 0 ? fmt::format(", {} skipped by data.skip", grouped(split.skipped)) : ""));
    line("height", range(split.least_height, split.most_height));
    line("width", range(split.least_width, split.most_width));
    line("classes", grouped(static_cast<int64_t>(split.class_counts.size())));
    print_classes(split, out);
  }
  line("duplicates", grouped(split.duplicates.samples));
  for (const DuplicateExample& e : split.duplicates.examples)
    out << fmt::format("    {} = {}\n", e.second, e.first);
  const auto list = [&](std::string_view what, const auto& all, const auto& text) {
    if (all.empty()) return;
    line(what, grouped(static_cast<int64_t>(all.size())));
    for (size_t i = 0; i < all.size() && static_cast<int64_t>(i) < most; ++i) {
      out << fmt::format("    {}\n", text(all[i]));
    }
    if (static_cast<int64_t>(all.size()) > most) {
      out << fmt::format("    and {} more; --show N shows more of them, --json all\n",
                         static_cast<int64_t>(all.size()) - most);
    }
  };
  list("left out", split.left_out,
       [](const LeftOutFile& file) { return fmt::format("{}: {}", file.name, file.reason); });
  list("damaged", split.problems, [](const DataProblem& p) {
    // The reason of an image begins with its path.
    return p.can_be_skipped ? p.reason : fmt::format("{}: {}", p.name, p.reason);
  });
}

void print(const DataValidateArguments& options, const DataReport& report, double seconds,
           std::ostream& out) {
  for (const SplitReport& split : report.splits) print_split(split, options.show, out);
  for (const DuplicateExample& e : report.shared.examples)
    out << fmt::format("shared: {} = {}\n", e.second, e.first);
  for (const std::string& text : report.warnings) out << "warning: " << text << '\n';
  for (const std::string& text : report.errors) out << "error: " << text << '\n';
  int64_t damaged = 0;
  for (const SplitReport& split : report.splits) damaged += static_cast<int64_t>(split.problems.size());
  out << (report.good() ? "good" : "NOT good");
  out << fmt::format(": {}, {}, {}, in {}\n", counted(static_cast<int64_t>(report.errors.size()), "error"),
                     counted(damaged, "damaged sample or file", "damaged samples or files"),
                     counted(static_cast<int64_t>(report.warnings.size()), "warning"),
                     duration_text(seconds));
}

/// Writes a target that was checked before the work.
void write_target(FileTarget& target, std::string_view text, Console& console) {
  OutputFile file = target.open();
  file.write(text);
  file.finish();
  if (target.commit()) console.err << overwritten_note(target.path()) << '\n';
}

/// The output files of --json and --write-skip.
struct Targets {
  std::optional<FileTarget> json, skip;

  void open(const DataValidateArguments& options, const DataConfig& data) {
    std::vector<std::filesystem::path> inputs;
    if (!options.train.run_file.empty()) inputs.push_back(options.train.run_file);
    for (const std::string& path : {data.path, data.validation_path}) {
      if (!path.empty()) inputs.emplace_back(path);
    }
    // The new list includes the run's existing one.
    const bool own = options.write_skip == data.skip;
    const std::vector<std::filesystem::path> without_list = inputs;
    if (!data.skip.empty()) inputs.emplace_back(data.skip);
    if (!options.json.empty()) {
      json.emplace(options.json,
                   TargetRules{.force = options.force, .inputs = inputs, .standard_output = true});
    }
    if (options.write_skip.empty()) return;
    std::error_code none;
    require(options.write_skip != options.json &&
                !std::filesystem::equivalent(options.write_skip, options.json, none),
            "--json and --write-skip: both name {}", options.json);
    skip.emplace(options.write_skip,
                 TargetRules{.force = options.force || own, .inputs = own ? without_list : inputs});
  }
};

/// Checks the data against the model, as training does.
void check_model(RunSettings& settings, DataReport& report) {
  if (!report.errors.empty()) return;
  try {
    const auto data = open_dataset(settings.data, Split::kTraining);
    fit_to_data(settings.model, {data->sample_shape(), data->classes()});
    (void)make_task(settings.model);
  } catch (const Error& error) {
    report.errors.push_back(fmt::format("model: {}", error.what()));
  }
}

ExitCode validate(const DataValidateArguments& options, Console& console) {
  std::optional<RunSettings> run;
  DataConfig data = options.data;
  const bool has_run = !options.train.run_file.empty();
  require(has_run || !data.path.empty(), "data validate: needs a run file, or --kind and --path");
  const Environment here = this_environment();
  const MpiLibrary library = parse_mpi_library(mpi_library_version());
  check_bootstrap(here, library);
  bool good = true;
  Targets targets;  // of rank 0
  run_world({}, [&](Collective& world) {
    check_world_size(here, library, world.size());
    CollectivePeers peers(world);
    peers.agree([&] {
      if (has_run) {
        run = read_settings(options.train);
        data = run->data;
      }
      if (peers.rank() == 0) targets.open(options, data);
    });
    const auto begin = std::chrono::steady_clock::now();
    ThreadPool pool(place_threads(peers, options.threads).threads);
    DataReport report;
    {
      StatusLine status_line(console.err);
      report = validate_data(data, peers, pool, [&](int64_t done, int64_t total) {
        const std::string of_rank = peers.size() > 1 ? ", rank 0's part" : "";
        status_line.show(fmt::format("{} of {} samples{}", grouped(done), grouped(total), of_rank));
      });
    }
    if (peers.rank() != 0) return;
    if (run) check_model(*run, report);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    good = report.good() && (!options.strict || report.warnings.empty());
    if (!targets.json || !targets.json->is_standard_output()) print(options, report, seconds, console.out);
    console.out.flush();
    if (targets.json) write_target(*targets.json, to_json(report, seconds), console);
    if (!targets.skip) return;
    if (!report.complete) {
      console.err << fmt::format("{}: not written: not all samples were checked, see the errors above\n",
                                 options.write_skip);
      return;
    }
    const SkipList list = report.skip_list(open_skip_list(data));
    write_target(*targets.skip, list.to_text(), console);
    console.err << fmt::format("{}: {}, for data.skip\n", options.write_skip,
                               counted(static_cast<int64_t>(list.entries.size()), "sample"));
  });
  return good ? ExitCode::kDone : ExitCode::kError;
}

}  // namespace

DataCommand add_data_validate(CLI::App& data) {
  const auto options = std::make_shared<DataValidateArguments>();
  CLI::App* const app = data.add_subcommand(
      "validate",
      "Read all samples of a dataset: decode images, check tokens and checksums, count classes and "
      "duplicates. The exit code is 1 if training would fail. May run under mpirun, which divides the work");
  CLI::Option* const run = app->add_option("RUN.yaml", options->train.run_file,
                                           "A run file, whose data is checked against its model");
  app->add_option("--set", options->train.sets, "Override a key of the run file; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->needs(run);
  app->add_option("--kind", options->data.kind, "Without a run file: tokens, idx, cifar10 or folder")
      ->check(CLI::IsMember({"tokens", "idx", "cifar10", "folder"}))
      ->excludes(run)
      ->capture_default_str();
  app->add_option("--path", options->data.path, "The directory")->excludes(run);
  app->add_option("--validation-path", options->data.validation_path, "Another directory for validation")
      ->excludes(run);
  app->add_option("--skip", options->data.skip, "A skip list, as data.skip names")->excludes(run);
  app->add_option("--context", options->data.context, "Tokens in a sample")
      ->check(between_numbers(1))
      ->excludes(run)
      ->capture_default_str();
  app->add_option("--size", options->data.folder.size, "Height and width of a sample of a folder")
      ->check(between_numbers(1, 8192))
      ->excludes(run)
      ->capture_default_str();
  app->add_option("--write-skip", options->write_skip,
                  "Write a list of unreadable and already skipped images for data.skip; not written if some "
                  "images could not be checked");
  app->add_flag("--force", options->force, "Replace the files of --write-skip and --json");
  app->add_option("--json", options->json,
                  "Write all results to a JSON file; -: print them instead of the table");
  app->add_option("--show", options->show, "Maximum number of files of a kind in the table")
      ->check(between_numbers(0))
      ->capture_default_str();
  app->add_flag("--strict", options->strict, "Exit code 1 for warnings too");
  app->add_option("--threads", options->threads,
                  "Threads per rank; default: all cores, divided by the ranks of a host")
      ->check(between_numbers(1, kMostThreads));
  return {app, [options](Console& console) { return validate(*options, console); }};
}

}  // namespace tutti
