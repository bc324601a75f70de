#include "kernels/cuda/conv.h"

#include "kernels/cuda/blas.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/sums.h"

namespace tutti::cuda {
namespace {

constexpr int64_t kMostPatchBytes = int64_t{256} << 20;

/// The patches of consecutive images and one group of channels: (images, oh, ow, kh, kw, channels).
struct Patches {
  int64_t h, w, c;  // of the images; c of all groups
  int64_t oh, ow, kh, kw;
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t images, first_channel, channels;

  [[nodiscard]] int64_t pixels() const { return images * oh * ow; }
  [[nodiscard]] int64_t patch() const { return kh * kw * channels; }
};

Patches patches_of(const ConvShape& s, int64_t images, int64_t group) {
  const int64_t channels = s.c / s.groups;
  return {s.h,          s.w,           s.c,           s.oh,        s.ow,
          s.kh,         s.kw,          s.stride[0],   s.stride[1], s.padding[0],
          s.padding[1], s.dilation[0], s.dilation[1], images,      group * channels,
          channels};
}

/// Writes element i of the patches. Memory traffic: 2 pixels patch sizeof(T), without the caches, which serve
/// most of the reads.
template <class T>
struct Im2col {
  Patches p;
  const T* x;
  T* out;
  __device__ void operator()(int64_t i) const {
    int64_t rest = i / p.channels;
    const int64_t channel = i % p.channels;
    const int64_t kx = rest % p.kw;
    rest /= p.kw;
    const int64_t ky = rest % p.kh;
    rest /= p.kh;
    const int64_t column = rest % p.ow * p.stride_w - p.pad_w + kx * p.dilation_w;
    rest /= p.ow;
    const int64_t row = rest % p.oh * p.stride_h - p.pad_h + ky * p.dilation_h;
    const int64_t image = rest / p.oh;
    const bool inside = row >= 0 && row < p.h && column >= 0 && column < p.w;
    out[i] = inside ? x[((image * p.h + row) * p.w + column) * p.c + p.first_channel + channel] : T(0.0F);
  }
};

/// The adjoint: the sum, for each element of the images, of its copies in the patches, in a fixed order.
template <class T>
struct Col2im {
  Patches p;
  const T* patches;
  T* dx;
  __device__ void operator()(int64_t i) const {
    using A = Accumulate<T>;
    const int64_t channel = i % p.channels;
    int64_t rest = i / p.channels;
    const int64_t column = rest % p.w;
    rest /= p.w;
    const int64_t row = rest % p.h;
    const int64_t image = rest / p.h;
    A sum = 0;
    for (int64_t ky = 0; ky < p.kh; ++ky) {
      const int64_t y = row + p.pad_h - ky * p.dilation_h;
      if (y < 0 || y % p.stride_h != 0 || y / p.stride_h >= p.oh) continue;
      for (int64_t kx = 0; kx < p.kw; ++kx) {
        const int64_t x = column + p.pad_w - kx * p.dilation_w;
        if (x < 0 || x % p.stride_w != 0 || x / p.stride_w >= p.ow) continue;
        const int64_t pixel = (image * p.oh + y / p.stride_h) * p.ow + x / p.stride_w;
        sum += A(patches[((pixel * p.kh + ky) * p.kw + kx) * p.channels + channel]);
      }
    }
    dx[((image * p.h + row) * p.w + column) * p.c + p.first_channel + channel] = T(sum);
  }
};

/// Calls f(patches, first image, group) for parts of the images whose patches fit into kMostPatchBytes.
template <class F>
void for_patches(const ConvShape& s, F f) {
  const int64_t image_bytes =
      std::max<int64_t>(1, s.oh * s.ow * s.kh * s.kw * (s.c / s.groups) * size_of(s.dtype));
  const int64_t run = std::clamp<int64_t>(kMostPatchBytes / image_bytes, 1, s.n);
  for (int64_t first = 0; first < s.n; first += run) {
    for (int64_t g = 0; g < s.groups; ++g) f(patches_of(s, std::min(run, s.n - first), g), first, g);
  }
}

std::byte* at(const Tensor& tensor, int64_t element) {
  return static_cast<std::byte*>(tensor.raw()) + element * size_of(tensor.dtype());
}

template <class T>
void im2col_as(const Patches& p, const void* x, const Tensor& out, const Stream& stream) {
  for_elements("im2col", p.pixels() * p.patch(), stream,
               Im2col<T>{p, static_cast<const T*>(x), out.data<T>()});
}

template <class T>
void col2im_as(const Patches& p, const Tensor& patches, void* dx, const Stream& stream) {
  for_elements("col2im", p.images * p.h * p.w * p.channels, stream,
               Col2im<T>{p, patches.data<T>(), static_cast<T*>(dx)});
}

Tensor im2col(const ConvShape& s, const Patches& p, const Tensor& x, int64_t first, const Stream& stream) {
  const Tensor out = Tensor::empty({p.pixels(), p.patch()}, s.dtype, stream);
  dispatch_compute(s.dtype, "conv2d", [&]<class T>(TypeTag<T>) {
    im2col_as<T>(p, at(x, first * s.h * s.w * s.c), out, stream);
  });
  return out;
}

class Im2colConv final : public ConvBackend {
 public:
  void forward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
               const Stream& stream) const override {
    const Tensor filters = to_ohwi(w, stream);
    const int64_t outputs = s.o / s.groups;
    for_patches(s, [&](const Patches& p, int64_t first, int64_t g) {
      const Tensor patches = im2col(s, p, x, first, stream);
      cuda::gemm({.m = p.pixels(),
                  .n = outputs,
                  .k = p.patch(),
                  .dtype = s.dtype,
                  .a = {patches.raw(), p.patch()},
                  .b = {at(filters, g * outputs * p.patch()), p.patch(), true},
                  .c = at(y, first * s.oh * s.ow * s.o + g * outputs),
                  .ldc = s.o,
                  .c_dtype = s.dtype},
                 stream);
    });
  }

