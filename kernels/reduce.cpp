#include <tutti/kernels/reduce.h>

#include "kernels/cuda/reduce.h"
#include "kernels/map.h"
#include "kernels/sums.h"

#include <array>
#include <cmath>

namespace tutti {
namespace {

using Mask = std::array<bool, size_t{kMaxDims}>;

Mask reduced_dims(std::string_view op, const Tensor& x, const std::vector<int>& dims) {
  Mask mask{};
  for (const int given : dims) {
    const int dim = given < 0 ? given + x.dims() : given;
    require(dim >= 0 && dim < x.dims(), "{}: dim {} is out of range for shape {}", op, given,
            to_string(x.shape()));
    require(!mask[static_cast<size_t>(dim)], "{}: dim {} is repeated", op, given);
    mask[static_cast<size_t>(dim)] = true;
  }
  if (dims.empty()) mask.fill(true);
  return mask;
}

/// x's shape with reduced dims of size 1 if `keep_dims`, else without them.
Shape reduced_shape(const Shape& shape, const Mask& mask, bool keep_dims) {
  Shape result;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (!mask[d])
      result.push_back(shape[d]);
    else if (keep_dims)
      result.push_back(1);
  }
  return result;
}

/// Sums over the masked dims, in the accumulate dtype, as a flat tensor. Adjacent dims are summed together,
/// starting with the innermost, as that leaves the fewest elements for the others.
Tensor sum_masked(const Tensor& x, const Mask& mask, const Stream& stream) {
  Shape sizes;  // runs of dims that are all reduced or all kept
  std::array<bool, size_t{kMaxDims}> reduced{};
  for (size_t d = 0; d < x.shape().size(); ++d) {
    if (x.shape()[d] == 1) continue;
    if (sizes.empty() || reduced[sizes.size() - 1] != mask[d]) {
      sizes.push_back(1);
      reduced[sizes.size() - 1] = mask[d];
    }
    sizes.back() *= x.shape()[d];
  }
  Tensor result = x.to_contiguous(stream);
  SumExtents extents{.outer = numel(sizes), .reduced = 1, .inner = 1};
  for (size_t d = sizes.size(); d-- > 0;) {
    extents.outer = 1;
    for (size_t before = 0; before < d; ++before) extents.outer *= sizes[before];
    if (!reduced[d]) {
      extents.inner *= sizes[d];
      continue;
    }
    extents.reduced = sizes[d];
    result = sum_middle(result, extents, stream);
  }
  const DType wide = x.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return result.to(wide, stream).view({-1});
}

Tensor scaled(const Tensor& x, double factor, const Stream& stream) {
  const Tensor result = Tensor::empty(x.shape(), x.dtype(), stream);
  detail::map_forward("mean", x, result, row::Scale{factor}, stream);
  return result;
}

Var sum_or_mean(Tape& tape, std::string_view op, const Var& x, const std::vector<int>& dims, bool keep_dims) {
  const Stream& stream = tape.stream();
  const Mask mask = reduced_dims(op, x.value, dims);
  const Shape kept = reduced_shape(x.shape(), mask, true);
  const bool mean = op == "mean";
  const double factor = mean ? static_cast<double>(numel(kept)) / static_cast<double>(x.value.numel()) : 1;
  Tensor total = sum_masked(x.value, mask, stream);
  if (mean) total = scaled(total, factor, stream);
  Tensor y = total.to(x.dtype(), stream).view(reduced_shape(x.shape(), mask, keep_dims));
  return tape.record(
      op, std::move(y), {x},
      [stream, mean, factor, kept, shape = x.shape()](const Tensor& dy, const Gradients& gradients) {
        const Tensor small = mean ? scaled(dy, factor, stream) : dy;
        const auto [destination, mode] = gradients.slot(0);
        store(small.view(kept).expand(shape), destination, mode, stream);
      });
}

void max_rows(const Tensor& rows, const Tensor& y, const Tensor& winners, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::max_rows(rows, y, winners, stream);
  }
  const int64_t count = winners.numel();
  const int64_t width = count == 0 ? 0 : rows.numel() / count;
  dispatch_compute(rows.dtype(), "max", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const T* from = rows.data<T>();
    T* to = y.data<T>();
    auto* at = winners.data<int64_t>();
    stream.pool().parallel_ranges(count, rows_per_task(width), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = from + r * width;
        int64_t best = 0;
        for (int64_t i = 1; i < width && !std::isnan(A(row[best])); ++i) {
          if (!(A(row[i]) <= A(row[best]))) best = i;
        }
        at[r] = best;
        to[r] = row[best];
      }
    });
  });
}

