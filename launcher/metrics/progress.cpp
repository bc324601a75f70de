#include "launcher/metrics/progress.h"

#include "launcher/info/text.h"

#include <tutti/core/error.h>
#include "core/config/nearest.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ostream>
#include <utility>
#include <vector>

namespace tutti {
namespace {

constexpr double kDecay = 0.95;  // a mean over about twenty steps
constexpr std::string_view kClearLine = "\r\x1b[2K";
constexpr int kShortestBar = 8;
constexpr int kLongestBar = 30;

double share(double part, double whole) {
  return whole > 0 ? std::clamp(part / whole, 0.0, 1.0) : 0;
}

std::string loss_text(double loss) {
  return std::isfinite(loss) ? fmt::format("{:.4f}", loss) : "not finite";
}

/// Columns of a text without wide characters: its code points.
int columns_of(std::string_view text) {
  return static_cast<int>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

std::string bar(double done, int columns, bool unicode) {
  const int full = static_cast<int>(std::floor(std::clamp(done, 0.0, 1.0) * columns));
  std::string text;
  for (int i = 0; i < columns; ++i) text += unicode ? (i < full ? "━" : "─") : (i < full ? "#" : "-");
  return unicode ? text : fmt::format("[{}]", text);
}

}  // namespace

ProgressStyle progress_style_from_name(std::string_view text) {
  static const std::vector<std::string> kNames{"auto", "bar", "lines", "events", "none"};
  const auto found = std::find(kNames.begin(), kNames.end(), text);
  require(found != kNames.end(), "progress: '{}' is not one of auto, bar, lines, events, none{}", text,
          did_you_mean(text, kNames));
  return static_cast<ProgressStyle>(found - kNames.begin());
}

void StepMeter::add(const StepReport& report) {
  const auto mix = [](double& mean, double value) { mean = kDecay * mean + (1 - kDecay) * value; };
  mix(weight_, 1);
  mix(step_s_, report.step_s);
  mix(items_, static_cast<double>(report.predictions));
  mix(data_s_, report.data_wait_s);
  mix(comm_s_, report.comm_wait_s);
  // A non-finite loss must not hide all later ones.
  if (!std::isfinite(report.loss)) return;
  mix(loss_weight_, 1);
  mix(loss_, report.loss);
}

double StepMeter::loss() const {
  return loss_weight_ > 0 ? loss_ / loss_weight_ : std::nan("");
}
double StepMeter::step_s() const {
  return weight_ > 0 ? step_s_ / weight_ : 0;
}
double StepMeter::items_per_s() const {
  return step_s_ > 0 ? items_ / step_s_ : 0;
}
double StepMeter::data_share() const {
  return share(data_s_, step_s_);
}
double StepMeter::comm_share() const {
  return share(comm_s_, step_s_);
}

std::string progress_line(const StepReport& last, const StepMeter& meter, std::string_view item, int columns,
                          bool unicode) {
  const std::string_view gap = unicode ? " · " : " | ";
  const double done = share(static_cast<double>(last.step), static_cast<double>(last.total_steps));
  const auto left = static_cast<double>(std::max<int64_t>(0, last.total_steps - last.step));
  const std::string steps = fmt::format("step {}/{}", last.step, last.total_steps);
  const std::string percent = fmt::format("{:3.0f}%", std::floor(100 * done));
  struct Part {
    std::string text;
    int rank;  // the part with the highest is left out first
  };
  const std::array<Part, 5> parts{{
      {fmt::format("loss {}", loss_text(meter.loss())), 0},
      {fmt::format("{} {}/s", count_text(meter.items_per_s()), item), 2},
      {fmt::format("wait data {:.0f}% comm {:.0f}%", 100 * meter.data_share(), 100 * meter.comm_share()), 4},
      {fmt::format("ETA {}", duration_text(left * meter.step_s())), 1},
      {fmt::format("lr {:.2e}", last.learning_rate), 5},
  }};
  std::string best = steps.substr(0, static_cast<size_t>(std::max(0, columns)));
  for (int ranks = 0; ranks <= 6; ++ranks) {
    std::string text = steps;
    // The bar itself has rank 3.
    const bool with_bar = ranks > 3;
    std::string tail;
    for (const Part& part : parts) {
      if (part.rank < ranks) tail += fmt::format("{}{}", gap, part.text);
    }
    if (with_bar) {
      const int frame = unicode ? 0 : 2;
      const int room = columns - columns_of(text) - columns_of(tail) - columns_of(percent) - 2 - frame;
      if (room < kShortestBar) continue;
      text += fmt::format(" {} {}", bar(done, std::min(room, kLongestBar), unicode), percent);
    }
    text += tail;
    if (columns_of(text) <= columns) best = text;
  }
  return best;
}

Progress::Progress(Options options, std::ostream& out) : options_(std::move(options)), out_(out) {
  if (options_.style == ProgressStyle::kAuto) {
    options_.style = options_.terminal.present() ? ProgressStyle::kBar : ProgressStyle::kEvents;
  }
  if (!options_.columns) {
    options_.columns = [terminal = options_.terminal] { return terminal.width(); };
  }
}

Progress::~Progress() {
  try {
    finish();
  } catch (const std::exception&) {
    // The stream throws if its reader is gone.
  }
}

void Progress::clear() {
  if (drawn_) out_ << kClearLine;
  drawn_ = false;
}

void Progress::draw() {
  // The last column stays free: some terminals wrap when it is written.
  const int columns = options_.columns() - 1;
  clear();
  out_ << progress_line(last_, meter_, options_.item, columns, options_.unicode) << std::flush;
  look_at_output();
  drawn_ = true;
  shown_ = Clock::now();
}

/// Without a reader the output is lost, but the run continues.
void Progress::look_at_output() {
  if (out_.good()) return;
  out_.clear();  // retry the next output: a full disk may become free
  if (!std::exchange(lost_, true) && options_.warn)
    options_.warn("cannot write the output: its reader is gone or the disk is full; training continues");
}

void Progress::line(std::string_view text) {
  if (options_.style == ProgressStyle::kNone) return;
  const bool redraw = drawn_;
  clear();
  out_ << text << '\n' << std::flush;
  look_at_output();
  if (redraw) draw();
}

void Progress::finish() {
  if (options_.style == ProgressStyle::kBar && started_) {
    draw();
    out_ << '\n' << std::flush;
    look_at_output();
    drawn_ = false;
    started_ = false;
  }
}

void Progress::on_step(const StepReport& report) {
  const bool first = !started_;
  started_ = true;
  last_ = report;
  meter_.add(report);
  if (report.skipped) {
    line(fmt::format("step {}: loss {}, gradient norm {}: no update", report.step, loss_text(report.loss),
                     loss_text(report.grad_norm)));
  }
  const auto since = Clock::now() - shown_;
  if (options_.style == ProgressStyle::kBar) {
    if (first || since >= options_.redraw_interval || report.step == report.total_steps) draw();
  } else if (options_.style == ProgressStyle::kLines) {
    if (!first && since < options_.line_interval && report.step != report.total_steps) return;
    shown_ = Clock::now();
    line(fmt::format("step {}/{}: loss {}, {} {}/s, waiting for data {:.1f} %, for ranks {:.1f} %, ETA {}",
                     report.step, report.total_steps, loss_text(meter_.loss()),
                     count_text(meter_.items_per_s()), options_.item, 100 * meter_.data_share(),
                     100 * meter_.comm_share(),
                     duration_text(static_cast<double>(report.total_steps - report.step) * meter_.step_s())));
  }
}

void Progress::on_evaluation(const EvaluationReport& report) {
  line(fmt::format("step {}: validation loss {}, accuracy {:.2f} % ({:.1f} s)", report.step,
                   loss_text(report.loss), 100 * report.accuracy, report.wall_s));
}

void Progress::on_checkpoint(const CheckpointReport& report) {
  if (report.error.empty()) {
    line(fmt::format("step {}: saved {} ({:.1f} s)", report.step, report.path, report.wall_s));
  } else {
    line(fmt::format("step {}: checkpoint failed: {}", report.step, report.error));
  }
}

}  // namespace tutti
