#include <tutti/core/parameter.h>

#include <array>

namespace tutti {

std::string_view name(Role role) {
  constexpr std::array kNames{"weight", "bias", "norm", "embedding", "head", "statistic"};
  return kNames.at(static_cast<size_t>(role));
}

Shape Parameter::padded_shape() const {
  Shape padded = shape;
  if (padding > 0) padded.at(0) += padding;
  return padded;
}

void initialise(const Parameter& parameter, const Tensor& destination, uint64_t seed, const Stream& stream) {
  require(destination.shape() == parameter.shape && destination.contiguous(),
          "initialise: parameter '{}' has shape {}, its storage {}", parameter.name,
          to_string(parameter.shape), to_string(destination.shape()));
  if (parameter.init.kind == Init::Kind::kConstant) {
    fill(destination, parameter.init.value, stream);
    return;
  }
  if (destination.device().type != DeviceType::kCpu) {
    // Drawn on the CPU, so that a model starts from the same bits on every device.
    ThreadPool one_thread(1);
    const Stream host = Stream::inline_on(one_thread);
    const Tensor drawn = Tensor::empty(destination.shape(), destination.dtype(), host);
    initialise(parameter, drawn, seed, host);
    copy(destination, drawn, stream);
    return;
  }
  const RandomKey key{.seed = seed, .tensor = stable_hash(parameter.name)};
  const double scale = parameter.init.value;
  const bool is_normal = parameter.init.kind == Init::Kind::kNormal;
  const int64_t n = destination.numel();
  dispatch_all(destination.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (!std::is_integral_v<T>) {
      T* out = destination.data<T>();
      stream.pool().parallel_ranges((n + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
          const auto w = key.words(static_cast<uint64_t>(block));
          std::array<float, 4> x{};
          if (is_normal) {
            const auto a = normal_pair(w[0], w[1]);
            const auto b = normal_pair(w[2], w[3]);
            x = {a[0], a[1], b[0], b[1]};
          } else {
            for (size_t i = 0; i < 4; ++i) x[i] = 2 * uniform(w[i]) - 1;
          }
          for (int64_t i = block * 4; i < std::min(n, block * 4 + 4); ++i) {
            // Rounded to fp32 first, so that a bf16 or fp64 copy of the model starts from the same numbers.
            out[i] = T(static_cast<float>(x[static_cast<size_t>(i - block * 4)] * scale));
          }
        }
      });
    } else {
      fail("initialise: parameter '{}' needs a floating dtype", parameter.name);
    }
  });
}

}  // namespace tutti
