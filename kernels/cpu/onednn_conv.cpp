#include "kernels/cpu/blas.h"
#include "kernels/cpu/conv_backends.h"

#if defined(TUTTI_WITH_ONEDNN)

#  include "kernels/cpu/onednn.h"
#  include "kernels/sums.h"

#  include <algorithm>
#  include <unordered_map>
#  include <vector>

namespace tutti::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

enum class Pass : uint8_t { kForward, kData, kWeights };

/// The primitive of one pass, and the layouts that it prefers.
struct Convolution {
  dnnl::primitive primitive;
  memory::desc source, filters, result, scratchpad;
  memory::desc plain_source, plain_result;  // the caller's layouts of source and result: NHWC
};

struct ConvolutionKey {
  std::vector<int64_t> values;
  bool operator==(const ConvolutionKey&) const = default;
};
struct ConvolutionKeyHash {
  size_t operator()(const ConvolutionKey& key) const noexcept {
    uint64_t h = 0;
    for (const int64_t value : key.values)
      h = (h ^ static_cast<uint64_t>(value)) * 0x9E3779B97F4A7C15ULL + (h >> 29);
    return h;
  }
};

memory::dims filter_dims(const ConvShape& s) {
  if (s.groups == 1) return {s.o, s.c, s.kh, s.kw};
  return {s.groups, s.o / s.groups, s.c / s.groups, s.kh, s.kw};
}

/// The layout of filters in parameters.
memory::desc plain_filters(const ConvShape& s, memory::data_type dtype) {
  return {filter_dims(s), dtype, s.groups == 1 ? Tag::oihw : Tag::goihw};
}

/// A primitive descriptor of `arguments`, which oneDNN 2 requires as a separate object.
template <typename Primitive, typename... Arguments>
auto describe(const dnnl::primitive_attr& attributes, const Arguments&... arguments) {
  using Description = typename Primitive::primitive_desc;
#  if DNNL_VERSION_MAJOR >= 3
  return Description(onednn_engine(), arguments..., attributes);
#  else
  return Description(typename Primitive::desc(arguments...), attributes, onednn_engine());
#  endif
}

/// The same for a backward pass, with the descriptor of its forward pass.
template <typename Primitive, typename... Arguments>
auto describe_backward(const dnnl::convolution_forward::primitive_desc& forward,
                       const dnnl::primitive_attr& attributes, const Arguments&... arguments) {
  using Description = typename Primitive::primitive_desc;
#  if DNNL_VERSION_MAJOR >= 3
  return Description(onednn_engine(), arguments..., forward, attributes);
#  else
  return Description(typename Primitive::desc(arguments...), attributes, onednn_engine(), forward);
#  endif
}

