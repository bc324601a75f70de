// fill, copy and add_in_place: one strided walk over two tensors, parallel over rows.
#include "core/cuda/tensor_ops.h"
#include <tutti/core/tensor.h>
#include "core/cuda/config.h"

#include <cstring>

namespace tutti {
namespace {

constexpr int64_t kGrain = int64_t{1} << 15;  // elements per task

/// Calls row(d, s, n, d_stride, s_stride) for rows that cover both tensors; offsets and strides count
/// elements.
template <class Row>
void for_each_row(const Tensor& d, const Tensor& s, const Stream& stream, Row row) {
  const int64_t n = d.numel();
  if (n == 0) return;
  if (d.contiguous() && s.contiguous()) {
    stream.pool().parallel_ranges(n, kGrain,
                                  [&](int64_t begin, int64_t end) { row(begin, begin, end - begin, 1, 1); });
    return;
  }
  const int64_t width = d.dims() > 0 ? d.size(-1) : 1;
  const int64_t d_stride = d.dims() > 0 ? d.stride(-1) : 1;
  const int64_t s_stride = s.dims() > 0 ? s.stride(-1) : 1;
  const int64_t rows = n / width;
  const int64_t rows_a_task = std::max<int64_t>(1, kGrain / width);
  stream.pool().parallel_ranges(rows, rows_a_task, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r;
      int64_t d_offset = 0;
      int64_t s_offset = 0;
      for (int dim = d.dims() - 2; dim >= 0; --dim) {
        const int64_t index = rest % d.size(dim);
        rest /= d.size(dim);
        d_offset += index * d.stride(dim);
        s_offset += index * s.stride(dim);
      }
      row(d_offset, s_offset, width, d_stride, s_stride);
    }
  });
}

void require_same_shape(std::string_view op, const Tensor& d, const Tensor& s) {
  require(d.defined() && s.defined(), "{}: undefined tensor", op);
  require(d.shape() == s.shape(), "{}: shapes {} and {} differ", op, to_string(d.shape()),
          to_string(s.shape()));
}

[[maybe_unused]] bool on_cuda(const Tensor& tensor) {
  return tensor.device().type == DeviceType::kCuda;
}

template <class D, class S>
D convert(S value) {
  if constexpr (std::is_same_v<D, S>)
    return value;
  else if constexpr (std::is_same_v<D, BFloat16> || std::is_same_v<D, Float16>)
    return D(static_cast<float>(value));
  else if constexpr (std::is_same_v<S, BFloat16> || std::is_same_v<S, Float16>)
    return static_cast<D>(static_cast<float>(value));
  else
    return static_cast<D>(value);
}

}  // namespace

void fill(const Tensor& destination, double value, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(destination)) return cuda::fill(destination, value, stream);
  }
  dispatch_all(destination.dtype(), [&]<class T>(TypeTag<T>) {
    T* d = destination.data<T>();
    const T v = convert<T>(value);
    for_each_row(destination, destination, stream,
                 [=](int64_t at, int64_t, int64_t n, int64_t stride, int64_t) {
                   if (stride == 1)
                     std::fill_n(d + at, n, v);
                   else
                     for (int64_t i = 0; i < n; ++i) d[at + i * stride] = v;
                 });
  });
}

void copy(const Tensor& destination, const Tensor& source, const Stream& stream) {
  require_same_shape("copy", destination, source);
  if constexpr (kWithCuda) {
    if (on_cuda(destination) || on_cuda(source)) return cuda::copy(destination, source, stream);
  }
  dispatch_all(destination.dtype(), [&]<class D>(TypeTag<D>) {
    dispatch_all(source.dtype(), [&]<class S>(TypeTag<S>) {
      D* d = destination.data<D>();
      const S* s = source.data<S>();
      for_each_row(destination, source, stream,
                   [=](int64_t d_at, int64_t s_at, int64_t n, int64_t d_stride, int64_t s_stride) {
                     if (d_stride == 1 && s_stride == 1) {
                       if constexpr (std::is_same_v<D, S>) {
                         std::memmove(d + d_at, s + s_at, static_cast<size_t>(n) * sizeof(D));
                       } else {
                         for (int64_t i = 0; i < n; ++i) d[d_at + i] = convert<D>(s[s_at + i]);
                       }
                     } else {
                       for (int64_t i = 0; i < n; ++i)
                         d[d_at + i * d_stride] = convert<D>(s[s_at + i * s_stride]);
                     }
                   });
    });
  });
}

void add_in_place(const Tensor& destination, const Tensor& source, const Stream& stream) {
  require_same_shape("add_in_place", destination, source);
  require(is_floating(destination.dtype()) && is_floating(source.dtype()),
          "add_in_place: {} += {} is not floating", name(destination.dtype()), name(source.dtype()));
  if constexpr (kWithCuda) {
    if (on_cuda(destination)) return cuda::add_in_place(destination, source, stream);
  }
  dispatch_all(destination.dtype(), [&]<class D>(TypeTag<D>) {
    dispatch_all(source.dtype(), [&]<class S>(TypeTag<S>) {
      D* d = destination.data<D>();
      const S* s = source.data<S>();
      using A = std::conditional_t<std::is_same_v<D, double> || std::is_same_v<S, double>, double, float>;
      for_each_row(destination, source, stream,
                   [=](int64_t d_at, int64_t s_at, int64_t n, int64_t d_stride, int64_t s_stride) {
                     if (d_stride == 1 && s_stride == 1) {
                       for (int64_t i = 0; i < n; ++i)
                         d[d_at + i] = convert<D>(static_cast<A>(d[d_at + i]) + static_cast<A>(s[s_at + i]));
                     } else {
                       for (int64_t i = 0; i < n; ++i) {
                         D& out = d[d_at + i * d_stride];
                         out = convert<D>(static_cast<A>(out) + static_cast<A>(s[s_at + i * s_stride]));
                       }
                     }
                   });
    });
  });
}

}  // namespace tutti
