#include "launcher/report/report.h"
#include "launcher/cli/commands.h"

#include <tutti/core/checkpoint/file.h>
#include <tutti/core/error.h>

#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> directories;
  std::string out;
  std::string svg;
  std::string png;
};

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "{}: cannot be created: {}", folder.string(), error.message());
}

ExitCode report(const Options& options, Console& console) {
  std::vector<RunData> runs;
  runs.reserve(options.directories.size());
  for (const std::string& directory : options.directories) runs.push_back(read_run(directory));

  if (!options.svg.empty()) {
    make_folder(options.svg);
    for (const Plot& plot : run_plots(runs)) {
      SvgCanvas canvas(kPlotWidth, kPlotHeight, SvgCanvas::Kind::kStandAlone, plot.slug, plot.title);
      draw(plot, canvas);
      const fs::path path = fs::path(options.svg) / (plot.slug + ".svg");
      write_file_atomically(path, canvas.finish());
      console.out << path.string() << '\n';
    }
  }
  if (!options.png.empty()) {
    make_folder(options.png);
    for (const Plot& plot : run_plots(runs)) {
      PngCanvas canvas(kPlotWidth, kPlotHeight);
      draw(plot, canvas);
      const fs::path path = fs::path(options.png) / (plot.slug + ".png");
      canvas.save(path);
      console.out << path.string() << '\n';
    }
  }
  const fs::path page = !options.out.empty() ? fs::path(options.out)
                        : runs.size() == 1   ? fs::path(options.directories.front()) / "report.html"
                                             : fs::path("report.html");
  write_file_atomically(page, html_report(runs));
  console.out << page.string() << '\n';
  return ExitCode::kDone;
}

CommandAction setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("RUNDIR", options->directories, "Run directories; several are laid over each other")
      ->required();
  app.add_option("--out", options->out,
                 "The page to write; default: report.html in RUNDIR, or here for several of them");
  app.add_option("--svg", options->svg, "Also write each plot as an SVG file into this folder");
  app.add_option("--png", options->png, "Also write each plot as a PNG file into this folder");
  return [options](Console& console) { return report(*options, console); };
}

}  // namespace

const Command kReportCommand{"report", "Write plots and results of runs as one HTML page",
                             R"(  tutti report runs/kjv                          # writes runs/kjv/report.html
  tutti report runs/kjv --png plots --svg plots  # and single pictures
  tutti report runs/a runs/b --out compare.html  # two runs over each other)",
                             &setup};

}  // namespace tutti