/// Throws dnnl::error if oneDNN does not have the algorithm for this shape.
Convolution make_convolution(const ConvShape& s, int64_t images, Pass pass, dnnl::algorithm algorithm) {
  (void)onednn_stream();  // called first: a primitive is created for OpenMP's current number of threads
  const auto dtype = onednn_dtype(s.dtype);
  const auto filter_dtype = pass == Pass::kWeights ? memory::data_type::f32 : dtype;
  const memory::dims x_dims{images, s.c, s.h, s.w};
  const memory::dims y_dims{images, s.o, s.oh, s.ow};
  const memory::desc plain_x(x_dims, dtype, Tag::nhwc);
  const memory::desc plain_y(y_dims, dtype, Tag::nhwc);
  // Winograd's algorithm needs blocked channels; the others support NHWC.
  const Tag layout = algorithm == dnnl::algorithm::convolution_winograd ? Tag::any : Tag::nhwc;
  const memory::desc x(x_dims, dtype, layout);
  const memory::desc y(y_dims, dtype, layout);
  const memory::desc w(filter_dims(s), filter_dtype, Tag::any);
  const memory::dims stride{s.stride[0], s.stride[1]};
  // oneDNN's dilation is 0 for adjacent taps.
  const memory::dims dilation{s.dilation[0] - 1, s.dilation[1] - 1};
  const memory::dims padding_begin{s.padding[0], s.padding[1]};
  // Padding without the part at the end that the stride skips.
  const auto after = [](int64_t size, int64_t out, int64_t kernel, int64_t step, int64_t pad, int64_t gap) {
    return (out - 1) * step + (kernel - 1) * gap + 1 - size - pad;
  };
  const memory::dims padding_end{after(s.h, s.oh, s.kh, s.stride[0], s.padding[0], s.dilation[0]),
                                 after(s.w, s.ow, s.kw, s.stride[1], s.padding[1], s.dilation[1])};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  // Its filters have the dtype of the images, even if their gradient has another. For the other passes, this
  // descriptor is a hint.
  const memory::desc forward_filters(filter_dims(s), dtype, Tag::any);
  const auto forward =
      describe<dnnl::convolution_forward>(attributes, dnnl::prop_kind::forward_training, algorithm, x,
                                          forward_filters, y, stride, dilation, padding_begin, padding_end);
  if (pass == Pass::kForward) {
    return {dnnl::convolution_forward(forward),
            forward.src_desc(),
            forward.weights_desc(),
            forward.dst_desc(),
            forward.scratchpad_desc(),
            plain_x,
            plain_y};
  }
  if (pass == Pass::kData) {
    const auto data = describe_backward<dnnl::convolution_backward_data>(
        forward, attributes, algorithm, x, w, y, stride, dilation, padding_begin, padding_end);
    return {dnnl::convolution_backward_data(data),
            data.diff_dst_desc(),
            data.weights_desc(),
            data.diff_src_desc(),
            data.scratchpad_desc(),
            plain_y,
            plain_x};
  }
  const auto weights = describe_backward<dnnl::convolution_backward_weights>(
      forward, attributes, algorithm, x, w, y, stride, dilation, padding_begin, padding_end);
  return {dnnl::convolution_backward_weights(weights),
          weights.src_desc(),
          weights.diff_weights_desc(),
          weights.diff_dst_desc(),
          weights.scratchpad_desc(),
          plain_x,
          plain_y};
}

/// Whether Winograd's algorithm pays, as it does for large images, for which its transforms cost less than
/// the multiplications that it saves (Lavin & Gray 2016). Its rounding errors are larger: some 1e-5 of the
/// result's magnitude in fp32.
bool suits_winograd(const ConvShape& s) {
  constexpr int64_t kPixels = 400;
  const auto is = [](const std::array<int64_t, 2>& a, int64_t value) {
    return a[0] == value && a[1] == value;
  };
  return s.dtype == DType::kFloat32 && s.kh == 3 && s.kw == 3 && is(s.stride, 1) && is(s.dilation, 1) &&
         s.groups == 1 && s.c % 16 == 0 && s.o % 16 == 0 && s.c >= 32 && s.o >= 32 && s.oh * s.ow >= kPixels;
}

Convolution make_best_convolution(const ConvShape& s, int64_t images, Pass pass) {
  if (suits_winograd(s)) {
    try {
      return make_convolution(s, images, pass, dnnl::algorithm::convolution_winograd);
    } catch (const dnnl::error&) {
      // Not supported by this version of oneDNN or CPU; the direct algorithm always is.
    }
  }
  return make_convolution(s, images, pass, dnnl::algorithm::convolution_direct);
}

// For images with at most this many pixels, oneDNN's gradient of the filters spends most of its time on
// reading and writing the filters.
constexpr int64_t kPixelsForProduct = 16;

Convolution& cached_convolution(const ConvShape& s, int64_t images, Pass pass) {
  thread_local std::unordered_map<ConvolutionKey, Convolution, ConvolutionKeyHash> cache;
  const ConvolutionKey key{{images, s.h, s.w, s.c, s.o, s.kh, s.kw, s.stride[0], s.stride[1], s.padding[0],
                            s.padding[1], s.dilation[0], s.dilation[1], s.groups,
                            static_cast<int64_t>(s.dtype), static_cast<int64_t>(pass)}};
  if (const auto found = cache.find(key); found != cache.end()) return found->second;
  if (cache.size() >= kCachedPrimitives) cache.clear();
  return cache.emplace(key, make_best_convolution(s, images, pass)).first->second;
}

