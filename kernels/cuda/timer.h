#pragma once

#include "core/cuda/runtime.h"

#include <memory>

namespace tutti::cuda {

/// Whether a graph is being captured from the stream; launched kernels then do not run.
bool capturing(const Stream& stream);

/// Measures work on a stream by events. Synchronizes with the device: for autotuning, not for steps.
class Timer {
 public:
  Timer();
  /// The mean time of `repeats` calls of `work`, which submits to the stream. Waits for earlier work of the
  /// stream before the first call. Throws what `work` throws.
  template <class Work>
  float milliseconds(const Stream& stream, int repeats, Work&& work) const {
    begin(stream);
    for (int i = 0; i < repeats; ++i) work();
    return end(stream) / static_cast<float>(repeats);
  }

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const noexcept { (void)cudaEventDestroy(event); }
  };
  using Owned = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy>;
  static Owned make();
  void begin(const Stream& stream) const;
  [[nodiscard]] float end(const Stream& stream) const;

  Owned start_, stop_;
};

}  // namespace tutti::cuda
