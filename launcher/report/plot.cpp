#include "launcher/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tutti {
namespace {

constexpr double kLabelSize = 11;
constexpr double kTitleSize = 14;
constexpr double kLegendRow = 17;
constexpr size_t kLongestLegend = 42;

/// The minimum and maximum of values.
struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

/// At most kLongestLegend characters; an ellipsis replaces the rest. Cuts between UTF-8 characters.
std::string shortened_label(std::string_view text) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0U) == 0x80U) continue;
    if (++characters > kLongestLegend) return std::string(text.substr(0, i)) + "…";
  }
  return std::string(text);
}

/// Values of faint curves are noise around the others: the axis ignores a few outliers among them.
void add_values(const Curve& curve, Range& range) {
  std::vector<double> values;
  for (const Point& point : curve.points) {
    if (std::isfinite(point.y)) values.push_back(point.y);
  }
  if (values.empty()) return;
  std::sort(values.begin(), values.end());
  const size_t cut = curve.style == CurveStyle::kFaint ? values.size() / 200 : 0;
  range.add(values[cut]);
  range.add(values[values.size() - 1 - cut]);
}

Axis y_axis(const Plot& plot) {
  Range range;
  for (const Curve& curve : plot.curves) add_values(curve, range);
  for (size_t i = 0; i < plot.stack_x.size(); ++i) {
    double sum = 0;
    for (const StackedArea& area : plot.stacked) sum += area.heights.at(i);
    range.add(sum);
  }
  if (plot.from_zero || !plot.stacked.empty()) range.add(0);
  const bool logarithmic = plot.y_scale == Scale::kLogarithmic && range.low > 0;
  return axis_around(range.low, range.high, logarithmic ? Scale::kLogarithmic : Scale::kLinear);
}

Axis x_axis(const Plot& plot) {
  Range range;
  for (const Curve& curve : plot.curves) {
    for (const Point& point : curve.points) range.add(point.x);
  }
  for (const double x : plot.stack_x) range.add(x);
  for (const double x : plot.not_finite) range.add(x);
  if (range.low > range.high) return {};
  // Without a margin; from 0 unless that would waste half of the width.
  const double low = range.low <= 0.5 * range.high ? std::min(0.0, range.low) : range.low;
  // A single step has no width; a relative one, as 1 may be less than the rounding error of a large step.
  return {low, std::max(range.high, low + std::max(1.0, 1e-6 * std::abs(low))), Scale::kLinear};
}

/// Draws one plot; the members are positions on the canvas.
class Drawing {
 public:
  Drawing(const Plot& plot, Canvas& canvas, double width, double height)
      : plot_(plot), canvas_(canvas), width_(width), height_(height), x_(x_axis(plot)), y_(y_axis(plot)) {}

  void run() {
    const double legend_bottom = legend(16);
    top_ = legend_bottom + 10;
    bottom_ = height_ - 42;
    y_ticks_ = ticks(y_, std::max(2, static_cast<int>((bottom_ - top_) / 38)));
    double widest = 0;
    for (const Tick& tick : y_ticks_) widest = std::max(widest, text_width(tick.label, kLabelSize));
    left_ = 16 + kLabelSize + 10 + widest;
    right_ = width_ - 22;
    axes();
    canvas_.begin_clip({left_, top_ - 1}, {right_ + 1, bottom_ + 1});
    stack();
    for (const Curve& curve : plot_.curves) draw_curve(curve);
    canvas_.end_clip();
    // Dots at the edges must not be clipped.
    for (const Curve& curve : plot_.curves) draw_dots(curve);
    marks();
    const std::vector<Point> frame{{left_, bottom_}, {right_, bottom_}};
    canvas_.line(frame, {.colour = Colour::kFrame});
  }

 private:
  struct Entry {
    std::string label;
    Colour colour;
    CurveStyle style;
    bool filled;
    bool dashed;
  };

