#pragma once

#include "launcher/run/run_settings.h"

namespace tutti {

/// Throws Error where model.weights is a checkpoint, or a file of one, whose run computed another function
/// than `settings` does, naming the keys and both values, or learnt ids of another tokenizer than that of the
/// data. What a checkpoint does not tell is not compared; neither are other files of weights, of which
/// load_weights() and check_tokenizer() know more.
void check_first_weights(const RunSettings& settings);

}  // namespace tutti
