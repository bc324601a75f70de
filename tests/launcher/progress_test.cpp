#include "launcher/metrics/progress.h"
#include "launcher/info/text.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <sstream>

namespace tutti {
namespace {

int columns_of(const std::string& text) {
  return static_cast<int>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

StepReport step_report(int64_t step, double loss = 3.25) {
  return {.step = step,
          .total_steps = 1000,
          .loss = loss,
          .learning_rate = 3e-4,
          .predictions = 4096,
          .step_s = 0.5,
          .data_wait_s = 0.005,
          .comm_wait_s = 0.05};
}

Progress::Options options(ProgressStyle style, int columns) {
  Progress::Options chosen;
  chosen.style = style;
  chosen.columns = [columns] { return columns; };
  chosen.redraw_interval = std::chrono::milliseconds(0);
  chosen.line_interval = std::chrono::hours(1);
  return chosen;
}

TEST(ProgressTest, ALineIsNeverWiderThanTheTerminal) {
  std::mt19937_64 random(std::random_device{}());
  for (int columns = -1; columns <= 200; ++columns) {
    StepMeter meter;
    StepReport report = step_report(static_cast<int64_t>(random() % 1000));
    report.loss = std::ldexp(1.0, static_cast<int>(random() % 100) - 50);
    report.step_s = std::ldexp(1.0, static_cast<int>(random() % 40) - 20);
    meter.add(report);
    for (const bool unicode : {false, true}) {
      const std::string line = progress_line(report, meter, "tokens", columns, unicode);
      EXPECT_LE(columns_of(line), std::max(0, columns)) << line;
      EXPECT_EQ(line.find('\n'), std::string::npos);
      if (!unicode) {
        EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](unsigned char c) { return c < 128; }));
      }
    }
  }
}

TEST(ProgressTest, AWideLineHasAllParts) {
  StepMeter meter;
  meter.add(step_report(250));
  const std::string line = progress_line(step_report(250), meter, "tokens", 160, false);
  for (const char* const part : {"step 250/1000", " 25%", "loss 3.2500", "8.19k tokens/s",
                                 "wait data 1% comm 10%", "ETA 6:15", "lr 3.00e-04", "[#######-----"}) {
    EXPECT_NE(line.find(part), std::string::npos) << part << " in " << line;
  }
  // Narrow lines omit the least important parts.
  EXPECT_EQ(progress_line(step_report(250), meter, "tokens", 13, false), "step 250/1000");
  EXPECT_EQ(progress_line(step_report(250), meter, "tokens", 30, false), "step 250/1000 | loss 3.2500");
  EXPECT_EQ(progress_line(step_report(250), meter, "tokens", 5, false), "step ");
}

TEST(ProgressTest, ANonFiniteLossDoesNotChangeTheMean) {
  StepMeter meter;
  meter.add(step_report(1, 2));
  meter.add(step_report(2, std::numeric_limits<double>::quiet_NaN()));
  EXPECT_DOUBLE_EQ(meter.loss(), 2);
  EXPECT_DOUBLE_EQ(meter.step_s(), 0.5);
  EXPECT_NEAR(meter.comm_share(), 0.1, 1e-12);
  StepMeter none;
  EXPECT_TRUE(std::isnan(none.loss()));
  EXPECT_EQ(none.items_per_s(), 0);
}

TEST(ProgressTest, EventsArePrintedAboveTheBar) {
  std::ostringstream out;
  {
    Progress progress(options(ProgressStyle::kBar, 100), out);
    progress.line("start");
    EXPECT_EQ(out.str(), "start\n");
    progress.on_step(step_report(1));
    out.str("");
    progress.on_evaluation({.step = 1, .loss = 1.5, .accuracy = 0.25, .wall_s = 2});
    // The bar is erased, the line is printed in its place, and the bar is drawn below.
    EXPECT_TRUE(out.str().starts_with(
        "\r\x1b[2Kstep 1: validation loss 1.5000, accuracy 25.00 % (2.0 s)\nstep 1/1000 "))
        << out.str();
    out.str("");
    progress.on_checkpoint({.step = 1, .path = "runs/a", .wall_s = 1, .error = "No space left on device"});
    EXPECT_NE(out.str().find("step 1: checkpoint failed: No space left on device\n"), std::string::npos);
    out.str("");
  }
  EXPECT_TRUE(out.str().ends_with("\n"));
}

TEST(ProgressTest, WithoutATerminalThereAreEventsOnly) {
  std::ostringstream out;
  {
    Progress progress(options(ProgressStyle::kAuto, 100), out);
    for (int64_t step = 1; step <= 50; ++step) progress.on_step(step_report(step));
    progress.on_evaluation({.step = 50, .loss = 1.5, .accuracy = 0.25, .wall_s = 2});
    progress.on_checkpoint({.step = 50, .path = "runs/a", .wall_s = 1, .error = ""});
  }
  EXPECT_EQ(out.str(),
            "step 50: validation loss 1.5000, accuracy 25.00 % (2.0 s)\nstep 50: saved runs/a (1.0 s)\n");
}

TEST(ProgressTest, LinesArePrintedAtIntervals) {
  std::ostringstream out;
  Progress progress(options(ProgressStyle::kLines, 100), out);
  for (int64_t step = 998; step <= 1000; ++step) progress.on_step(step_report(step));
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;  // the first and the last
  EXPECT_NE(
      text.find(
          "step 998/1000: loss 3.2500, 8.19k tokens/s, waiting for data 1.0 %, for ranks 10.0 %, ETA 0:01"),
      std::string::npos)
      << text;
}

TEST(ProgressTest, NonePrintsNothing) {
  std::ostringstream out;
  {
    Progress progress(options(ProgressStyle::kNone, 100), out);
    StepReport report = step_report(1, std::numeric_limits<double>::infinity());
    report.skipped = true;
    progress.line("start");
    progress.on_step(report);
    progress.on_evaluation({});
  }
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressTest, SkippedStepsAreReported) {
  std::ostringstream out;
  Progress progress(options(ProgressStyle::kEvents, 100), out);
  StepReport report = step_report(3, std::numeric_limits<double>::quiet_NaN());
  report.grad_norm = 2;
  report.skipped = true;
  progress.on_step(report);
  EXPECT_EQ(out.str(), "step 3: loss not finite, gradient norm 2.0000: no update\n");
}

TEST(ProgressTest, StylesHaveNames) {
  EXPECT_EQ(progress_style_from_name("auto"), ProgressStyle::kAuto);
  EXPECT_EQ(progress_style_from_name("none"), ProgressStyle::kNone);
  try {
    progress_style_from_name("event");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'events'?"), std::string::npos) << error.what();
  }
}

TEST(TextTest, NumbersAreReadable) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text((int64_t{1} << 30) - 1), "1.0 GiB");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(12.34), "12.3");
  EXPECT_EQ(count_text(999.4), "999");
  EXPECT_EQ(count_text(999.6), "1.00k");
  EXPECT_EQ(count_text(26342), "26.3k");
  EXPECT_EQ(count_text(1.234e9), "1.23G");
  EXPECT_EQ(count_text(std::nan("")), "?");
  EXPECT_EQ(duration_text(0.4), "0:00");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(3725), "1:02:05");
  EXPECT_EQ(duration_text(200000), "2 d 7 h");
  EXPECT_EQ(duration_text(-1), "?");
  EXPECT_EQ(duration_text(std::numeric_limits<double>::infinity()), "?");
}

}  // namespace
}  // namespace tutti
