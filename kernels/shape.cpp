#include <tutti/kernels/shape.h>

#include <tutti/kernels/reduce.h>
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/reduce.h"
#include "kernels/gradient.h"
#include "kernels/sums.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tutti {
namespace {

int normal_dim(std::string_view op, int dim, const Shape& shape) {
  const int dims = static_cast<int>(shape.size());
  require(dim >= -dims && dim < dims, "{}: dim {} is out of range for shape {}", op, dim, to_string(shape));
  return dim < 0 ? dim + dims : dim;
}

/// The numbers of elements before, in and after `dim`.
SumExtents around(const Shape& shape, int dim) {
  SumExtents e;
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    (d < dim ? e.outer : d == dim ? e.reduced : e.inner) *= shape[static_cast<size_t>(d)];
  }
  return e;
}

template <class I>
std::vector<int64_t> checked_indices(const Tensor& indices, int64_t size) {
  // Checked on the CPU, also if they are on a device.
  ThreadPool one_thread(1);
  const Stream host = Stream::inline_on(one_thread);
  const Tensor flat = indices.to(indices.dtype(), host).to_contiguous(host);
  std::vector<int64_t> result;
  result.reserve(static_cast<size_t>(flat.numel()));
  for (const I index : flat.span<I>()) {
    require(index >= 0 && index < size, "gather: index {} is outside [0, {})", index, size);
    result.push_back(index);
  }
  return result;
}

Var gather_on_cuda(Tape& tape, const Var& x, const Tensor& in, const std::vector<int64_t>& picks,
                   const Tensor& y, const SumExtents& e) {
  if constexpr (kWithCuda) {
    const Stream& stream = tape.stream();
    const auto count = static_cast<int64_t>(picks.size());
    const Tensor at = Tensor::from(picks, {count}, stream);
    const Shape from{e.outer, e.reduced, e.inner};
    const Shape to{e.outer, count, e.inner};
    cuda::gather(in.view(from), at, y.view(to), stream);
    return tape.record("gather", y, {x}, [=](const Tensor& dy, const Gradients& gradients) {
      write_gradient(gradients, 0, dy.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
        if (mode == GradMode::kOverwrite) fill(dx, 0, stream);
        cuda::gather_backward(dy.view(to), at, dx.view(from), stream);
      });
    });
  } else {
    fail("gather: this build has no kernel for {}", name(tape.stream().device()));
  }
}

}  // namespace

Var view(Tape& tape, const Var& x, const Shape& shape) {
  // Tensor::view throws for shapes that do not fit and for strides that allow no view. A copy avoids the
  // latter.
  Tensor y = x.value.contiguous() ? x.value.view(shape) : x.value.to_contiguous(tape.stream()).view(shape);
  return tape.record(
      "view", std::move(y), {x},
      [from = x.shape()](const Tensor& dy, const Gradients& gradients) { gradients.add(0, dy.view(from)); });
}

Var transpose(Tape& tape, const Var& x, int a, int b) {
  return tape.record(
      "transpose", x.value.transpose(a, b), {x},
      [a, b](const Tensor& dy, const Gradients& gradients) { gradients.add(0, dy.transpose(a, b)); });
}

Var permute(Tape& tape, const Var& x, const Shape& order) {
  Tensor y = x.value.permute(order);
  Shape back(order.size(), 0);
  for (size_t d = 0; d < order.size(); ++d) {
    const int from = normal_dim("permute", static_cast<int>(order[d]), x.shape());
    back[static_cast<size_t>(from)] = static_cast<int64_t>(d);
  }
  return tape.record("permute", std::move(y), {x}, [back](const Tensor& dy, const Gradients& gradients) {
    gradients.add(0, dy.permute(back));
  });
}

Var slice(Tape& tape, const Var& x, int dim, int64_t begin, int64_t end, int64_t step) {
  return tape.record("slice", x.value.slice(dim, begin, end, step), {x},
                     [=, stream = tape.stream()](const Tensor& dy, const Gradients& gradients) {
                       const auto [destination, mode] = gradients.slot(0);
                       if (mode == GradMode::kOverwrite) fill(destination, 0, stream);
                       store(dy, destination.slice(dim, begin, end, step), mode, stream);
                     });
}

