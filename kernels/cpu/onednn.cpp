// oneDNN: matrix products. Convolutions are in onednn_conv.cpp; no other file includes the library. Supports
// versions 2.x and 3.x.
#include "core/memory/out_of_memory.h"
#include "kernels/cpu/blas_backends.h"

#if defined(TUTTI_WITH_ONEDNN)

#  include <oneapi/dnnl/dnnl.hpp>

#  include "kernels/cpu/onednn.h"

#  include <array>
#  include <unordered_map>

// From the OpenMP standard. Declared here, as omp.h is part of a compiler and may be missing.
extern "C" void omp_set_num_threads(int threads);

namespace tutti::cpu {

dnnl::engine& onednn_engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& onednn_stream() {
  // oneDNN uses as many threads as OpenMP's setting of the calling thread; the pool's threads are not
  // OpenMP's. Each call must use one thread: set once per thread.
  thread_local dnnl::stream stream = [] {
    omp_set_num_threads(1);
    return dnnl::stream(onednn_engine());
  }();
  return stream;
}

dnnl::memory::data_type onednn_dtype(DType dtype) {
  return dtype == DType::kBFloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

namespace {

struct ProductKey {
  std::array<int64_t, 6> sizes;  // m, n, k, lda, ldb, ldc
  uint32_t flags;
  bool operator==(const ProductKey&) const = default;
};
struct ProductKeyHash {
  size_t operator()(const ProductKey& key) const noexcept {
    uint64_t h = key.flags;
    for (const int64_t size : key.sizes)
      h = (h ^ static_cast<uint64_t>(size)) * 0x9E3779B97F4A7C15ULL + (h >> 29);
    return h;
  }
};

/// The primitive of a product of one shape, and its memory objects, whose pointers are set for each call.
struct Product {
  dnnl::matmul primitive;
  dnnl::memory a, b, c, scratchpad;
};

Product make_product(const Gemm& g) {
  using dims = dnnl::memory::dims;
  const auto layout = [](bool transposed, int64_t ld) { return transposed ? dims{1, ld} : dims{ld, 1}; };
  const dnnl::memory::desc a({g.m, g.k}, onednn_dtype(g.dtype), layout(g.a.transposed, g.a.ld));
  const dnnl::memory::desc b({g.k, g.n}, onednn_dtype(g.dtype), layout(g.b.transposed, g.b.ld));
  const dnnl::memory::desc c({g.m, g.n}, onednn_dtype(g.c_dtype), layout(false, g.ldc));
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (g.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  dnnl::engine& engine = onednn_engine();
#  if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, a, b, c, attributes);
#  else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
#  endif
  return {dnnl::matmul(description), dnnl::memory(a, engine, nullptr), dnnl::memory(b, engine, nullptr),
          dnnl::memory(c, engine, nullptr), dnnl::memory(description.scratchpad_desc(), engine)};
}

Product& cached_product(const Gemm& g) {
  thread_local std::unordered_map<ProductKey, Product, ProductKeyHash> cache;
  const ProductKey key{{g.m, g.n, g.k, g.a.ld, g.b.ld, g.ldc},
                       static_cast<uint32_t>(g.dtype) | static_cast<uint32_t>(g.c_dtype) << 8 |
                           static_cast<uint32_t>(g.a.transposed) << 16 |
                           static_cast<uint32_t>(g.b.transposed) << 17 |
                           static_cast<uint32_t>(g.accumulate) << 18};
  if (const auto found = cache.find(key); found != cache.end()) return found->second;
  if (cache.size() >= kCachedPrimitives) cache.clear();
  return cache.emplace(key, make_product(g)).first->second;
}

/// fp32: sgemm is some 6 % faster than the matmul primitive, and needs no cache of primitives.
bool sgemm(const Gemm& g) {
  (void)onednn_stream();
  const dnnl::status status =
      dnnl::sgemm(g.a.transposed ? 'T' : 'N', g.b.transposed ? 'T' : 'N', g.m, g.n, g.k, 1.0F,
                  static_cast<const float*>(g.a.data), g.a.ld, static_cast<const float*>(g.b.data), g.b.ld,
                  g.accumulate ? 1.0F : 0.0F, static_cast<float*>(g.c), g.ldc);
  require(status == dnnl::status::success, "oneDNN: product of ({}, {}) and ({}, {}): {}", g.m, g.k, g.k, g.n,
          status == dnnl::status::success ? "" : error_text(static_cast<dnnl_status_t>(status)));
  return true;
}

}  // namespace

std::string error_text(dnnl_status_t status) {
  switch (status) {
    case dnnl_out_of_memory:
      return "out of memory: " + memory_summary();
    case dnnl_invalid_arguments:
      return "invalid arguments";
    case dnnl_unimplemented:
      return "not implemented";
    case dnnl_runtime_error:
      return "runtime error of the primitive";
    default:
      return fmt::format("status {}", static_cast<int>(status));
  }
}

bool onednn_gemm(const Gemm& g) {
  if (g.dtype == DType::kFloat32 && g.c_dtype == DType::kFloat32) return sgemm(g);
  if (g.dtype != DType::kBFloat16) return false;
  // On CPUs without bf16 instructions, oneDNN emulates them, which is three times slower than fp32 products
  // of converted operands.
  static const bool fast = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core_bf16;
  if (!fast) return false;
  try {
    dnnl::stream& stream = onednn_stream();
    Product& product = cached_product(g);
    product.a.set_data_handle(const_cast<void*>(g.a.data));
    product.b.set_data_handle(const_cast<void*>(g.b.data));
    product.c.set_data_handle(g.c);
    product.primitive.execute(stream, {{DNNL_ARG_SRC, product.a},
                                       {DNNL_ARG_WEIGHTS, product.b},
                                       {DNNL_ARG_DST, product.c},
                                       {DNNL_ARG_SCRATCHPAD, product.scratchpad}});
    stream.wait();
  } catch (const dnnl::error& error) {
    fail("oneDNN: product of ({}, {}) and ({}, {}) in {}: {}: {}", g.m, g.k, g.k, g.n, tutti::name(g.dtype),
         error.what(), error_text(error.status));
  }
  return true;
}

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
}

}  // namespace tutti::cpu

#else

namespace tutti::cpu {
bool onednn_gemm(const Gemm&) {
  return false;
}
std::string onednn_version() {
  return {};
}
}  // namespace tutti::cpu

#endif
