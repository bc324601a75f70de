#include <gtest/gtest.h>
#include <tutti/core/data/image/image.h>

#include <array>
#include <cmath>
#include <cstdio>  // jpeglib.h needs FILE

#include <jpeglib.h>

#include "tests/core/image_helpers.h"

namespace tutti {
namespace {

using test::bytes_of;
using test::draw;
using test::expect_error;
using test::png_bytes;
using test::random_image;

std::string jpeg_bytes(const Image& image) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = static_cast<int>(image.channels);
  info.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(image.pixels.data() +
                                     static_cast<int64_t>(info.next_scanline) * image.width * image.channels);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<char*>(out), size);
  std::free(out);
  jpeg_destroy_compress(&info);
  return bytes;
}

TEST(ImageFile, PngIsExact) {
  for (int round = 0; round < 20; ++round) {
    const auto height = static_cast<int64_t>(1 + draw(40));
    const auto width = static_cast<int64_t>(1 + draw(40));
    const Image rgb = random_image(height, width, 3);
    const Image back = decode_image(bytes_of(png_bytes(rgb, PNG_FORMAT_RGB)), 3, "rgb");
    EXPECT_EQ(back.height, height);
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.pixels, rgb.pixels);
    const Image mixed = decode_image(bytes_of(png_bytes(rgb, PNG_FORMAT_RGB)), 1, "rgb");
    for (size_t i = 0; i < mixed.pixels.size(); ++i) {
      const uint8_t* from = rgb.pixels.data() + 3 * i;
      ASSERT_NEAR(mixed.pixels[i], 0.299 * from[0] + 0.587 * from[1] + 0.114 * from[2], 0.51);
    }
    const Image grey = random_image(height, width, 1);
    const std::string file = png_bytes(grey, PNG_FORMAT_GRAY);
    EXPECT_EQ(decode_image(bytes_of(file), 1, "grey").pixels, grey.pixels);
    const Image both = decode_image(bytes_of(file), 3, "grey");
    for (size_t i = 0; i < grey.pixels.size(); ++i) ASSERT_EQ(both.pixels[3 * i + 1], grey.pixels[i]);
    // Transparent pixels keep their colours.
    const Image rgba = random_image(height, width, 4);
    const Image colours = decode_image(bytes_of(png_bytes(rgba, PNG_FORMAT_RGBA)), 3, "rgba");
    for (size_t i = 0; i < rgba.pixels.size() / 4; ++i) {
      for (size_t c = 0; c < 3; ++c) ASSERT_EQ(colours.pixels[3 * i + c], rgba.pixels[4 * i + c]);
    }
  }
}

TEST(ImageFile, JpegIsClose) {
  for (const int64_t channels : {1, 3}) {
    Image image = random_image(37, 51, channels);
    for (size_t i = 0; i < image.pixels.size(); ++i) {  // smooth, as JPEG likes it
      const double y = static_cast<double>(i / static_cast<size_t>(51 * channels));
      const double x = static_cast<double>(i / static_cast<size_t>(channels) % 51);
      image.pixels[i] = static_cast<uint8_t>(128 + 60 * std::sin(x / 20) + 50 * std::cos(y / 25));
    }
    const std::string file = jpeg_bytes(image);
    const Image back = decode_image(bytes_of(file), channels, "jpeg");
    ASSERT_EQ(back.pixels.size(), image.pixels.size());
    for (size_t i = 0; i < image.pixels.size(); ++i) EXPECT_NEAR(back.pixels[i], image.pixels[i], 6);
    EXPECT_EQ(decode_image(bytes_of(file), 4 - channels, "jpeg").pixels.size(),
              image.pixels.size() / static_cast<size_t>(channels) * static_cast<size_t>(4 - channels));
  }
}

/// A CMYK JPEG file as Adobe's programs write it: inverted, in the colour space CMYK or YCCK.
std::string ink_jpeg_bytes(const Image& inks, J_COLOR_SPACE space) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(inks.width);
  info.image_height = static_cast<JDIMENSION>(inks.height);
  info.input_components = 4;
  info.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, space);  // writes Adobe's marker
  jpeg_set_quality(&info, 100, TRUE);
  for (int c = 0; c < 4; ++c) info.comp_info[c].h_samp_factor = info.comp_info[c].v_samp_factor = 1;
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row =
        const_cast<JSAMPROW>(inks.pixels.data() + static_cast<int64_t>(info.next_scanline) * inks.width * 4);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<char*>(out), size);
  std::free(out);
  jpeg_destroy_compress(&info);
  return bytes;
}

TEST(ImageFile, CmykIsConvertedToRgb) {
  Image inks{8, 8, 4, {}};  // inverted: 255 means no ink
  const std::array<uint8_t, 4> ink{static_cast<uint8_t>(draw(256)), static_cast<uint8_t>(draw(256)),
                                   static_cast<uint8_t>(draw(256)), static_cast<uint8_t>(60 + draw(196))};
  for (int i = 0; i < 64; ++i) inks.pixels.insert(inks.pixels.end(), ink.begin(), ink.end());
  for (const J_COLOR_SPACE space : {JCS_CMYK, JCS_YCCK}) {
    const std::string file = ink_jpeg_bytes(inks, space);
    const Image rgb = decode_image(bytes_of(file), 3, "inks.jpg");
    const Image grey = decode_image(bytes_of(file), 1, "inks.jpg");
    for (size_t i = 0; i < 64; ++i) {
      double mixed = 0;
      for (size_t c = 0; c < 3; ++c) {
        const double expected = ink[c] * ink[3] / 255.0;
        ASSERT_NEAR(rgb.pixels[3 * i + c], expected, 3);
        mixed += std::array{0.299, 0.587, 0.114}[c] * expected;
      }
      ASSERT_NEAR(grey.pixels[i], mixed, 3);
    }
  }
}

