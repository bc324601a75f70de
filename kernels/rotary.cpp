#include <tutti/kernels/rotary.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/rotary.h"
#include "kernels/gradient.h"

#include <cmath>

namespace tutti {
namespace {

/// Rotates `rotated` heads of `head_dim` in each row of x and copies the rest; direction -1 is the inverse.
template <class T>
void rotate_on_cpu(const Tensor& x, const Tensor& y, int64_t rotated, int64_t head_dim,
                   const RotaryConfig& config, double direction, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t positions = x.size(1);
  const int64_t width = x.size(2);
  const int64_t half = head_dim / 2;
  const Tensor table = Tensor::empty({positions, 2, half}, dtype_of<A>(), stream);
  A* const angles = table.data<A>();
  const double amplitude = config.scaling.amplitude();
  for (int64_t t = 0; t < positions; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(config.first_position + t) *
                           row::rotary_frequency(config.scaling, config.base, i, head_dim);
      angles[t * head_dim + i] = static_cast<A>(amplitude * std::cos(angle));
      angles[t * head_dim + half + i] = static_cast<A>(amplitude * direction * std::sin(angle));
    }
  }
  const T* const from = x.data<T>();
  T* const to = y.data<T>();
  for_ranges(stream, x.size(0) * positions, rows_per_task(width), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const A* const cosine = angles + row % positions * head_dim;
      const A* const sine = cosine + half;
      for (int64_t head = 0; head < rotated; ++head) {
        const T* const a = from + row * width + head * head_dim;
        T* const out = to + row * width + head * head_dim;
        INDEPENDENT_LOOP
        for (int64_t i = 0; i < half; ++i) {
          const auto p = static_cast<A>(a[i]);
          const auto q = static_cast<A>(a[half + i]);
          out[i] = T(p * cosine[i] - q * sine[i]);
          out[half + i] = T(q * cosine[i] + p * sine[i]);
        }
      }
      if (from == to) continue;
      for (int64_t i = rotated * head_dim; i < width; ++i) to[row * width + i] = from[row * width + i];
    }
  });
}

void rotate(const Tensor& x, const Tensor& y, int64_t rotated, int64_t head_dim, const RotaryConfig& config,
            double direction, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      return cuda::rotate(x, y,
                          {.rotated = rotated,
                           .head_dim = head_dim,
                           .base = config.base,
                           .scaling = config.scaling,
                           .first_position = config.first_position,
                           .direction = direction},
                          stream);
    }
  }
  dispatch_compute(x.dtype(), "rotary", [&]<class T>(TypeTag<T>) {
    rotate_on_cpu<T>(x, y, rotated, head_dim, config, direction, stream);
  });
}

}  // namespace

Var rotary(Tape& tape, const Var& qkv, const RotaryConfig& config) {
  const Stream& stream = tape.stream();
  require(qkv.value.defined() && qkv.value.dims() == 3,
          "rotary: needs qkv (B, T, (heads + 2 kv_heads) * D), got {}", to_string(qkv.shape()));
  const int64_t parts = config.heads + 2 * config.kv_heads;
  require(config.heads >= 1 && config.kv_heads >= 1 && qkv.value.size(2) > 0 &&
              qkv.value.size(2) % (2 * parts) == 0,
          "rotary: the last dim of {} is not {} query and 2 x {} key and value heads of an even size",
          to_string(qkv.shape()), config.heads, config.kv_heads);
  require(config.base > 0 && config.first_position >= 0, "rotary: base {} and first position {}", config.base,
          config.first_position);
  require(config.scaling.kind == RotaryScaling::Kind::kNone ||
              (config.scaling.factor > 0 &&
               (config.scaling.kind == RotaryScaling::Kind::kLinear || config.scaling.original_context > 0)),
          "rotary: scaling factor {} and (unless scaling is linear) original context {} must be positive",
          config.scaling.factor, config.scaling.original_context);
  const Tensor in = qkv.value.to_contiguous(stream);
  const Tensor out = Tensor::empty(in.shape(), in.dtype(), stream);
  const int64_t rotated = config.heads + config.kv_heads;
  const int64_t head_dim = in.size(2) / parts;
  rotate(in, out, rotated, head_dim, config, 1, stream);
  return tape.record("rotary", out, {qkv},
                     [rotated, head_dim, config, stream](const Tensor& dy, const Gradients& gradients) {
                       const Tensor dx = reuse_or_empty(dy, stream);
                       rotate(dy, dx, rotated, head_dim, config, -1, stream);
                       gradients.add(0, dx);
                     });
}

}  // namespace tutti