/// (permuted): dy at the winners of the rows, 0 elsewhere.
Tensor max_rows_backward(const Tensor& dy, const Tensor& winners, const Shape& permuted,
                         const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      const Tensor dx = Tensor::empty(permuted, dy.dtype(), stream);
      cuda::max_rows_backward(dy, winners, dx, stream);
      return dx;
    }
  }
  const Tensor dx = Tensor::zeros(permuted, dy.dtype(), stream);
  const int64_t width = winners.numel() == 0 ? 0 : dx.numel() / winners.numel();
  dispatch_compute(dy.dtype(), "max", [&]<class T>(TypeTag<T>) {
    const auto at = winners.span<int64_t>();
    for (size_t r = 0; r < at.size(); ++r) {
      dx.data<T>()[static_cast<int64_t>(r) * width + at[r]] = dy.data<T>()[r];
    }
  });
  return dx;
}

}  // namespace

void sum_to(const Tensor& x, const Tensor& destination, GradMode mode, const Stream& stream) {
  Mask mask{};
  const size_t missing = x.shape().size() - destination.shape().size();
  for (size_t d = 0; d < x.shape().size(); ++d) {
    mask[d] = d < missing || (destination.shape()[d - missing] == 1 && x.shape()[d] != 1);
  }
  store(sum_masked(x, mask, stream).view(destination.shape()), destination, mode, stream);
}

Var sum(Tape& tape, const Var& x, const std::vector<int>& dims, bool keep_dims) {
  return sum_or_mean(tape, "sum", x, dims, keep_dims);
}

Var mean(Tape& tape, const Var& x, const std::vector<int>& dims, bool keep_dims) {
  return sum_or_mean(tape, "mean", x, dims, keep_dims);
}

Var max(Tape& tape, const Var& x, const std::vector<int>& dims, bool keep_dims) {
  const Stream& stream = tape.stream();
  const Mask mask = reduced_dims("max", x.value, dims);
  // Reduced dims last: copies only if they are not last in x.
  Shape order;
  for (int reduced = 0; reduced < 2; ++reduced) {
    for (size_t d = 0; d < x.shape().size(); ++d) {
      if (mask[d] == (reduced == 1)) order.push_back(static_cast<int64_t>(d));
    }
  }
  const Tensor rows = x.value.permute(order).to_contiguous(stream);
  const Shape shape = reduced_shape(x.shape(), mask, keep_dims);
  const int64_t count = numel(shape);
  require(count == 0 || rows.numel() > 0, "max: nothing to reduce in shape {}", to_string(x.shape()));
  const Tensor y = Tensor::empty(shape, x.dtype(), stream);
  const Tensor winners = Tensor::empty({count}, DType::kInt64, stream);
  max_rows(rows, y, winners, stream);
  return tape.record(
      "max", y, {x},
      [stream, winners, order, permuted = rows.shape()](const Tensor& dy, const Gradients& gradients) {
        const Tensor dx = max_rows_backward(dy, winners, permuted, stream);
        Shape back(order.size(), 0);
        for (size_t d = 0; d < order.size(); ++d)
          back[static_cast<size_t>(order[d])] = static_cast<int64_t>(d);
        gradients.add(0, dx.permute(back));
      });
}

}  // namespace tutti
