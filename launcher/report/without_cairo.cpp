// PngCanvas in builds without cairo: its constructor throws.
#include "launcher/report/canvas.h"

#include <tutti/core/error.h>

namespace tutti {

struct PngCanvas::Impl {};

PngCanvas::PngCanvas(double, double) {
  fail("PNG: this build has no cairo (libcairo2-dev); --svg writes the same plots");
}
PngCanvas::~PngCanvas() = default;
void PngCanvas::line(std::span<const Point>, const LineStyle&) {}
void PngCanvas::area(std::span<const Point>, Colour, double) {}
void PngCanvas::dot(Point, double, Colour, std::string_view) {}
void PngCanvas::text(Point, std::string_view, const TextStyle&) {}
void PngCanvas::begin_clip(Point, Point) {}
void PngCanvas::end_clip() {}
std::string PngCanvas::finish() const {
  return "";
}

}  // namespace tutti