Var expand(Tape& tape, const Var& x, const Shape& shape) {
  return tape.record("expand", x.value.expand(shape), {x},
                     [stream = tape.stream()](const Tensor& dy, const Gradients& gradients) {
                       const auto [destination, mode] = gradients.slot(0);
                       sum_to(dy, destination, mode, stream);
                     });
}

Var concat(Tape& tape, std::span<const Var> parts, int dim) {
  require(!parts.empty(), "concat: no tensors");
  Shape shape = parts[0].shape();
  const int at = normal_dim("concat", dim, shape);
  const auto index = static_cast<size_t>(at);
  shape[index] = 0;
  for (const Var& part : parts) {
    Shape others = part.shape();
    require(others.size() == shape.size() && part.dtype() == parts[0].dtype(),
            "concat: {} {} and {} {} differ in dtype or number of dims", name(part.dtype()),
            to_string(others), name(parts[0].dtype()), to_string(parts[0].shape()));
    const int64_t size = others[index];
    others[index] = shape[index];
    require(others == shape, "concat along dim {}: shapes {} and {} differ in another dim", at,
            to_string(part.shape()), to_string(parts[0].shape()));
    shape[index] += size;
  }
  const Tensor y = Tensor::empty(shape, parts[0].dtype(), tape.stream());
  std::vector<int64_t> starts{0};
  for (const Var& part : parts) {
    starts.push_back(starts.back() + part.value.size(at));
    copy(y.slice(at, starts[starts.size() - 2], starts.back()), part.value, tape.stream());
  }
  return tape.record("concat", y, parts,
                     [starts, at, stream = tape.stream()](const Tensor& dy, const Gradients& gradients) {
                       for (size_t i = 0; i + 1 < starts.size(); ++i) {
                         if (!gradients.needs(i)) continue;
                         const auto [destination, mode] = gradients.slot(i);
                         store(dy.slice(at, starts[i], starts[i + 1]), destination, mode, stream);
                       }
                     });
}

Var concat(Tape& tape, std::initializer_list<Var> parts, int dim) {
  return concat(tape, std::span(parts.begin(), parts.size()), dim);
}

Var gather(Tape& tape, const Var& x, int dim, const Tensor& indices) {
  const Stream& stream = tape.stream();
  const int at = normal_dim("gather", dim, x.shape());
  require(indices.dims() == 1, "gather: indices have shape {}, expected one dim", to_string(indices.shape()));
  const std::vector<int64_t> picks = dispatch_index(indices.dtype(), "gather", [&]<class I>(TypeTag<I>) {
    return checked_indices<I>(indices, x.value.size(at));
  });
  const Tensor in = x.value.to_contiguous(stream);
  Shape shape = in.shape();
  const SumExtents e = around(shape, at);
  const auto count = static_cast<int64_t>(picks.size());
  shape[static_cast<size_t>(at)] = count;
  const Tensor y = Tensor::empty(shape, in.dtype(), stream);
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return gather_on_cuda(tape, x, in, picks, y, e);
  }
  const int64_t bytes = e.inner * size_of(in.dtype());
  const auto* from = static_cast<const std::byte*>(in.raw());
  auto* to = static_cast<std::byte*>(y.raw());
  stream.pool().parallel_ranges(e.outer * count, rows_per_task(e.inner), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t source = i / count * e.reduced + picks[static_cast<size_t>(i % count)];
      std::memcpy(to + i * bytes, from + source * bytes, static_cast<size_t>(bytes));
    }
  });
  return tape.record("gather", y, {x}, [=](const Tensor& dy, const Gradients& gradients) {
    write_gradient(gradients, 0, dy.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
      if (mode == GradMode::kOverwrite) fill(dx, 0, stream);
      dispatch_compute(dy.dtype(), "gather", [&]<class T>(TypeTag<T>) {
        using A = Accumulate<T>;
        const T* d = dy.data<T>();
        T* out = dx.data<T>();
        // Each task writes whole slices of dx, so that repeated indices are added in their order.
        for_ranges(stream, e.outer, rows_per_task(count * e.inner), [=, &picks](int64_t begin, int64_t end) {
          for (int64_t i = begin * count; i < end * count; ++i) {
            T* sum = out + (i / count * e.reduced + picks[static_cast<size_t>(i % count)]) * e.inner;
            for (int64_t c = 0; c < e.inner; ++c) sum[c] = T(A(sum[c]) + A(d[i * e.inner + c]));
          }
        });
      });
    });
  });
}

}  // namespace tutti
