#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// Sets each element to 0 with probability `p` and multiplies the others by 1 / (1 - p); the identity for p =
/// 0 and outside training. x (samples * k elements) -> like x, where samples is tape.context().samples and
/// x's first elements belong to its first sample. Whether an element survives depends on (seed, site, step,
/// context.first_sample + sample, element in the sample) alone; backward computes that again, nothing is
/// saved. `site` tells this call from others (Module::random_stream). Throws Error if p is outside [0, 1) or
/// x does not divide among the samples. Source: Srivastava et al. 2014, "Dropout".
Var dropout(Tape& tape, const Var& x, double p, uint64_t site);

}  // namespace tutti
