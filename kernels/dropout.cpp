#include <tutti/kernels/dropout.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gradient.h"
#include "kernels/row/dropout.h"

#include <cmath>

namespace tutti {
namespace {

/// to = from with the mask of (context, site) applied; `to` may be `from`.
void apply(const Tensor& from, const Tensor& to, double p, uint64_t site, const StepContext& context,
           const Stream& stream) {
  const int64_t per_sample = from.numel() / context.samples;
  // Each task has whole blocks of four elements, so that each block of random words is computed once.
  const int64_t chunks = (per_sample + kElementsPerTask - 1) / kElementsPerTask;
  const row::DropoutRule rule{.threshold = static_cast<uint32_t>(std::ceil(p * 0x1.0p24)),
                              .scale = static_cast<float>(1 / (1 - p))};
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      const RandomKey first{.seed = context.seed,
                            .tensor = site,
                            .step = context.step,
                            .sample = static_cast<uint64_t>(context.first_sample)};
      return cuda::dropout(from, to, first, context.samples, rule, stream);
    }
  }
  dispatch_compute(from.dtype(), "dropout", [&]<class T>(TypeTag<T>) {
    const T* x = from.data<T>();
    T* y = to.data<T>();
    for_ranges(stream, context.samples * chunks, rows_per_task(std::min(per_sample, kElementsPerTask)),
               [=](int64_t begin, int64_t end) {
                 SerialTeam team;
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t sample = task / chunks;
                   const int64_t start = task % chunks * kElementsPerTask;
                   const RandomKey key{.seed = context.seed,
                                       .tensor = site,
                                       .step = context.step,
                                       .sample = static_cast<uint64_t>(context.first_sample + sample)};
                   const int64_t at = sample * per_sample + start;
                   row::dropout(team, x + at, y + at, std::min(kElementsPerTask, per_sample - start),
                                static_cast<uint64_t>(start) / 4, key, rule);
                 }
               });
  });
}

}  // namespace

Var dropout(Tape& tape, const Var& x, double p, uint64_t site) {
  require(p >= 0 && p < 1, "dropout: probability {} is outside [0, 1)", p);
  const StepContext& context = tape.context();
  if (p == 0 || !context.training) return x;
  require(context.samples >= 1 && x.value.numel() % context.samples == 0,
          "dropout: x {} has {} elements, not a multiple of {} samples", to_string(x.shape()),
          x.value.numel(), context.samples);
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const Tensor out = Tensor::empty(in.shape(), in.dtype(), stream);
  apply(in, out, p, site, context, stream);
  return tape.record("dropout", out, {x}, [=](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = reuse_or_empty(dy, stream);
    apply(dy, dx, p, site, context, stream);
    gradients.add(0, dx);
  });
}

}  // namespace tutti
