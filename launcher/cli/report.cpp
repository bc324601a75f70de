#include "launcher/report/report.h"
#include "launcher/cli/commands.h"

#include <tutti/core/error.h>
#include "core/io/target.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct ReportArguments {
  std::vector<std::string> directories;
  std::string out;
  std::string svg;
  std::string png;
  bool force = false;
};

/// A file to write, checked before any is written.
struct Output {
  FileTarget target;
  std::function<std::string()> content;
};

ExitCode report(const ReportArguments& options, Console& console) {
  std::vector<RunData> runs;
  runs.reserve(options.directories.size());
  for (const std::string& directory : options.directories) runs.push_back(read_run(directory));

  TargetRules rules{.force = options.force,
                    .inputs = {options.directories.begin(), options.directories.end()}};
  std::vector<Output> outputs;
  const std::vector<Plot> plots = run_plots(runs);
  const auto draw_all = [&](const std::string& folder, const char* ending, std::string_view tag,
                            auto draw_one) {
    if (folder.empty()) return;
    rules.generator_tag = tag;
    require(folder != "-", "-: plots cannot be written to standard output; give a directory");
    for (const Plot& plot : plots) {
      outputs.push_back({FileTarget(fs::path(folder) / (plot.slug + ending), rules),
                         [&plot, draw_one] { return draw_one(plot); }});
    }
  };
  draw_all(options.svg, ".svg", kSvgGeneratorTag, [](const Plot& plot) {
    SvgCanvas canvas(kPlotWidth, kPlotHeight, SvgCanvas::Kind::kStandAlone, plot.slug, plot.title);
    draw(plot, canvas);
    return canvas.finish();
  });
  draw_all(options.png, ".png", kPngGeneratorTag, [](const Plot& plot) {
    PngCanvas canvas(kPlotWidth, kPlotHeight);
    draw(plot, canvas);
    return canvas.finish();
  });
  const fs::path page = !options.out.empty() ? fs::path(options.out)
                        : runs.size() == 1   ? fs::path(options.directories.front()) / "report.html"
                                             : fs::path("report.html");
  rules.generator_tag = kHtmlGeneratorTag;
  rules.standard_output = true;
  outputs.push_back({FileTarget(page, rules), [&] { return html_report(runs); }});

  std::ostream& said = outputs.back().target.is_standard_output() ? console.err : console.out;
  for (Output& output : outputs) {
    OutputFile file = output.target.open();
    file.write(output.content());
    file.finish();
    if (output.target.commit()) console.err << overwritten_note(output.target.path()) << '\n';
    if (!output.target.is_standard_output()) said << output.target.path().string() << '\n';
  }
  return ExitCode::kDone;
}

CommandAction setup_report(CLI::App& app) {
  const auto options = std::make_shared<ReportArguments>();
  app.add_option("RUNDIR", options->directories, "Run directories; several are compared in the same plots")
      ->required();
  app.add_option("--out", options->out,
                 "The page to write, - for standard output; default: report.html in RUNDIR, or in the "
                 "current directory for several");
  app.add_flag("--force", options->force, "Replace existing files; earlier reports are replaced without it");
  app.add_option("--svg", options->svg, "Also write each plot as an SVG file into this folder");
  app.add_option("--png", options->png, "Also write each plot as a PNG file into this folder");
  return [options](Console& console) { return report(*options, console); };
}

}  // namespace

const Command kReportCommand{"report", "Write plots and results of runs as one HTML page",
                             R"(  tutti report runs/kjv                          # writes runs/kjv/report.html
  tutti report runs/kjv --png plots --svg plots  # and single pictures
  tutti report runs/a runs/b --out compare.html  # two runs over each other)",
                             &setup_report};

}  // namespace tutti