  void backward_data(const ConvShape& s, const Tensor& dy, const Tensor& w, const Tensor& dx,
                     const Stream& stream) const override {
    const Tensor filters = to_ohwi(w, stream);
    const int64_t outputs = s.o / s.groups;
    for_patches(s, [&](const Patches& p, int64_t first, int64_t g) {
      const Tensor patches = Tensor::empty({p.pixels(), p.patch()}, s.dtype, stream);
      cuda::gemm({.m = p.pixels(),
                  .n = p.patch(),
                  .k = outputs,
                  .dtype = s.dtype,
                  .a = {at(dy, first * s.oh * s.ow * s.o + g * outputs), s.o},
                  .b = {at(filters, g * outputs * p.patch()), p.patch()},
                  .c = patches.raw(),
                  .ldc = p.patch(),
                  .c_dtype = s.dtype},
                 stream);
      dispatch_compute(s.dtype, "conv2d", [&]<class T>(TypeTag<T>) {
        col2im_as<T>(p, patches, at(dx, first * s.h * s.w * s.c), stream);
      });
    });
  }

  void backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        GradMode mode, const Stream& stream) const override {
    const Tensor sums = Tensor::empty({s.o, s.kh, s.kw, s.c / s.groups}, dw.dtype(), stream);
    const int64_t outputs = s.o / s.groups;
    for_patches(s, [&](const Patches& p, int64_t first, int64_t g) {
      const Tensor patches = im2col(s, p, x, first, stream);
      cuda::gemm({.m = outputs,
                  .n = p.patch(),
                  .k = p.pixels(),
                  .dtype = s.dtype,
                  .a = {at(dy, first * s.oh * s.ow * s.o + g * outputs), s.o, true},
                  .b = {patches.raw(), p.patch()},
                  .c = at(sums, g * outputs * p.patch()),
                  .ldc = p.patch(),
                  .c_dtype = sums.dtype(),
                  .accumulate = first > 0},
                 stream);
    });
    store(from_ohwi(sums), dw, mode, stream);
  }
};

}  // namespace

const ConvBackend& im2col_conv() {
  static const Im2colConv backend;
  return backend;
}

}  // namespace tutti::cuda
