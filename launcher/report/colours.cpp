#include "launcher/report/canvas.h"

#include <cstddef>

namespace tutti {
namespace {

struct Pair {
  std::array<int, 3> white;
  std::array<int, 3> dark;
};

// Series colours can be distinguished by people with colour blindness. Source: Okabe & Ito 2008, "Color
// universal design"; without yellow, and lighter on a dark background.
constexpr std::array<Pair, 13> kColours{{
    {{31, 35, 40}, {230, 233, 237}},     // text
    {{98, 106, 115}, {150, 158, 168}},   // muted
    {{228, 231, 235}, {52, 58, 66}},     // grid
    {{176, 183, 191}, {88, 96, 105}},    // frame
    {{0, 114, 178}, {86, 170, 230}},     // blue
    {{213, 94, 0}, {240, 140, 60}},      // vermilion
    {{0, 145, 105}, {60, 195, 155}},     // green
    {{170, 95, 150}, {220, 150, 200}},   // purple
    {{200, 140, 0}, {235, 185, 60}},     // orange
    {{60, 160, 210}, {150, 210, 245}},   // sky
    {{120, 110, 60}, {200, 190, 130}},   // olive
    {{110, 110, 120}, {185, 185, 195}},  // grey
    {{200, 30, 40}, {255, 110, 110}},    // warning
}};

}  // namespace

Colour series_colour(size_t index) {
  return static_cast<Colour>(static_cast<size_t>(Colour::kSeries0) + index % kSeriesColours);
}

std::array<int, 3> rgb_of(Colour colour, Background background) {
  const Pair& pair = kColours.at(static_cast<size_t>(colour));
  return background == Background::kWhite ? pair.white : pair.dark;
}

double text_width(std::string_view text, double size) {
  double ems = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0U) == 0x80U) continue;  // inside a character of UTF-8
    const bool narrow =
        c == '.' || c == ',' || c == ' ' || c == 'i' || c == 'l' || c == 'j' || c == ':' || c == '|';
    ems += narrow ? 0.34 : 0.62;
  }
  return ems * size;
}

}  // namespace tutti
