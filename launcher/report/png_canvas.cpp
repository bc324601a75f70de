#include "launcher/report/canvas.h"

#include <tutti/core/error.h>

#include <cairo.h>

#include <boost/crc.hpp>

#include <cmath>
#include <numbers>

namespace tutti {
namespace {

constexpr double kScale = 2;

struct SurfaceFree {
  void operator()(cairo_surface_t* surface) const noexcept { cairo_surface_destroy(surface); }
};
struct ContextFree {
  void operator()(cairo_t* context) const noexcept { cairo_destroy(context); }
};

void check(cairo_status_t status, std::string_view what) {
  require(status == CAIRO_STATUS_SUCCESS, "PNG: {}: {}", what, cairo_status_to_string(status));
}

cairo_status_t write_piece(void* bytes, const unsigned char* data, unsigned int length) {
  try {
    static_cast<std::string*>(bytes)->append(reinterpret_cast<const char*>(data), length);
    return CAIRO_STATUS_SUCCESS;
  } catch (const std::exception&) {
    return CAIRO_STATUS_NO_MEMORY;  // an exception must not pass through cairo, which is C
  }
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift & 0xff));
  return bytes;
}

/// A tEXt chunk, https://www.w3.org/TR/png-3/#11tEXt.
std::string text_chunk(std::string_view keyword_and_text) {
  const std::string body = "tEXt" + std::string(keyword_and_text);
  boost::crc_32_type crc;
  crc.process_bytes(body.data(), body.size());
  return big_endian(static_cast<uint32_t>(keyword_and_text.size())) + body + big_endian(crc.checksum());
}

}  // namespace

struct PngCanvas::Impl {
  std::unique_ptr<cairo_surface_t, SurfaceFree> surface;
  std::unique_ptr<cairo_t, ContextFree> context;

  [[nodiscard]] cairo_t* at() const { return context.get(); }
  void set_colour(Colour colour, double opacity) const {
    const auto [r, g, b] = rgb_of(colour, Background::kWhite);
    cairo_set_source_rgba(at(), r / 255.0, g / 255.0, b / 255.0, opacity);
  }
  void trace(std::span<const Point> points) const {
    cairo_new_path(at());
    for (const Point& point : points) cairo_line_to(at(), point.x, point.y);
  }
};

PngCanvas::PngCanvas(double width, double height) : impl_(std::make_unique<Impl>()) {
  impl_->surface.reset(cairo_image_surface_create(CAIRO_FORMAT_RGB24,
                                                  static_cast<int>(std::lround(width * kScale)),
                                                  static_cast<int>(std::lround(height * kScale))));
  check(cairo_surface_status(impl_->surface.get()), "cannot create an image");
  impl_->context.reset(cairo_create(impl_->surface.get()));
  check(cairo_status(impl_->at()), "cannot draw on an image");
  cairo_scale(impl_->at(), kScale, kScale);
  cairo_set_source_rgb(impl_->at(), 1, 1, 1);
  cairo_paint(impl_->at());
  cairo_set_line_join(impl_->at(), CAIRO_LINE_JOIN_ROUND);
}

PngCanvas::~PngCanvas() = default;

void PngCanvas::line(std::span<const Point> points, const LineStyle& style) {
  if (points.size() < 2) return;
  const double dash = 4;
  impl_->set_colour(style.colour, style.opacity);
  cairo_set_line_width(impl_->at(), style.width);
  cairo_set_dash(impl_->at(), &dash, style.dashed ? 1 : 0, 0);
  impl_->trace(points);
  cairo_stroke(impl_->at());
}

void PngCanvas::area(std::span<const Point> outline, Colour colour, double opacity) {
  if (outline.size() < 3) return;
  impl_->set_colour(colour, opacity);
  impl_->trace(outline);
  cairo_close_path(impl_->at());
  cairo_fill(impl_->at());
}

void PngCanvas::dot(Point centre, double radius, Colour colour, std::string_view) {
  impl_->set_colour(colour, 1);
  cairo_new_path(impl_->at());
  cairo_arc(impl_->at(), centre.x, centre.y, radius, 0, 2 * std::numbers::pi);
  cairo_fill(impl_->at());
}

void PngCanvas::text(Point at, std::string_view text, const TextStyle& style) {
  cairo_t* const cr = impl_->at();
  const std::string copy(text);
  impl_->set_colour(style.colour, 1);
  cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                         style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cr, style.size);
  cairo_text_extents_t extents{};
  cairo_text_extents(cr, copy.c_str(), &extents);
  const double back = style.anchor == Anchor::kStart ? 0 : style.anchor == Anchor::kMiddle ? 0.5 : 1;
  cairo_save(cr);
  cairo_translate(cr, at.x, at.y);
  if (style.upwards) cairo_rotate(cr, -std::numbers::pi / 2);
  cairo_move_to(cr, -back * extents.x_advance, 0);
  cairo_show_text(cr, copy.c_str());
  cairo_restore(cr);
}

void PngCanvas::begin_clip(Point corner, Point opposite) {
  cairo_save(impl_->at());
  cairo_rectangle(impl_->at(), corner.x, corner.y, opposite.x - corner.x, opposite.y - corner.y);
  cairo_clip(impl_->at());
}

void PngCanvas::end_clip() {
  cairo_restore(impl_->at());
}

std::string PngCanvas::finish() const {
  constexpr size_t kSignatureAndHeader = 8 + 25;
  check(cairo_status(impl_->at()), "drawing failed");
  std::string bytes;
  check(cairo_surface_write_to_png_stream(impl_->surface.get(), &write_piece, &bytes), "cannot be encoded");
  return bytes.insert(kSignatureAndHeader, text_chunk(kPngGeneratorTag));
}

}  // namespace tutti
