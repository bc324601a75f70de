#pragma once

#include "launcher/run/run_settings.h"

namespace tutti {

/// Throws Error if model.weights is a checkpoint, or a file of one, whose run computed another function than
/// `settings`, naming the keys and both values, or was trained with another tokenizer than that of the data.
/// Values missing in a checkpoint are not compared; other weight files are checked by load_weights() and
/// check_tokenizer().
void check_initial_weights(const RunSettings& settings);

}  // namespace tutti
