#pragma once

#include "launcher/report/axis.h"
#include "launcher/report/canvas.h"

#include <string>
#include <vector>

namespace tutti {

enum class CurveStyle : uint8_t {
  kLine,
  kFaint,  ///< thin and pale: the raw values behind a smoothed curve
  kDots,   ///< a line with a dot at each value
};

/// y over x; what is not finite is a gap.
struct Curve {
  std::string label;  ///< in the legend; empty: not there
  Colour colour = Colour::kSeries0;
  CurveStyle style = CurveStyle::kLine;
  bool dashed = false;
  std::vector<Point> points;
};

/// One area of a stacked plot, above the ones before it.
struct StackedArea {
  std::string label;
  Colour colour = Colour::kSeries0;
  std::vector<double> heights;  ///< at stack_x; at least 0
};

/// A picture with axes, as data.
struct Plot {
  std::string slug;  ///< file name without its ending
  std::string title;
  std::string x_label;
  std::string y_label;
  Scale y_scale = Scale::kLinear;
  bool from_zero = false;
  std::vector<Curve> curves;
  std::vector<double> stack_x;
  std::vector<StackedArea> stacked;
  std::vector<double> not_finite;  ///< where on x something was not finite: marked at the upper edge
};

inline constexpr double kPlotWidth = 640;
inline constexpr double kPlotHeight = 360;

/// Draws the plot over the whole of a canvas of this size.
void draw(const Plot& plot, Canvas& canvas, double width = kPlotWidth, double height = kPlotHeight);

/// A line through the same pixels with fewer points: the first, lowest, highest and last in each of `columns`
/// equal parts of x. Points are in the order of x.
std::vector<Point> thin_out(const std::vector<Point>& points, int columns);

}  // namespace tutti
