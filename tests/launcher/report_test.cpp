#include "launcher/report/report.h"
#include "launcher/metrics/jsonl.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <regex>

namespace tutti {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kHostile = "</td><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>";

/// The files of a run of `steps` steps with decreasing losses.
void write_run(const std::filesystem::path& directory, int64_t steps, uint64_t seed) {
  std::filesystem::create_directories(directory);
  std::mt19937_64 random(seed);
  JsonlWriter writer(directory / "metrics.jsonl");
  for (int64_t step = 1; step <= steps; ++step) {
    const double noise = static_cast<double>(random() % 1000) / 1000;
    writer.on_step({.step = step,
                    .total_steps = steps,
                    .loss = step % 97 == 5 ? kNan : 2 + 3.0 / static_cast<double>(step) + 0.1 * noise,
                    .learning_rate = 1e-3 / static_cast<double>(step),
                    .grad_norm = step % 97 == 5 ? std::numeric_limits<double>::infinity() : 1 + noise,
                    .predictions = 1000,
                    .step_s = 0.01 + 0.01 * noise,
                    .data_wait_s = 0.001,
                    .comm_wait_s = 0.002,
                    .optimizer_s = 0.001,
                    .elapsed_s = 0.02 * static_cast<double>(step)});
    if (step % 10 == 0) writer.on_evaluation({.step = step, .loss = 2.5, .accuracy = 0.5, .wall_s = 1});
  }
}

/// Checks the nesting of tags: elements are closed in the reverse order of opening.
void expect_balanced(const std::string& markup) {
  static const std::regex kTag("<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*?)(/?)>");
  std::vector<std::string> open;
  for (std::sregex_iterator tag(markup.begin(), markup.end(), kTag), end; tag != end; ++tag) {
    const std::string name = (*tag)[2];
    if ((*tag)[4] == "/" || name == "meta") continue;
    if ((*tag)[1] != "/") {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty()) << name;
      ASSERT_EQ(open.back(), name);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

void expect_safe(const std::string& page) {
  for (const char* const text : {"<script", "<img", "javascript:", "@import", "url(http"}) {
    EXPECT_EQ(page.find(text), std::string::npos) << text;
  }
  // Attributes that execute or load something, and coordinates that are not numbers.
  static const std::regex kHandler("<[^>]*\\s(on[a-z]+|src|href)=");
  static const std::regex kNoNumber("[\" ML](nan|-nan|inf|-inf)[\" ]");
  EXPECT_FALSE(std::regex_search(page, kHandler));
  std::smatch found;
  EXPECT_FALSE(std::regex_search(page, found, kNoNumber)) << std::string(found.prefix()).substr(0, 400);
  expect_balanced(page);
}

TEST(ReportTest, APageContainsAllPlotsAndValues) {
  const TemporaryDirectory folder;
  write_run(folder / "run", 333, std::random_device{}());
  write_summary(folder / "run" / "summary.json", {.steps = 333,
                                                  .world_size = 3,
                                                  .loss = 2.125,
                                                  .val_loss = 2.5,
                                                  .val_accuracy = 0.5,
                                                  .items_per_s = 51234,
                                                  .wall_s = 6.6,
                                                  .peak_memory_bytes = 3 << 20,
                                                  .params_sha256 = "0123abcd",
                                                  .exit_reason = "completed"});
  write_all(folder / "run" / "run.yaml", "train:\n  steps: 333\n");
  const std::vector<RunData> runs{read_run(folder / "run")};
  EXPECT_EQ(runs[0].steps.size(), 333U);
  EXPECT_TRUE(std::isnan(runs[0].steps[4].loss));
  EXPECT_TRUE(std::isnan(runs[0].steps[4].grad_norm));
  const std::string page = html_report(runs);
  for (const char* const text :
       {"Loss", "Learning rate", "Throughput", "Time of a step", "Gradient norm", "Validation accuracy",
        "not finite", "completed", "51.2k", "3.0 MiB", "0123abcd", "steps: 333", "prefers-color-scheme:dark",
        "Content-Security-Policy"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
  expect_safe(page);
}

TEST(ReportTest, HostileTextsAreEscaped) {
  const TemporaryDirectory folder;
  const std::filesystem::path directory = folder / "<b onclick=alert(3)>&\xff";
  write_run(directory, 30, 1);
  write_summary(directory / "summary.json",
                {.steps = 30, .params_sha256 = kHostile, .exit_reason = kHostile});
  write_all(directory / "run.yaml", std::string("run: ") + kHostile + "\x01\xfe\n");
  std::string json = "\"</table><script>alert(4)</script>\"";
  write_all(directory / "manifest.json", R"({"sessions":[{"started":)" + json + R"(,"command_line":[)" +
                                             json + R"(],"ranks":[{"host":)" + json +
                                             R"(}],"environment":{)" + json + ":" + json +
                                             R"(},"machine":[],"tutti":7,"seed":{}}]})");
  const std::vector<RunData> one{read_run(directory)};
  expect_safe(html_report(one));
  const std::vector<RunData> two{one[0], one[0]};
  const std::string page = html_report(two);
  expect_safe(page);
  EXPECT_NE(page.find("&lt;script&gt;alert(4)"), std::string::npos);
  for (const Plot& plot : run_plots(two)) {
    SvgCanvas svg(kPlotWidth, kPlotHeight, SvgCanvas::Kind::kStandAlone, plot.slug, plot.title);
    draw(plot, svg);
    expect_safe(svg.finish());
    PngCanvas png(kPlotWidth, kPlotHeight);
    draw(plot, png);
    EXPECT_TRUE(png.finish().starts_with("\x89PNG\r\n\x1a\n"));
  }
}

TEST(ReportTest, EmptyAndExtremeRunsAreDrawn) {
  const TemporaryDirectory folder;
  for (const std::string line :
       {R"({"kind":"step","step":1})", R"({"kind":"step","step":0,"loss":null})",
        R"({"kind":"step","step":1,"loss":1e308,"grad_norm":1e-308,"step_s":1e-300})",
        R"({"kind":"step","step":9000000000000000000,"loss":-1e308,"learning_rate":1e300})",
        R"({"kind":"step","step":3,"loss":"text","grad_norm":-5,"step_s":-1})"}) {
    std::filesystem::create_directories(folder / "run");
    write_all(folder / "run" / "metrics.jsonl", line + "\n" + line + "\n");
    const std::vector<RunData> runs{read_run(folder / "run")};
    expect_safe(html_report(runs));
    for (const Plot& plot : run_plots(runs)) {
      PngCanvas png(kPlotWidth, kPlotHeight);
      draw(plot, png);
      EXPECT_FALSE(png.finish().empty());
    }
  }
}

TEST(ReportTest, DamagedMetricsAreRefusedWithTheLine) {
  const TemporaryDirectory folder;
  const std::string good = R"({"kind":"step","step":5,"loss":1})";
  const auto refuses = [&](const std::string& text, const std::string& part) {
    write_all(folder / "metrics.jsonl", text);
    try {
      (void)read_run(folder.path());
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refuses("", "contains no steps yet");
  refuses(good + "\n{\"kind\n" + good + "\n", "metrics.jsonl:2: not a metrics record");
  refuses(good + "\n[]\n", "metrics.jsonl:2");
  refuses(good + "\n" + R"({"kind":"step","step":4})" + "\n", "metrics.jsonl:2: step 4 after step 5");
  // The last line may be truncated.
  write_all(folder / "metrics.jsonl", good + "\n{\"kind\":\"st");
  EXPECT_EQ(read_run(folder.path()).steps.size(), 1U);
  EXPECT_THROW(read_run(folder / "nowhere"), Error);
  write_all(folder / "manifest.json", "{}");  // no plot depends on it
  const RunData run = read_run(folder.path());
  ASSERT_EQ(run.manifest.size(), 1U);
  EXPECT_NE(run.manifest.front().second.find("not the manifest of a run"), std::string::npos);
}

TEST(ReportTest, SessionsAreConcatenatedInTime) {
  const TemporaryDirectory folder;
  write_all(folder / "metrics.jsonl", R"({"kind":"step","step":1,"elapsed_s":10}
{"kind":"step","step":2,"elapsed_s":20}
{"kind":"step","step":3,"elapsed_s":5}
{"kind":"step","step":4,"elapsed_s":10}
)");
  const RunData run = read_run(folder.path());
  EXPECT_EQ(run.steps[2].elapsed_s, 25);
  EXPECT_EQ(run.steps[3].elapsed_s, 30);
}

TEST(AxisTest, TicksAreRoundOrderedAndInside) {
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 2000; ++round) {
    const double low =
        std::ldexp(static_cast<double>(random() % 1000) - 500, static_cast<int>(random() % 60) - 30);
    const double length =
        std::ldexp(1 + static_cast<double>(random() % 1000), static_cast<int>(random() % 60) - 30);
    const Scale scale = random() % 2 == 0 || low <= 0 ? Scale::kLinear : Scale::kLogarithmic;
    const Axis axis = axis_around(low, low + length, scale);
    const std::vector<Tick> all = ticks(axis, 2 + static_cast<int>(random() % 8));
    ASSERT_GE(all.size(), 1U) << axis.low << " " << axis.high;
    EXPECT_LE(all.size(), 40U);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_GE(axis.position(all[i].value), -1e-6);
      EXPECT_LE(axis.position(all[i].value), 1 + 1e-6);
      if (i > 0) {
        EXPECT_GT(all[i].value, all[i - 1].value);
      }
    }
  }
}

TEST(AxisTest, LabelsAreShort) {
  const auto labels = [](double low, double high) {
    std::string text;
    for (const Tick& tick : ticks({low, high, Scale::kLinear}, 5)) text += tick.label + " ";
    return text;
  };
  EXPECT_EQ(labels(0, 1), "0 0.2 0.4 0.6 0.8 1.0 ");
  EXPECT_EQ(labels(0, 3e-4), "0 1e-4 2e-4 3e-4 ");
  EXPECT_EQ(labels(0, 25000), "0 5k 10k 15k 20k 25k ");
  EXPECT_EQ(labels(-2, 2), "-2 -1 0 1 2 ");
  EXPECT_EQ(labels(6.01, 6.06), "6.01 6.02 6.03 6.04 6.05 6.06 ");
}

TEST(PlotTest, DownsamplingKeepsEndsAndExtremes) {
  std::mt19937_64 random(std::random_device{}());
  std::vector<Point> points;
  for (int i = 0; i < 50000; ++i)
    points.push_back({static_cast<double>(i), static_cast<double>(random() % 100000)});
  const std::vector<Point> line = downsample(points, 100);
  EXPECT_LE(line.size(), 400U);
  EXPECT_EQ(line.front().x, 0);
  EXPECT_EQ(line.back().x, 49999);
  const auto by_y = [](const Point& a, const Point& b) { return a.y < b.y; };
  EXPECT_EQ(std::max_element(line.begin(), line.end(), by_y)->y,
            std::max_element(points.begin(), points.end(), by_y)->y);
  EXPECT_EQ(std::min_element(line.begin(), line.end(), by_y)->y,
            std::min_element(points.begin(), points.end(), by_y)->y);
  EXPECT_TRUE(
      std::is_sorted(line.begin(), line.end(), [](const Point& a, const Point& b) { return a.x < b.x; }));
}

}  // namespace
}  // namespace tutti
