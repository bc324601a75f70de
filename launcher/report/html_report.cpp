#include "launcher/info/build.h"
#include "launcher/info/text.h"
#include "launcher/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace tutti {
namespace {

constexpr std::string_view kStyle = R"css(
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:var(--colour0);background:var(--paper)}
:root{--paper:#f5f6f8;--card:#fff;--edge:#dfe3e8}
@media(prefers-color-scheme:dark){:root{--paper:#12161b;--card:#1b2027;--edge:#2e353e}}
main{max-width:1360px;margin:0 auto;padding:24px 20px 40px}
h1{font-size:24px;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;margin:32px 0 12px}
.sub{color:var(--colour1);margin:4px 0 20px}
.badge{display:inline-block;border-radius:99px;padding:1px 10px;font-size:13px;border:1px solid var(--edge);background:var(--card);vertical-align:3px;margin-left:8px;font-weight:400}
.good{border-color:var(--colour6);color:var(--colour6)}.bad{border-color:var(--colour12);color:var(--colour12)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-bottom:20px}
.tile,.card{background:var(--card);border:1px solid var(--edge);border-radius:10px}
.tile{padding:12px 16px}.tile b{display:block;font-size:22px;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{color:var(--colour1);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:16px}
.card{padding:8px}.card svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:6px 12px;border-bottom:1px solid var(--edge);vertical-align:top;overflow-wrap:anywhere}
tr:last-child td,tr:last-child th{border-bottom:0}
th{font-weight:500;color:var(--colour1);width:16em;min-width:9em}
td{white-space:pre-wrap;font-variant-numeric:tabular-nums}
thead th{color:var(--colour0);font-weight:600}
pre{margin:0;padding:12px 16px;overflow:auto;font:13px/1.5 ui-monospace,'DejaVu Sans Mono',monospace}
details{margin-bottom:12px}summary{cursor:pointer;padding:8px 4px}
.swatch{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:7px;vertical-align:-1px}
footer{color:var(--colour1);font-size:13px;margin-top:32px}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
)css";

std::string number_text(double value, int decimals = 4) {
  if (std::isnan(value)) return "not finite";
  return fmt::format("{:.{}f}", value, decimals);
}

std::string or_dash(const std::optional<double>& value, int decimals = 4) {
  return value ? number_text(*value, decimals) : "–";
}

bool ended_well(const RunData& run) {
  return run.summary && run.summary->exit_reason == "completed";
}

std::string badge(const RunData& run) {
  if (!run.summary) return R"(<span class="badge">no summary: running or killed</span>)";
  return fmt::format(R"(<span class="badge {}">{}</span>)", ended_well(run) ? "good" : "bad",
                     escape_markup(run.summary->exit_reason));
}

std::string tile(std::string_view value, std::string_view label) {
  return fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escape_markup(value),
                     escape_markup(label));
}

std::string tiles(const RunData& run) {
  std::string out = "<div class=\"tiles\">\n";
  out += tile(std::to_string(run.steps.back().step), "steps");
  out += tile(number_text(run.steps.back().loss), "loss of the last step");
  if (!run.evaluations.empty()) out += tile(number_text(run.evaluations.back().loss), "validation loss");
  if (!run.evaluations.empty()) {
    out += tile(fmt::format("{} %", number_text(100 * run.evaluations.back().accuracy, 2)),
                "validation accuracy");
  }
  if (run.summary) {
    out += tile(count_text(run.summary->items_per_s), run.item + " per second");
    out += tile(duration_text(run.summary->wall_s), "in training steps");
    out += tile(bytes_text(run.summary->peak_memory_bytes), "peak memory of a rank");
    out += tile(std::to_string(run.summary->world_size), run.summary->world_size == 1 ? "rank" : "ranks");
  }
  return out + "</div>\n";
}

/// One row of the table of outcomes: its label, and its text for a run.
struct Outcome {
  std::string_view label;
  std::function<std::string(const RunData&)> text;
};

std::string of_summary(const RunData& run, const std::function<std::string(const Summary&)>& text) {
  return run.summary ? text(*run.summary) : "–";
}

std::string outcome_table(std::span<const RunData> runs) {
  const std::vector<Outcome> outcomes{
      {"Steps", [](const RunData& run) { return std::to_string(run.steps.back().step); }},
      {"Ended",
       [](const RunData& run) { return of_summary(run, [](const Summary& s) { return s.exit_reason; }); }},
      {"Loss of the last step", [](const RunData& run) { return number_text(run.steps.back().loss); }},
      {"Validation loss",
       [](const RunData& run) {
         return of_summary(run, [](const Summary& s) { return or_dash(s.val_loss); });
       }},
      {"Validation accuracy",
       [](const RunData& run) {
         return of_summary(run, [](const Summary& s) {
           return s.val_accuracy ? number_text(100 * *s.val_accuracy, 2) + " %" : std::string("–");
         });
       }},
      {"Ranks",
       [](const RunData& run) {
         return of_summary(run, [](const Summary& s) { return std::to_string(s.world_size); });
       }},
      {"Throughput",
       [](const RunData& run) {
         return of_summary(
             run, [](const Summary& s) { return fmt::format("{} {}/s", count_text(s.items_per_s), s.item); });
       }},
      {"Time in steps",
       [](const RunData& run) {
         return of_summary(run, [](const Summary& s) { return duration_text(s.wall_s); });
       }},
      {"Peak memory of a rank",
       [](const RunData& run) {
         return of_summary(run, [](const Summary& s) { return bytes_text(s.peak_memory_bytes); });
       }},
      {"SHA-256 of the parameters",
       [](const RunData& run) { return of_summary(run, [](const Summary& s) { return s.params_sha256; }); }},
  };
  std::string out = "<div class=\"card scroll\"><table>\n";
  if (runs.size() > 1) {
    out += "<thead><tr><th></th>";
    for (size_t r = 0; r < runs.size(); ++r) {
      out += fmt::format("<th><span class=\"swatch\" style=\"background:var(--{})\"></span>{}</th>",
                         css_class(series_colour(r)), escape_markup(runs[r].name));
    }
    out += "</tr></thead>\n";
  }
  for (const Outcome& outcome : outcomes) {
    out += fmt::format("<tr><th>{}</th>", outcome.label);
    for (const RunData& run : runs) out += fmt::format("<td>{}</td>", escape_markup(outcome.text(run)));
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string origin(const RunData& run) {
  if (run.manifest.empty()) return "";
  std::string out = "<div class=\"card scroll\"><table>\n";
  for (const auto& [label, value] : run.manifest) {
    out += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", escape_markup(label), escape_markup(value));
  }
  return out + "</table></div>\n";
}

std::string run_file(const RunData& run) {
  if (run.run_file.empty()) return "";
  return fmt::format("<div class=\"card\"><pre>{}</pre></div>\n", escape_markup(run.run_file));
}

std::string folded(const RunData& run, const std::string& content, bool open) {
  if (content.empty()) return "";
  return fmt::format("<details{}><summary>{}</summary>\n{}</details>\n", open ? " open" : "",
                     escape_markup(run.name), content);
}

std::string plots_html(std::span<const RunData> runs) {
  std::string out = "<div class=\"plots\">\n";
  for (const Plot& plot : run_plots(runs)) {
    SvgCanvas canvas(kPlotWidth, kPlotHeight, SvgCanvas::Kind::kInline, plot.slug, plot.title);
    draw(plot, canvas);
    out += fmt::format("<div class=\"card\">{}</div>\n", canvas.finish());
  }
  return out + "</div>\n";
}

}  // namespace

std::string html_report(std::span<const RunData> runs) {
  const bool alone = runs.size() == 1;
  const std::string title = alone ? runs.front().name : fmt::format("{} runs compared", runs.size());
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "{}\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n"
      "<title>{} – Tutti</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n<h1>{}{}</h1>\n",
      kHtmlGeneratorTag, escape_markup(title), svg_colours(), kStyle, escape_markup(title),
      alone ? badge(runs.front()) : "");
  out += "<p class=\"sub\">Training report</p>\n";
  if (alone) out += tiles(runs.front());
  out += plots_html(runs);
  out += "<h2>Outcome</h2>\n" + outcome_table(runs);
  std::string files;
  std::string origins;
  for (const RunData& run : runs) {
    files += alone ? run_file(run) : folded(run, run_file(run), false);
    origins += alone ? origin(run) : folded(run, origin(run), false);
  }
  if (!files.empty()) out += "<h2>Run file</h2>\n" + files;
  if (!origins.empty()) out += "<h2>Origin</h2>\n" + origins;
  out += fmt::format("<footer>Written by tutti {}.</footer>\n</main>\n</body>\n</html>\n",
                     escape_markup(build_version()));
  return out;
}

}  // namespace tutti
