#pragma once

#include <tutti/kernels/cross_entropy.h>

namespace tutti::cases {

/// Options of a cross entropy, and the share of its rows with the ignored target.
struct CrossEntropySetting {
  CrossEntropyOptions options;
  double ignored;
};

inline const CrossEntropySetting kCrossEntropySettings[] = {
    {{}, 0},
    {{.ignore_index = -1, .label_smoothing = 0.1, .scale = 0.25}, 0.3},
    {{.ignore_index = 2, .label_smoothing = 0, .scale = 3}, 0},
    {{.ignore_index = -100, .label_smoothing = 0.3, .scale = 1}, 0.5},
    {{}, 1},
};

}  // namespace tutti::cases