  [[nodiscard]] Point at(const Point& value) const {
    const double y = std::clamp(y_.position(value.y), -4.0, 5.0);
    return {left_ + x_.position(value.x) * (right_ - left_), bottom_ - y * (bottom_ - top_)};
  }

  [[nodiscard]] std::vector<Entry> entries() const {
    std::vector<Entry> all;
    for (const Curve& curve : plot_.curves) {
      if (!curve.label.empty())
        all.push_back({shortened_label(curve.label), curve.colour, curve.style, false, curve.dashed});
    }
    // Areas are stacked upwards, and the legend has the same order from top to bottom.
    for (auto area = plot_.stacked.rbegin(); area != plot_.stacked.rend(); ++area) {
      all.push_back({shortened_label(area->label), area->colour, CurveStyle::kLine, true, false});
    }
    if (!plot_.not_finite.empty())
      all.push_back({"not finite", Colour::kWarning, CurveStyle::kLine, true, false});
    return all;
  }

  /// Draws title and legend; returns their lower end.
  double legend(double left) {
    canvas_.text({left, 24}, plot_.title, {.colour = Colour::kText, .size = kTitleSize, .bold = true});
    const std::vector<Entry> all = entries();
    if (all.size() < 2) return 30;
    double x = left;
    double y = 46;
    for (const Entry& entry : all) {
      const double entry_width = 24 + text_width(entry.label, kLabelSize) + 16;
      if (x > left && x + entry_width > width_ - 10) {
        x = left;
        y += kLegendRow;
      }
      swatch(entry, {x, y - 4});
      canvas_.text({x + 24, y}, entry.label, {.colour = Colour::kText, .size = kLabelSize});
      x += entry_width;
    }
    return y + 4;
  }

  void swatch(const Entry& entry, Point centre_left) {
    const auto [x, y] = centre_left;
    if (entry.filled) {
      const std::vector<Point> box{{x + 4, y - 5}, {x + 16, y - 5}, {x + 16, y + 5}, {x + 4, y + 5}};
      canvas_.area(box, entry.colour, 0.85);
      return;
    }
    const std::vector<Point> stroke{{x, y}, {x + 18, y}};
    canvas_.line(stroke, line_style(entry.colour, entry.style, entry.dashed));
    if (entry.style == CurveStyle::kDots) canvas_.dot({x + 9, y}, 3, entry.colour, "");
  }

  static LineStyle line_style(Colour colour, CurveStyle style, bool dashed) {
    const bool faint = style == CurveStyle::kFaint;
    return {.colour = colour, .width = faint ? 1.0 : 1.8, .opacity = faint ? 0.35 : 1.0, .dashed = dashed};
  }

  void axes() {
    for (const Tick& tick : y_ticks_) {
      const double y = at({x_.low, tick.value}).y;
      const std::vector<Point> grid{{left_, y}, {right_, y}};
      canvas_.line(grid, {.colour = Colour::kGrid});
      canvas_.text({left_ - 8, y + 4}, tick.label,
                   {.colour = Colour::kMuted, .size = kLabelSize, .anchor = Anchor::kEnd});
    }
    for (const Tick& tick : ticks(x_, std::max(2, static_cast<int>((right_ - left_) / 80)))) {
      const double x = at({tick.value, y_.low}).x;
      const std::vector<Point> notch{{x, bottom_}, {x, bottom_ + 4}};
      canvas_.line(notch, {.colour = Colour::kFrame});
      canvas_.text({x, bottom_ + 17}, tick.label,
                   {.colour = Colour::kMuted, .size = kLabelSize, .anchor = Anchor::kMiddle});
    }
    canvas_.text({(left_ + right_) / 2, height_ - 8}, plot_.x_label,
                 {.colour = Colour::kMuted, .size = kLabelSize, .anchor = Anchor::kMiddle});
    canvas_.text({16 + kLabelSize / 2, (top_ + bottom_) / 2}, plot_.y_label,
                 {.colour = Colour::kMuted, .size = kLabelSize, .anchor = Anchor::kMiddle, .upwards = true});
  }