/// EXIF data with an orientation in either byte order, between other entries.
std::string exif(int orientation, bool big_endian) {
  std::string data = big_endian ? "MM" : "II";
  const auto number = [&](uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i)
      data += static_cast<char>(value >> 8 * (big_endian ? bytes - 1 - i : i) & 0xff);
  };
  number(42, 2), number(8, 4), number(3, 2);
  number(0x0100, 2), number(4, 2), number(1, 4), number(77, 4);
  number(0x0112, 2), number(3, 2), number(1, 4), number(static_cast<uint32_t>(orientation), 2), number(0, 2);
  number(0x0131, 2), number(2, 2), number(4, 4), data += std::string("abc\0", 4);
  number(0, 4);
  return data;
}

std::string with_exif(const std::string& jpeg, const std::string& data) {
  const size_t length = data.size() + 8;
  return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) + static_cast<char>(length & 0xff) +
         std::string("Exif\0\0", 6) + data + jpeg.substr(2);
}

TEST(ImageFile, ExifOrientationIsApplied) {
  // The position in the file of pixel (row, column) of the upright image, by the specification's table.
  using Place = std::pair<int64_t, int64_t>;
  const auto stored = [](int orientation, int64_t y, int64_t x, int64_t height, int64_t width) -> Place {
    switch (orientation) {  // height and width in the file
      case 2:
        return {y, width - 1 - x};
      case 3:
        return {height - 1 - y, width - 1 - x};
      case 4:
        return {height - 1 - y, x};
      case 5:
        return {x, y};
      case 6:
        return {height - 1 - x, y};
      case 7:
        return {height - 1 - x, width - 1 - y};
      case 8:
        return {x, width - 1 - y};
      default:
        return {y, x};
    }
  };
  const std::string plain = jpeg_bytes(random_image(7, 10, 3));
  const Image as_is = decode_image(bytes_of(plain), 3, "plain.jpg");
  for (int orientation = 0; orientation <= 9; ++orientation) {
    const std::string file = with_exif(plain, exif(orientation, draw(2) == 0));
    const Image image = decode_image(bytes_of(file), 3, "turned.jpg");
    const bool swapped = orientation >= 5 && orientation <= 8;
    ASSERT_EQ(image.height, swapped ? 10 : 7);
    ASSERT_EQ(image.width, swapped ? 7 : 10);
    for (int64_t y = 0; y < image.height; ++y) {
      for (int64_t x = 0; x < image.width; ++x) {
        const auto [v, u] = stored(orientation, y, x, 7, 10);
        for (int64_t c = 0; c < 3; ++c)
          ASSERT_EQ(image.pixels[static_cast<size_t>((y * image.width + x) * 3 + c)],
                    as_is.pixels[static_cast<size_t>((v * 10 + u) * 3 + c)])
              << "orientation " << orientation;
      }
    }
  }
  // With damaged EXIF data an image is not rotated.
  const std::string whole = exif(6, true);
  for (size_t n = 0; n < whole.size(); ++n) {
    std::string bad = n < 30 ? whole.substr(0, n) : whole;
    if (n >= 30) bad[4 + draw(6)] = static_cast<char>(draw(256));
    const Image image = decode_image(bytes_of(with_exif(plain, bad)), 3, "turned.jpg");
    EXPECT_EQ(image.pixels.size(), 210U);
  }
}

TEST(ImageFile, TruncatedOrDamagedFilesAreRefused) {
  const Image image = random_image(23, 17, 3);
  const std::string png = png_bytes(image, PNG_FORMAT_RGB);
  const std::string jpeg = jpeg_bytes(image);
  for (size_t n = 0; n + 12 < png.size(); n += 1 + draw(7)) {  // the last 12 bytes are an empty end mark
    expect_error([&] { (void)decode_image(bytes_of(png.substr(0, n)), 3, "some.png"); }, "some.png");
  }
  for (size_t n = 0; n + 2 < jpeg.size(); n += 1 + draw(7)) {
    expect_error([&] { (void)decode_image(bytes_of(jpeg.substr(0, n)), 3, "some.jpg"); }, "some.jpg");
  }
  expect_error([&] { (void)decode_image(bytes_of(std::string("GIF89a..")), 3, "x.png"); },
               "not a JPEG, PNG or WebP file but a GIF file");
  expect_error([&] { (void)decode_image(bytes_of(jpeg), 2, "x.png"); }, "2 channels");
  for (int round = 0; round < 400; ++round) {
    std::string bad = round % 2 == 0 ? png : jpeg;
    for (size_t n = 1 + draw(3); n > 0; --n) bad[draw(bad.size())] = static_cast<char>(draw(128));
    try {
      const Image got = decode_image(bytes_of(bad), 3, "bad");
      EXPECT_EQ(static_cast<int64_t>(got.pixels.size()), got.height * got.width * 3);
    } catch (const Error&) {  // the only exception that is allowed
    }
  }
}

}  // namespace
}  // namespace tutti
