#include "launcher/report/canvas.h"

#include <fmt/format.h>

#include <iterator>

namespace tutti {
namespace {

constexpr std::string_view kFont = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/// Two decimals: the error is below a hundredth of a pixel, and files are short.
std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string path_data(std::span<const Point> points) {
  std::string path;
  for (const Point& point : points) {
    fmt::format_to(std::back_inserter(path), "{}{} {}", path.empty() ? "M" : "L", number(point.x),
                   number(point.y));
  }
  return path;
}

std::string opacity_attribute(const char* name, double opacity) {
  return opacity < 1 ? fmt::format(" {}=\"{}\"", name, number(opacity)) : "";
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // XML cannot represent other control characters.
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
          out += "\xef\xbf\xbd";
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string css_class(Colour colour) {
  return fmt::format("colour{}", static_cast<int>(colour));
}

std::string svg_colours() {
  std::string light;
  std::string dark;
  std::string classes;
  for (int i = 0; i <= static_cast<int>(Colour::kWarning); ++i) {
    const auto colour = static_cast<Colour>(i);
    const auto [r, g, b] = rgb_of(colour, Background::kWhite);
    const auto [dr, dg, db] = rgb_of(colour, Background::kDark);
    light += fmt::format("--colour{}:rgb({},{},{});", i, r, g, b);
    dark += fmt::format("--colour{}:rgb({},{},{});", i, dr, dg, db);
    classes += fmt::format(
        ".s-colour{0}{{stroke:var(--colour{0});fill:none}}.f-colour{0}{{fill:var(--colour{0})}}\n", i);
  }
  return fmt::format(
      ":root{{color-scheme:light dark;{}}}\n@media(prefers-color-scheme:dark){{:root{{{}}}}}\n{}", light,
      dark, classes);
}

SvgCanvas::SvgCanvas(double width, double height, Kind kind, std::string name, std::string_view title)
    : name_(std::move(name)) {
  body_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\"{2} role=\"img\" "
      "font-family=\"{3}\">\n"
      "<title>{4}</title>\n",
      number(width), number(height),
      kind == Kind::kStandAlone ? fmt::format(" width=\"{}\" height=\"{}\"", number(width), number(height))
                                : "",
      kFont, escape_markup(title));
  if (kind == Kind::kStandAlone) {
    body_ += fmt::format(
        "{}\n<style>\n{}.paper{{fill:white}}@media(prefers-color-scheme:dark){{.paper{{fill:rgb(22,26,31)}}}}"
        "\n</"
        "style>\n"
        "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
        kSvgGeneratorTag, svg_colours());
  }
}

void SvgCanvas::line(std::span<const Point> points, const LineStyle& style) {
  if (points.size() < 2) return;
  body_ += fmt::format("<path class=\"s-{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{}{} d=\"{}\"/>\n",
                       css_class(style.colour), number(style.width),
                       opacity_attribute("stroke-opacity", style.opacity),
                       style.dashed ? " stroke-dasharray=\"4 4\"" : "", path_data(points));
}

void SvgCanvas::area(std::span<const Point> outline, Colour colour, double opacity) {
  if (outline.size() < 3) return;
  body_ += fmt::format("<path class=\"f-{}\"{} d=\"{}Z\"/>\n", css_class(colour),
                       opacity_attribute("fill-opacity", opacity), path_data(outline));
}

void SvgCanvas::dot(Point centre, double radius, Colour colour, std::string_view hint) {
  body_ += fmt::format("<circle class=\"f-{}\" cx=\"{}\" cy=\"{}\" r=\"{}\">", css_class(colour),
                       number(centre.x), number(centre.y), number(radius));
  if (!hint.empty()) body_ += fmt::format("<title>{}</title>", escape_markup(hint));
  body_ += "</circle>\n";
}

void SvgCanvas::text(Point at, std::string_view text, const TextStyle& style) {
  const std::string_view anchor = style.anchor == Anchor::kStart    ? ""
                                  : style.anchor == Anchor::kMiddle ? " text-anchor=\"middle\""
                                                                    : " text-anchor=\"end\"";
  body_ += fmt::format(
      "<text class=\"f-{}\" x=\"{}\" y=\"{}\" font-size=\"{}\"{}{}{}>{}</text>\n", css_class(style.colour),
      number(at.x), number(at.y), number(style.size), anchor, style.bold ? " font-weight=\"600\"" : "",
      style.upwards ? fmt::format(" transform=\"rotate(-90 {} {})\"", number(at.x), number(at.y)) : "",
      escape_markup(text));
}

void SvgCanvas::begin_clip(Point corner, Point opposite) {
  const std::string id = fmt::format("{}-clip{}", name_, clips_++);
  body_ += fmt::format(
      "<clipPath id=\"{0}\"><rect x=\"{1}\" y=\"{2}\" width=\"{3}\" height=\"{4}\"/></clipPath>\n"
      "<g clip-path=\"url(#{0})\">\n",
      id, number(corner.x), number(corner.y), number(opposite.x - corner.x), number(opposite.y - corner.y));
}

void SvgCanvas::end_clip() {
  body_ += "</g>\n";
}

}  // namespace tutti
