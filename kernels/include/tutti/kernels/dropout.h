#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// Sets each element to 0 with probability `p` and multiplies the others by 1 / (1 - p); the identity for p =
/// 0 and outside training. x (samples * k elements) -> like x, where samples is tape.context().samples and
/// each sample is k consecutive elements. Whether an element is set to 0 depends only on (seed, site, step,
/// context.first_sample + sample, element in the sample); backward recomputes it, nothing is saved. `site`
/// identifies the call (Module::random_stream). Throws Error if p is outside [0, 1) or the number of elements
/// is not a multiple of samples. Source: Srivastava et al. 2014, "Dropout".
Var dropout(Tape& tape, const Var& x, double p, uint64_t site);

}  // namespace tutti
