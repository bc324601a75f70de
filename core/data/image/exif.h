#pragma once

#include <cstddef>
#include <span>

namespace tutti {

/// The EXIF data (a TIFF header and its directories) of a JPEG, PNG or WebP file: the first APP1 segment,
/// eXIf chunk or EXIF chunk; empty if there is none.
/// Sources: CIPA DC-008 (Exif 2.32), section 4.5; the PNG specification's extensions; RFC 9649 for WebP.
std::span<const std::byte> find_exif(std::span<const std::byte> file);

/// The orientation, 1 to 8, in the first directory of EXIF data (tag 0x0112): how a viewer rotates the image.
/// 1 (no rotation) if it is absent or the data is damaged.
int exif_orientation(std::span<const std::byte> exif);

}  // namespace tutti
