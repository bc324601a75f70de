#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tutti {

struct Point {
  double x = 0;
  double y = 0;
};

/// Colours by use. Each canvas has its own values, SVG for light and dark pages.
enum class Colour : uint8_t {
  kText,
  kMuted,  ///< axis labels
  kGrid,
  kFrame,
  kSeries0,  ///< and up to kSeries7: use series_colour()
  kSeries1,
  kSeries2,
  kSeries3,
  kSeries4,
  kSeries5,
  kSeries6,
  kSeries7,
  kWarning,
};
inline constexpr int kSeriesColours = 8;
/// The colour of curve `index`; colours repeat after kSeriesColours.
Colour series_colour(size_t index);

enum class Anchor : uint8_t { kStart, kMiddle, kEnd };

struct TextStyle {
  Colour colour = Colour::kText;
  double size = 12;
  Anchor anchor = Anchor::kStart;
  bool bold = false;
  bool upwards = false;  ///< rotated by 90 degrees counterclockwise
};

struct LineStyle {
  Colour colour = Colour::kText;
  double width = 1;
  double opacity = 1;
  bool dashed = false;
};

/// The interface for drawing plots, implemented for SVG and PNG. Lengths are in pixels, and y increases
/// downwards.
class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void line(std::span<const Point> points, const LineStyle& style) = 0;
  virtual void area(std::span<const Point> outline, Colour colour, double opacity) = 0;
  /// A disc with a tooltip, if the format supports it.
  virtual void dot(Point centre, double radius, Colour colour, std::string_view hint) = 0;
  /// `at` is on the base line.
  virtual void text(Point at, std::string_view text, const TextStyle& style) = 0;
  /// Clips everything until the matching end_clip() to this rectangle.
  virtual void begin_clip(Point corner, Point opposite) = 0;
  virtual void end_clip() = 0;
};

/// The approximate width of a text in pixels, for the space of labels.
double text_width(std::string_view text, double size);

/// Text near the beginning of each file of a report, by which `tutti report` identifies earlier output.
inline constexpr std::string_view kHtmlGeneratorTag = R"(<meta name="generator" content="tutti report">)";
inline constexpr std::string_view kSvgGeneratorTag = "<!-- generator: tutti report -->";
inline constexpr std::string_view kPngGeneratorTag{"Software\0tutti report", 21};

/// An SVG document without scripts or external references.
class SvgCanvas final : public Canvas {
 public:
  /// kInline: for an HTML page whose style includes svg_colours(). kStandAlone: a file with its own colours.
  enum class Kind : uint8_t { kInline, kStandAlone };
  /// `name` distinguishes its identifiers from those of other images on a page; `title` is for screen
  /// readers.
  SvgCanvas(double width, double height, Kind kind, std::string name, std::string_view title);
  void line(std::span<const Point> points, const LineStyle& style) override;
  void area(std::span<const Point> outline, Colour colour, double opacity) override;
  void dot(Point centre, double radius, Colour colour, std::string_view hint) override;
  void text(Point at, std::string_view text, const TextStyle& style) override;
  void begin_clip(Point corner, Point opposite) override;
  void end_clip() override;
  /// The document.
  [[nodiscard]] std::string finish() const { return body_ + "</svg>\n"; }

 private:
  std::string body_;
  std::string name_;
  int clips_ = 0;
};
/// CSS of all colours, light and dark.
std::string svg_colours();
/// The CSS class of a colour, for HTML outside plots.
std::string css_class(Colour colour);
/// Escapes text and attribute values for HTML and SVG: & < > " ' and control characters.
std::string escape_markup(std::string_view text);

/// An image in memory with a white background and two pixels per unit of length.
class PngCanvas final : public Canvas {
 public:
  PngCanvas(double width, double height);
  ~PngCanvas() override;
  void line(std::span<const Point> points, const LineStyle& style) override;
  void area(std::span<const Point> outline, Colour colour, double opacity) override;
  void dot(Point centre, double radius, Colour colour, std::string_view hint) override;
  void text(Point at, std::string_view text, const TextStyle& style) override;
  void begin_clip(Point corner, Point opposite) override;
  void end_clip() override;
  /// The bytes of the PNG file.
  [[nodiscard]] std::string finish() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Red, green and blue, 0 to 255, of a colour on a white or dark background.
enum class Background : uint8_t { kWhite, kDark };
std::array<int, 3> rgb_of(Colour colour, Background background);

}  // namespace tutti
