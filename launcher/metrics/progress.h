#pragma once

#include "launcher/metrics/terminal.h"

#include <tutti/core/train/report.h>

#include <chrono>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace tutti {

/// How a run shows its progress.
enum class ProgressStyle : uint8_t {
  kAuto,    ///< bar on a terminal, else events
  kBar,     ///< one line that changes, with evaluations and checkpoints above it
  kLines,   ///< events, and a line every few seconds
  kEvents,  ///< a line for the start, each evaluation, each checkpoint and the end
  kNone,
};
/// "auto", "bar", "lines", "events", "none". Throws Error that lists them.
ProgressStyle progress_style_from_name(std::string_view text);

/// Exponential moving averages over the last tens of steps.
class StepMeter {
 public:
  void add(const StepReport& report);
  [[nodiscard]] double loss() const;
  [[nodiscard]] double items_per_s() const;
  [[nodiscard]] double step_s() const;
  /// Of the wall time, between 0 and 1.
  [[nodiscard]] double data_share() const;
  [[nodiscard]] double comm_share() const;

 private:
  double weight_ = 0;
  double loss_weight_ = 0;
  double loss_ = 0;
  double step_s_ = 0;
  double items_ = 0;
  double data_s_ = 0;
  double comm_s_ = 0;
};

/// A progress line of at most `columns` columns; parts that do not fit are left out, the least important
/// first. `item` is "tokens" or "images".
std::string progress_line(const StepReport& last, const StepMeter& meter, std::string_view item, int columns,
                          bool unicode);

/// Shows a run on rank 0's standard output.
class Progress final : public Observer {
 public:
  struct Options {
    ProgressStyle style = ProgressStyle::kAuto;
    std::string item = "tokens";
    Terminal terminal;
    bool unicode = false;
    std::chrono::milliseconds line_interval{10000};  ///< of kLines
    std::chrono::milliseconds redraw_interval{100};  ///< of kBar
    /// Called with a message when the output cannot be written, because its reader is gone or the disk is
    /// full. Empty: no message.
    std::function<void(const std::string& text)> warn;
    /// Columns of the terminal; called at each redraw. Empty: terminal.width().
    std::function<int()> columns;
  };
  /// `out` outlives this object.
  Progress(Options options, std::ostream& out);
  /// Keeps the bar in its last state, followed by a line end.
  ~Progress() override;

  /// Prints a separate line above the bar; nothing with kNone.
  void line(std::string_view text);
  /// Ends the bar in its last state.
  void finish();

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const CheckpointReport& report) override;

 private:
  using Clock = std::chrono::steady_clock;
  void draw();
  void clear();
  void look_at_output();

  Options options_;
  std::ostream& out_;
  StepMeter meter_;
  StepReport last_;
  Clock::time_point shown_;
  bool drawn_ = false;    ///< the cursor is at the end of a bar
  bool started_ = false;  ///< there has been a step
  bool lost_ = false;     ///< the output could not be written
};

}  // namespace tutti