  void stack() {
    std::vector<double> base(plot_.stack_x.size(), 0);
    for (const StackedArea& area : plot_.stacked) {
      std::vector<Point> outline;
      outline.reserve(2 * base.size());
      for (size_t i = 0; i < base.size(); ++i)
        outline.push_back(at({plot_.stack_x[i], base[i] + area.heights[i]}));
      for (size_t i = base.size(); i-- > 0;) outline.push_back(at({plot_.stack_x[i], base[i]}));
      canvas_.area(outline, area.colour, 0.85);
      for (size_t i = 0; i < base.size(); ++i) base[i] += area.heights[i];
    }
  }

  void draw_curve(const Curve& curve) {
    std::vector<Point> piece;
    const auto end_piece = [&] {
      std::vector<Point> line = downsample(piece, static_cast<int>(right_ - left_));
      // A value between two gaps would be invisible as a line.
      if (line.size() == 1) line = {{line[0].x - 0.75, line[0].y}, {line[0].x + 0.75, line[0].y}};
      canvas_.line(line, line_style(curve.colour, curve.style, curve.dashed));
      piece.clear();
    };
    for (const Point& point : curve.points) {
      if (std::isfinite(point.y)) {
        piece.push_back(at(point));
      } else {
        end_piece();
      }
    }
    end_piece();
  }

  void draw_dots(const Curve& curve) {
    if (curve.style != CurveStyle::kDots) return;
    for (const Point& point : curve.points) {
      const double y = y_.position(point.y);
      if (!std::isfinite(point.y) || y < 0 || y > 1) continue;
      canvas_.dot(at(point), curve.points.size() > 60 ? 1.5 : 3, curve.colour,
                  fmt::format("{} {:.0f}: {:.6g}", plot_.x_label, point.x, point.y));
    }
  }

  void marks() {
    double last = -10;
    for (const double value : plot_.not_finite) {
      const double x = at({value, y_.low}).x;
      if (x - last < 1) continue;
      last = x;
      const std::vector<Point> triangle{{x - 4, top_ - 2}, {x + 4, top_ - 2}, {x, top_ + 6}};
      canvas_.area(triangle, Colour::kWarning, 1);
    }
  }

  const Plot& plot_;
  Canvas& canvas_;
  double width_;
  double height_;
  Axis x_;
  Axis y_;
  std::vector<Tick> y_ticks_;
  double left_ = 0, right_ = 0, top_ = 0, bottom_ = 0;
};

}  // namespace

void draw(const Plot& plot, Canvas& canvas, double width, double height) {
  Drawing(plot, canvas, width, height).run();
}

std::vector<Point> downsample(const std::vector<Point>& points, int columns) {
  const auto parts = static_cast<size_t>(std::max(1, columns));
  if (points.size() <= 4 * parts) return points;
  const double begin = points.front().x;
  const double length = std::max(points.back().x - begin, 1e-300);
  const auto part_of = [&](const Point& point) {
    return std::min(parts - 1, static_cast<size_t>((point.x - begin) / length * static_cast<double>(parts)));
  };
  std::vector<Point> kept;
  for (size_t i = 0; i < points.size();) {
    size_t end = i;
    size_t lowest = i;
    size_t highest = i;
    const size_t part = part_of(points[i]);
    for (; end < points.size() && part_of(points[end]) == part; ++end) {
      if (points[end].y < points[lowest].y) lowest = end;
      if (points[end].y > points[highest].y) highest = end;
    }
    std::vector<size_t> chosen{i, std::min(lowest, highest), std::max(lowest, highest), end - 1};
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const size_t index : chosen) kept.push_back(points[index]);
    i = end;
  }
  return kept;
}

}  // namespace tutti
