#include "kernels/cpu/blas.h"
#include "kernels/cpu/conv_backends.h"
#include "kernels/cpu/sums.h"

#include <algorithm>

namespace tutti::cpu {
namespace {

/// Calls f(tap, offset in the image or -1 for padding) for each tap of the patch of an output pixel; a tap
/// has c / groups channels.
template <class F>
void for_each_tap(const ConvShape& s, int64_t oy, int64_t ox, F f) {
  int64_t tap = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    for (int64_t kx = 0; kx < s.kw; ++kx, ++tap) {
      const int64_t y = oy * s.stride[0] - s.padding[0] + ky * s.dilation[0];
      const int64_t x = ox * s.stride[1] - s.padding[1] + kx * s.dilation[1];
      f(tap, y >= 0 && y < s.h && x >= 0 && x < s.w ? (y * s.w + x) * s.c : -1);
    }
  }
}

/// Filters as (o, kh, kw, c / groups), the order of patches.
Tensor taps_first(const Tensor& w, const Stream& stream) {
  return w.permute({0, 2, 3, 1}).to_contiguous(stream);
}

template <class T>
class Im2col {
 public:
  using A = Accumulate<T>;
  Im2col(const ConvShape& shape, const Stream& stream) : s_(shape), stream_(stream) {}

  [[nodiscard]] int64_t channels() const { return s_.c / s_.groups; }
  [[nodiscard]] int64_t outputs() const { return s_.o / s_.groups; }
  [[nodiscard]] int64_t pixels() const { return s_.oh * s_.ow; }
  [[nodiscard]] int64_t patch() const { return s_.kh * s_.kw * channels(); }

  /// Writes the patches (pixels, patch) of one image and group.
  void im2col(const T* image, int64_t group, T* patches) const {
    const int64_t c = channels();
    for (int64_t p = 0; p < pixels(); ++p) {
      for_each_tap(s_, p / s_.ow, p % s_.ow, [&](int64_t tap, int64_t at) {
        T* const to = patches + p * patch() + tap * c;
        if (at < 0)
          std::fill_n(to, c, T(0.0F));
        else
          std::copy_n(image + at + group * c, c, to);
      });
    }
  }

  /// Adds the elements of patches (pixels, patch) to the elements of the image that im2col() copies them
  /// from.
  void col2im(const A* patches, int64_t group, A* image) const {
    const int64_t c = channels();
    for (int64_t p = 0; p < pixels(); ++p) {
      for_each_tap(s_, p / s_.ow, p % s_.ow, [&](int64_t tap, int64_t at) {
        if (at < 0) return;
        for (int64_t i = 0; i < c; ++i) image[at + group * c + i] += patches[p * patch() + tap * c + i];
      });
    }
  }

  void forward(const Tensor& x, const Tensor& w, const Tensor& y) const {
    const Tensor filters = taps_first(w, stream_);
    stream_.pool().parallel_for(s_.n, [&](int64_t n) {
      const Tensor patches = Tensor::empty({pixels(), patch()}, dtype_of<T>(), stream_);
      for (int64_t g = 0; g < s_.groups; ++g) {
        im2col(x.data<T>() + n * s_.h * s_.w * s_.c, g, patches.data<T>());
        gemm_tile({.m = pixels(),
                   .n = outputs(),
                   .k = patch(),
                   .dtype = dtype_of<T>(),
                   .a = {patches.raw(), patch()},
                   .b = {filters.data<T>() + g * outputs() * patch(), patch(), true},
                   .c = y.data<T>() + n * pixels() * s_.o + g * outputs(),
                   .ldc = s_.o,
                   .c_dtype = dtype_of<T>()});
      }
    });
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx) const {
    const Tensor filters = taps_first(w, stream_);
    stream_.pool().parallel_for(s_.n, [&](int64_t n) {
      const Tensor patches = Tensor::empty({pixels(), patch()}, dtype_of<A>(), stream_);
      const Tensor image = Tensor::zeros({s_.h * s_.w * s_.c}, dtype_of<A>(), stream_);
      for (int64_t g = 0; g < s_.groups; ++g) {
        gemm_tile({.m = pixels(),
                   .n = patch(),
                   .k = outputs(),
                   .dtype = dtype_of<T>(),
                   .a = {dy.data<T>() + n * pixels() * s_.o + g * outputs(), s_.o},
                   .b = {filters.data<T>() + g * outputs() * patch(), patch()},
                   .c = patches.raw(),
                   .ldc = patch(),
                   .c_dtype = dtype_of<A>()});
        col2im(patches.data<A>(), g, image.data<A>());
      }
      copy(dx.select(0, n).view(image.shape()), image, stream_);
    });
  }

