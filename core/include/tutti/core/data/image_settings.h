#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <vector>

namespace tutti {

/// Conversion of pixels to inputs.
struct ImageConfig {
  int64_t crop_padding = 0;  ///< training: black border to crop from, in pixels
  bool flip = false;         ///< training: mirrors half of the images, left to right
  std::vector<double> mean;  ///< of pixels in [0, 1]: one for all channels, or one per channel
  std::vector<double> deviation;

  void describe(Fields& f);
};

struct ImageFolderConfig {
  int64_t size = 224;  ///< height and width of the samples
  int64_t resize = 0;  ///< shorter side before the centre crop; 0: `size`
  int64_t channels = 3;
  double crop_area = 1;  ///< training: minimum fraction of the picture in a random crop; 1: no random crops

  void describe(Fields& f);
};

}  // namespace tutti
