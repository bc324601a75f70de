#include "launcher/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace tutti {
namespace {

constexpr size_t kStackColumns = 120;
/// A ratio of the largest to the smallest value above which small values are not visible on a linear axis.
constexpr double kLogarithmicFrom = 25;

using Getter = std::function<double(const StepRow&)>;

std::vector<Point> points_of(const RunData& run, const Getter& value) {
  std::vector<Point> points;
  points.reserve(run.steps.size());
  for (const StepRow& row : run.steps) points.push_back({static_cast<double>(row.step), value(row)});
  return points;
}

/// A mean over neighbours on both sides, so that the curve has no lag, with weights that decay exponentially
/// over an eightieth of the run. Gaps are kept and not counted.
std::vector<Point> smoothed(std::vector<Point> points) {
  const double span = std::clamp(static_cast<double>(points.size()) / 80, 1.0, 300.0);
  const double keep = 1 - 1 / span;
  const size_t n = points.size();
  std::vector<double> sums(n), weights(n);
  const auto sweep = [&](size_t first, size_t step) {
    double sum = 0;
    double weight = 0;
    for (size_t count = 0, i = first; count < n; ++count, i += step) {
      // Without the point itself, which must not be counted by both sweeps.
      sums[i] += sum;
      weights[i] += weight;
      const bool finite = std::isfinite(points[i].y);
      sum = keep * (sum + (finite ? points[i].y : 0));
      weight = keep * (weight + (finite ? 1 : 0));
    }
  };
  sweep(0, 1);
  if (n > 0) sweep(n - 1, static_cast<size_t>(-1));
  for (size_t i = 0; i < n; ++i) {
    if (std::isfinite(points[i].y)) points[i].y = (sums[i] + points[i].y) / (weights[i] + 1);
  }
  return points;
}

/// Logarithmic if the middle 98 % of the values need it.
Scale fitting_scale(std::span<const RunData> runs, const Getter& value) {
  std::vector<double> values;
  for (const RunData& run : runs) {
    for (const StepRow& row : run.steps) {
      const double y = value(row);
      if (std::isfinite(y)) values.push_back(y);
    }
  }
  if (values.empty()) return Scale::kLinear;
  std::sort(values.begin(), values.end());
  const double low = values[values.size() / 100];
  const double high = values[values.size() - 1 - values.size() / 100];
  return values.front() > 0 && high / low > kLogarithmicFrom ? Scale::kLogarithmic : Scale::kLinear;
}

std::string run_prefix(std::span<const RunData> runs, size_t r) {
  return runs.size() == 1 ? "" : runs[r].name + " ";
}

/// For one run, a faint curve of raw values below the smoothed one; for several runs only smoothed curves.
void add_noisy(Plot& plot, std::span<const RunData> runs, const Getter& value, std::string_view what) {
  for (size_t r = 0; r < runs.size(); ++r) {
    std::vector<Point> raw = points_of(runs[r], value);
    std::vector<Point> smooth = smoothed(raw);
    if (runs.size() == 1) {
      plot.curves.push_back(
          {fmt::format("{}", what), series_colour(0), CurveStyle::kFaint, false, std::move(raw)});
    }
    plot.curves.push_back({runs.size() == 1 ? fmt::format("{}, smoothed", what) : runs[r].name,
                           series_colour(r), CurveStyle::kLine, false, std::move(smooth)});
  }
}

Plot loss_plot(std::span<const RunData> runs) {
  const Getter value = [](const StepRow& row) { return row.loss; };
  Plot plot{.slug = "loss", .title = "Loss", .x_label = "step", .y_label = "loss"};
  plot.y_scale = fitting_scale(runs, value);
  add_noisy(plot, runs, value, "training");
  for (size_t r = 0; r < runs.size(); ++r) {
    Curve curve{.label = run_prefix(runs, r) + "validation",
                .colour = runs.size() == 1 ? series_colour(1) : series_colour(r),
                .style = CurveStyle::kDots,
                .dashed = runs.size() > 1};
    for (const EvaluationRow& row : runs[r].evaluations)
      curve.points.push_back({static_cast<double>(row.step), row.loss});
    if (!curve.points.empty()) plot.curves.push_back(std::move(curve));
    for (const StepRow& row : runs[r].steps) {
      if (!std::isfinite(row.loss)) plot.not_finite.push_back(static_cast<double>(row.step));
    }
  }
  std::sort(plot.not_finite.begin(), plot.not_finite.end());
  return plot;
}

Plot loss_time_plot(std::span<const RunData> runs) {
  Plot plot{.slug = "loss-time", .title = "Loss over time", .x_label = "seconds", .y_label = "loss"};
  plot.y_scale = fitting_scale(runs, [](const StepRow& row) { return row.loss; });
  for (size_t r = 0; r < runs.size(); ++r) {
    std::vector<Point> points = smoothed(points_of(runs[r], [](const StepRow& row) { return row.loss; }));
    for (size_t i = 0; i < points.size(); ++i) points[i].x = runs[r].steps[i].elapsed_s;
    plot.curves.push_back({runs[r].name, series_colour(r), CurveStyle::kLine, false, std::move(points)});
  }
  return plot;
}

Plot accuracy_plot(std::span<const RunData> runs) {
  Plot plot{
      .slug = "accuracy", .title = "Validation accuracy", .x_label = "step", .y_label = "accuracy in %"};
  for (size_t r = 0; r < runs.size(); ++r) {
    Curve curve{
        .label = runs[r].name, .colour = series_colour(runs.size() == 1 ? 1 : r), .style = CurveStyle::kDots};
    for (const EvaluationRow& row : runs[r].evaluations) {
      curve.points.push_back({static_cast<double>(row.step), 100 * row.accuracy});
    }
    if (!curve.points.empty()) plot.curves.push_back(std::move(curve));
  }
  return plot;
}

Plot learning_rate_plot(std::span<const RunData> runs) {
  Plot plot{.slug = "learning-rate",
            .title = "Learning rate",
            .x_label = "step",
            .y_label = "learning rate",
            .from_zero = true};
  for (size_t r = 0; r < runs.size(); ++r) {
    plot.curves.push_back({runs[r].name, series_colour(r), CurveStyle::kLine, false,
                           points_of(runs[r], [](const StepRow& row) { return row.learning_rate; })});
  }
  return plot;
}

Plot throughput_plot(std::span<const RunData> runs) {
  const std::string& item = runs.front().item;
  Plot plot{.slug = "throughput",
            .title = "Throughput",
            .x_label = "step",
            .y_label = item + " per second",
            .from_zero = true};
  add_noisy(
      plot, runs,
      [](const StepRow& row) {
        return row.step_s > 0 ? row.predictions / row.step_s : std::numeric_limits<double>::quiet_NaN();
      },
      "per step");
  return plot;
}

Plot grad_norm_plot(std::span<const RunData> runs) {
  const Getter value = [](const StepRow& row) { return row.grad_norm; };
  Plot plot{.slug = "gradient-norm",
            .title = "Gradient norm",
            .x_label = "step",
            .y_label = "L2 norm before clipping"};
  plot.y_scale = fitting_scale(runs, value);
  add_noisy(plot, runs, value, "per step");
  for (const RunData& run : runs) {
    for (const StepRow& row : run.steps) {
      if (!std::isfinite(row.grad_norm)) plot.not_finite.push_back(static_cast<double>(row.step));
    }
  }
  std::sort(plot.not_finite.begin(), plot.not_finite.end());
  return plot;
}

/// The parts of a step's time, as means over equal parts of the run.
Plot time_plot(const RunData& run, size_t number, bool alone) {
  Plot plot{.slug = alone ? "time-split" : fmt::format("time-split-{}", number + 1),
            .title = alone ? "Time of a step" : "Time of a step: " + run.name,
            .x_label = "step",
            .y_label = "seconds"};
  const size_t parts = std::min(kStackColumns, run.steps.size());
  std::vector<double> compute(parts), optimizer(parts), comm(parts), data(parts);
  double longest = 0;
  for (size_t p = 0; p < parts; ++p) {
    const size_t begin = p * run.steps.size() / parts;
    const size_t end = (p + 1) * run.steps.size() / parts;
    double step_s = 0;
    double x = 0;
    for (size_t i = begin; i < end; ++i) {
      const StepRow& row = run.steps[i];
      const double share = 1.0 / static_cast<double>(end - begin);
      x += share * static_cast<double>(row.step);
      step_s += share * row.step_s;
      optimizer[p] += share * row.optimizer_s;
      comm[p] += share * row.comm_wait_s;
      data[p] += share * row.data_wait_s;
    }
    compute[p] = std::max(0.0, step_s - optimizer[p] - comm[p] - data[p]);
    // The areas cover the whole run.
    if (p == 0) x = static_cast<double>(run.steps.front().step);
    if (p + 1 == parts) x = static_cast<double>(run.steps.back().step);
    plot.stack_x.push_back(x);
    longest = std::max(longest, compute[p] + optimizer[p] + comm[p] + data[p]);
  }
  plot.stacked = {{"forward and backward", series_colour(0), std::move(compute)},
                  {"optimizer", series_colour(2), std::move(optimizer)},
                  {"waiting for ranks", series_colour(1), std::move(comm)},
                  {"waiting for data", series_colour(4), std::move(data)}};
  if (longest < 1) {
    plot.y_label = "milliseconds";
    for (StackedArea& area : plot.stacked) {
      for (double& height : area.heights) height *= 1000;
    }
  }
  return plot;
}

}  // namespace

std::vector<Plot> run_plots(std::span<const RunData> runs) {
  std::vector<Plot> plots;
  if (runs.empty()) return plots;
  plots.push_back(loss_plot(runs));
  if (runs.size() > 1) plots.push_back(loss_time_plot(runs));
  plots.push_back(learning_rate_plot(runs));
  plots.push_back(throughput_plot(runs));
  for (size_t r = 0; r < runs.size(); ++r) plots.push_back(time_plot(runs[r], r, runs.size() == 1));
  plots.push_back(grad_norm_plot(runs));
  if (Plot accuracy = accuracy_plot(runs); !accuracy.curves.empty()) plots.push_back(std::move(accuracy));
  return plots;
}

}  // namespace tutti
