#pragma once

#include "launcher/report/axis.h"
#include "launcher/report/canvas.h"

#include <string>
#include <vector>

namespace tutti {

enum class CurveStyle : uint8_t {
  kLine,
  kFaint,  ///< thin and pale, for raw values behind a smoothed curve
  kDots,   ///< a line with a dot at each value
};

/// y over x; values that are not finite are gaps.
struct Curve {
  std::string label;  ///< in the legend; empty: not in the legend
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

/// The content of a plot.
struct Plot {
  std::string slug;  ///< file name without extension
  std::string title;
  std::string x_label;
  std::string y_label;
  Scale y_scale = Scale::kLinear;
  bool from_zero = false;
  std::vector<Curve> curves;
  std::vector<double> stack_x;
  std::vector<StackedArea> stacked;
  std::vector<double> not_finite;  ///< x of values that are not finite: marked at the upper edge
};

inline constexpr double kPlotWidth = 640;
inline constexpr double kPlotHeight = 360;

/// Draws the plot on a canvas of this size.
void draw(const Plot& plot, Canvas& canvas, double width = kPlotWidth, double height = kPlotHeight);

/// Downsamples a line so that it covers the same pixels: keeps the first, lowest, highest and last point in
/// each of `columns` equal parts of x. Points are in the order of x.
std::vector<Point> downsample(const std::vector<Point>& points, int columns);

}  // namespace tutti