  void backward_weights(const Tensor& dy, const Tensor& x, const Tensor& dw, GradMode mode) const {
    const int64_t chunks = conv_weight_chunks(s_);
    const Tensor partial = Tensor::zeros({chunks, s_.o * patch()}, dtype_of<A>(), stream_);
    stream_.pool().parallel_for(chunks, [&](int64_t chunk) {
      const Tensor patches = Tensor::empty({pixels(), patch()}, dtype_of<T>(), stream_);
      for (int64_t n = chunk * s_.n / chunks; n < (chunk + 1) * s_.n / chunks; ++n) {
        for (int64_t g = 0; g < s_.groups; ++g) {
          im2col(x.data<T>() + n * s_.h * s_.w * s_.c, g, patches.data<T>());
          gemm_tile({.m = outputs(),
                     .n = patch(),
                     .k = pixels(),
                     .dtype = dtype_of<T>(),
                     .a = {dy.data<T>() + n * pixels() * s_.o + g * outputs(), s_.o, true},
                     .b = {patches.raw(), patch()},
                     .c = partial.data<A>() + (chunk * s_.o + g * outputs()) * patch(),
                     .ldc = patch(),
                     .c_dtype = dtype_of<A>(),
                     .accumulate = true});
        }
      }
    });
    tutti::add_chunks(partial, stream_);
    taps_last(partial.data<A>(), dw.data<A>(), mode);
  }

  void product_backward_weights(const Tensor& dy, const Tensor& x, const Tensor& dw, GradMode mode) const {
    const Tensor patches = Tensor::empty({s_.n * pixels(), patch()}, dtype_of<T>(), stream_);
    stream_.pool().parallel_for(s_.n, [&](int64_t n) {
      im2col(x.data<T>() + n * s_.h * s_.w * s_.c, 0, patches.data<T>() + n * pixels() * patch());
    });
    const Tensor sums = Tensor::empty({s_.o, patch()}, dtype_of<A>(), stream_);
    gemm({.m = s_.o,
          .n = patch(),
          .k = s_.n * pixels(),
          .dtype = dtype_of<T>(),
          .a = {dy.raw(), s_.o, true},
          .b = {patches.raw(), patch()},
          .c = sums.raw(),
          .ldc = patch(),
          .c_dtype = dtype_of<A>()},
         stream_);
    taps_last(sums.data<A>(), dw.data<A>(), mode);
  }

 private:
  /// dw (o, c / groups, kh, kw) = or += sums (o, kh, kw, c / groups).
  void taps_last(const A* sums, A* dw, GradMode mode) const {
    const int64_t c = channels();
    const int64_t taps = s_.kh * s_.kw;
    const bool adds = mode == GradMode::kAccumulate;
    stream_.pool().parallel_for(s_.o, [&](int64_t o) {
      const A* const from = sums + o * patch();
      A* const to = dw + o * patch();
      for (int64_t i = 0; i < c; ++i) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          A& out = to[i * taps + tap];
          out = adds ? out + from[tap * c + i] : from[tap * c + i];
        }
      }
    });
  }

  const ConvShape& s_;
  const Stream& stream_;
};

class Im2colConv final : public ConvBackend {
 public:
  void forward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
               const Stream& stream) const override {
    dispatch_compute(s.dtype, "conv2d", [&]<class T>(TypeTag<T>) { Im2col<T>(s, stream).forward(x, w, y); });
  }
  void backward_data(const ConvShape& s, const Tensor& dy, const Tensor& w, const Tensor& dx,
                     const Stream& stream) const override {
    dispatch_compute(s.dtype, "conv2d",
                     [&]<class T>(TypeTag<T>) { Im2col<T>(s, stream).backward_data(dy, w, dx); });
  }
  void backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        GradMode mode, const Stream& stream) const override {
    dispatch_compute(s.dtype, "conv2d",
                     [&]<class T>(TypeTag<T>) { Im2col<T>(s, stream).backward_weights(dy, x, dw, mode); });
  }
};

}  // namespace

void product_backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                              GradMode mode, const Stream& stream) {
  dispatch_compute(s.dtype, "conv2d", [&]<class T>(TypeTag<T>) {
    Im2col<T>(s, stream).product_backward_weights(dy, x, dw, mode);
  });
}

const ConvBackend& im2col_conv() {
  static const Im2colConv backend;
  return backend;
}

}  // namespace tutti::cpu