memory wrap(const memory::desc& description, const void* data) {
  return {description, onednn_engine(), const_cast<void*>(data)};
}

void reorder(memory from, memory to) {
  dnnl::stream& stream = onednn_stream();
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

/// An operand in the layout that a primitive prefers: the caller's memory if it has that layout, else a copy.
struct Operand {
  memory plain, preferred;
  Tensor copy;  // keeps `preferred` alive

  Operand(const memory::desc& plain_layout, const memory::desc& layout, const void* data,
          const Stream& stream)
      : plain(wrap(plain_layout, data)), preferred(plain) {
    if (layout == plain_layout) return;
    copy = Tensor::empty({static_cast<int64_t>(layout.get_size())}, DType::kUInt8, stream);
    preferred = wrap(layout, copy.raw());
  }
  void load() const {
    if (copy.defined()) reorder(plain, preferred);
  }
  void store() const {
    if (copy.defined()) reorder(preferred, plain);
  }
};

/// Runs a primitive with scratch memory from the stream's allocator.
void execute(const Convolution& c, std::unordered_map<int, memory> arguments, const Stream& stream) {
  const Tensor scratch =
      Tensor::empty({static_cast<int64_t>(c.scratchpad.get_size())}, DType::kUInt8, stream);
  arguments.emplace(DNNL_ARG_SCRATCHPAD, wrap(c.scratchpad, scratch.raw()));
  dnnl::stream& queue = onednn_stream();
  c.primitive.execute(queue, arguments);
  queue.wait();
}

/// The filters in the layout that a primitive prefers; `plain` itself if it has that layout.
memory filters_for(const Convolution& convolution, const memory& plain) {
  if (convolution.filters == plain.get_desc()) return plain;
  memory preferred(convolution.filters, onednn_engine());
  reorder(plain, preferred);
  return preferred;
}

/// Images [begin, end) of chunk i.
std::pair<int64_t, int64_t> chunk_range(int64_t n, int64_t chunks, int64_t i) {
  return {i * n / chunks, (i + 1) * n / chunks};
}

const void* image(const Tensor& images, int64_t n) {
  return static_cast<const std::byte*>(images.raw()) + n * images.stride(0) * size_of(images.dtype());
}

template <class F>
void with_context(const ConvShape& s, F f) {
  try {
    f();
  } catch (const dnnl::error& error) {
    fail("oneDNN: convolution of ({}, {}, {}, {}) with ({}, {}, {}, {}) in {}: {}: {}", s.n, s.h, s.w, s.c,
         s.o, s.c / s.groups, s.kh, s.kw, tutti::name(s.dtype), error.what(), error_text(error.status));
  }
}

class OneDnnConv final : public ConvBackend {
 public:
  void forward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
               const Stream& stream) const override {
    run(s, Pass::kForward, x, w, y, stream);
  }
  void backward_data(const ConvShape& s, const Tensor& dy, const Tensor& w, const Tensor& dx,
                     const Stream& stream) const override {
    run(s, Pass::kData, dy, w, dx, stream);
  }

  void backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        GradMode mode, const Stream& stream) const override {
    if (s.groups == 1 && s.oh * s.ow <= kPixelsForProduct) {
      return product_backward_weights(s, dy, x, dw, mode, stream);
    }
    const int64_t chunks = conv_weight_chunks(s);
    const memory::desc plain = plain_filters(s, memory::data_type::f32);
    memory::desc layout;
    with_context(s, [&] {
      // Chunks have at most two sizes. Sums have the layout that both primitives prefer, or else the plain
      // one.
      layout = cached_convolution(s, s.n / chunks, Pass::kWeights).filters;
      if (s.n % chunks != 0 && cached_convolution(s, s.n / chunks + 1, Pass::kWeights).filters != layout) {
        layout = plain;
      }
    });
    const auto size = static_cast<int64_t>(layout.get_size() / sizeof(float));
    const Tensor partial = Tensor::empty({chunks, size}, DType::kFloat32, stream);
    stream.pool().parallel_for(chunks, [&](int64_t i) {
      with_context(s, [&] {
        const auto [begin, end] = chunk_range(s.n, chunks, i);
        const Convolution& c = cached_convolution(s, end - begin, Pass::kWeights);
        const memory sums = wrap(layout, partial.data<float>() + i * size);
        const memory result = c.filters == layout ? sums : memory(c.filters, onednn_engine());
        const Operand source(c.plain_source, c.source, image(x, begin), stream);
        const Operand gradient(c.plain_result, c.result, image(dy, begin), stream);
        source.load();
        gradient.load();
        execute(c,
                {{DNNL_ARG_SRC, source.preferred},
                 {DNNL_ARG_DIFF_DST, gradient.preferred},
                 {DNNL_ARG_DIFF_WEIGHTS, result}},
                stream);
        if (result.get_data_handle() != sums.get_data_handle()) reorder(result, sums);
      });
    });
    tutti::add_chunks(partial, stream);
    const Tensor sum = partial.select(0, 0);
    const memory from = wrap(layout, sum.raw());
    if (mode == GradMode::kOverwrite) {
      with_context(s, [&] { reorder(from, wrap(plain, dw.raw())); });
    } else {
      const Tensor ordered = Tensor::empty(dw.shape(), DType::kFloat32, stream);
      with_context(s, [&] { reorder(from, wrap(plain, ordered.raw())); });
      add_in_place(dw, ordered, stream);
    }
  }

 private:
  /// Forward and backward-data differ only in the names of their arguments.
  static void run(const ConvShape& s, Pass pass, const Tensor& from, const Tensor& w, const Tensor& to,
                  const Stream& stream) {
    const int64_t chunks = std::min(kConvChunks, s.n);
    const memory plain = wrap(plain_filters(s, onednn_dtype(s.dtype)), w.raw());
    // Chunks have at most two sizes; the filters are converted once to the layout of each.
    const auto size_of_chunk = [&](int64_t i) {
      const auto [begin, end] = chunk_range(s.n, chunks, i);
      return end - begin;
    };
    const int64_t small = s.n / chunks;
    memory filters[2];
    with_context(s, [&] {
      filters[0] = filters_for(cached_convolution(s, small, pass), plain);
      if (s.n % chunks != 0) filters[1] = filters_for(cached_convolution(s, small + 1, pass), plain);
    });
    const int source = pass == Pass::kForward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST;
    const int result = pass == Pass::kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC;
    stream.pool().parallel_for(chunks, [&](int64_t i) {
      with_context(s, [&] {
        const int64_t begin = i * s.n / chunks;
        const Convolution& c = cached_convolution(s, size_of_chunk(i), pass);
        const Operand in(c.plain_source, c.source, image(from, begin), stream);
        const Operand out(c.plain_result, c.result, image(to, begin), stream);
        in.load();
        execute(c,
                {{source, in.preferred},
                 {DNNL_ARG_WEIGHTS, filters[size_of_chunk(i) - small]},
                 {result, out.preferred}},
                stream);
        out.store();
      });
    });
  }
};

}  // namespace

const ConvBackend* onednn_conv(DType dtype) {
  static const OneDnnConv backend;
  if (math_library() != MathLibrary::kOneDnn) return nullptr;
  if (dtype == DType::kFloat32) return &backend;
  static const bool fast_bf16 = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  return dtype == DType::kBFloat16 && fast_bf16 ? &backend : nullptr;
}

}  // namespace tutti::cpu

#else

namespace tutti::cpu {
const ConvBackend* onednn_conv(DType) {
  return nullptr;
}
}  // namespace tutti::cpu

#endif
