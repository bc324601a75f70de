#include "kernels/fp8/pass.h"

#include <tutti/kernels/pointwise.h>
#include "core/cuda/device.h"
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/sums.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace tutti {
namespace {

Fp8Format format_of(Fp8Pass::Operand which) {
  return which == Fp8Pass::kDy ? Fp8Format::kE5M2 : Fp8Format::kE4M3;
}

/// The larger magnitude; NaN if either is.
float larger(float a, float b) {
  return a > b || std::isnan(a) ? a : b;
}

/// largest = max(largest, the largest magnitude of x); `largest` is (). Calls `visit(i, x[i])` for each
/// element.
template <class Visit>
void measure(const Tensor& x, const Tensor& largest, const Stream& stream, const Visit& visit) {
  const int64_t n = x.numel();
  std::vector<float> tasks(static_cast<size_t>((n + kElementsPerTask - 1) / kElementsPerTask), 0.0F);
  const BFloat16* from = x.data<BFloat16>();
  for_ranges(stream, n, kElementsPerTask, [&tasks, from, &visit](int64_t begin, int64_t end) {
    float most = 0;
    for (int64_t i = begin; i < end; ++i) {
      const float value = from[i];
      most = larger(most, std::abs(value));
      visit(i, value);
    }
    tasks[static_cast<size_t>(begin / kElementsPerTask)] = most;
  });
  float& all = *largest.data<float>();
  for (const float most : tasks) all = larger(all, most);
}

template <Fp8Format format>
void round_to_fp8(const Tensor& x, const Tensor& y, const Tensor& largest, float range,
                  const Stream& stream) {
  const float scale = fp8_scale(range, Fp8Bits<format>::kMost);
  const float unit = 1 / scale;
  BFloat16* to = y.data<BFloat16>();
  measure(x, largest, stream, [=](int64_t i, float value) {
    to[i] = BFloat16(from_fp8<format>(to_fp8<format>(value * scale)) * unit);
  });
}

/// (rows, columns)
Shape shape_of(const OperandSource& source) {
  if (const auto* activated = std::get_if<Activated>(&source)) return activated->x.shape();
  if (const auto* gradient = std::get_if<ActivationGradient>(&source)) return gradient->x.shape();
  if (const auto* normalised = std::get_if<Normalised>(&source)) return normalised->x.shape();
  if (const auto* gradient = std::get_if<LogitGradient>(&source)) return gradient->loss.logits.shape();
  return std::get<Tensor>(source).shape();
}

/// Whether a training pass with ranges computes in fp8.
bool computes_in_fp8(const Tape& tape, const std::array<int64_t, 3>& extents) {
  return tape.context().step >= kFirstFp8Step &&
         std::all_of(extents.begin(), extents.end(),
                     [](int64_t extent) { return extent > 0 && extent % kFp8Multiple == 0; });
}

}  // namespace

void require_fp8(const Stream& stream) {
  if constexpr (kWithCuda) {
    if (!on_cuda(stream)) return;
    static std::atomic<uint64_t> known{0};  // devices with fp8, as reading properties takes milliseconds
    const int device = stream.device().index;
    const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if ((known.load(std::memory_order_relaxed) & bit) != 0) return;
    const cuda::DeviceInfo info = cuda::device_info(device);
    require(info.capability >= 89, "fp8: {} has compute capability {}.{}, fp8 needs 8.9 or newer", info.name,
            info.capability / 10, info.capability % 10);
    known.fetch_or(bit, std::memory_order_relaxed);
  }
}

Fp8Pass::Fp8Pass(const Tape& tape, const Fp8Ranges& ranges, DType compute,
                 const std::array<int64_t, 3>& extents)
    : ranges_{ranges.x.value, ranges.w.value, ranges.dy.value}, share_(tape.context().batch_share) {
  if (!ranges.defined() || !tape.context().training) return;
  require(compute == DType::kBFloat16, "linear: fp8 products need compute dtype bf16, not {}", name(compute));
  largest_ = Tensor::zeros({3}, DType::kFloat32, tape.stream());
  in_fp8_ = computes_in_fp8(tape, extents);
  require_fp8(tape.stream());
}

bool Fp8Pass::fuses(const Tape& tape, const std::array<int64_t, 3>& extents) {
  return on_cuda(tape.stream()) && tape.context().training && computes_in_fp8(tape, extents);
}

ProductOperand Fp8Pass::operand(Operand which, const OperandSource& source, const Stream& stream) const {
  return make(which, source, nullptr, stream);
}

ProductOperand Fp8Pass::operand(Operand which, const OperandSource& source, Tensor& column_sums,
                                const Stream& stream) const {
  ProductOperand operand = make(which, source, &column_sums, stream);
  if (!column_sums.defined())
    column_sums = sum_middle(std::get<Tensor>(source), {1, operand.rows, operand.columns}, stream)
                      .view({operand.columns});
  return operand;
}

ProductOperand Fp8Pass::make(Operand which, const OperandSource& source, Tensor* column_sums,
                             const Stream& stream) const {
  if constexpr (kWithCuda) {
    if (in_fp8_ && on_cuda(stream)) {
      const Shape shape = shape_of(source);
      ProductOperand operand{.bytes = Tensor::empty(shape, DType::kUInt8, stream),
                             .transposed = Tensor::empty({shape[1], shape[0]}, DType::kUInt8, stream),
                             .unit = Tensor::empty({}, DType::kFloat32, stream),
                             .format = format_of(which),
                             .rows = shape[0],
                             .columns = shape[1]};
      const Tensor sums = cuda::quantise(source, ranges_[which], largest_.select(0, which), operand,
                                         column_sums != nullptr, stream);
      if (column_sums != nullptr) *column_sums = sums;
      return operand;
    }
  }
  require(std::holds_alternative<Tensor>(source), "linear: fused operands need fp8 on a CUDA device");
  const Tensor& matrix = std::get<Tensor>(source);
  ProductOperand operand{.plain = matrix, .rows = matrix.size(0), .columns = matrix.size(1)};
  if (!largest_.defined()) return operand;
  const Tensor largest = largest_.select(0, which);
  if (in_fp8_) operand.format = format_of(which);
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      cuda::measure(matrix, largest, stream);
      return operand;
    }
  }
  if (!in_fp8_) {
    measure(matrix, largest, stream, [](int64_t, float) {});
    return operand;
  }
  operand.plain = Tensor::empty(matrix.shape(), DType::kBFloat16, stream);
  const float range = *ranges_[which].data<BFloat16>();
  if (operand.format == Fp8Format::kE4M3)
    round_to_fp8<Fp8Format::kE4M3>(matrix, operand.plain, largest, range, stream);
  else
    round_to_fp8<Fp8Format::kE5M2>(matrix, operand.plain, largest, range, stream);
  return operand;
}

void Fp8Pass::record_ranges(const Gradients& gradients, size_t first, const Stream& stream) const {
  if (!largest_.defined()) return;
  Tape inner(stream, {}, Tape::Mode::kInference);
  const Tensor shares = scale(inner, Var(largest_), share_).value;
  for (size_t i = 0; i < 3; ++i) {
    if (!gradients.needs(first + i)) continue;
    const auto [slot, mode] = gradients.slot(first + i);
    const auto at = static_cast<int64_t>(i);
    store(shares.slice(0, at, at + 1), slot, mode, stream);
  }
}

Gemm product(const ProductOperand& a, bool a_transposed, const ProductOperand& b, bool b_transposed) {
  Gemm gemm{.m = a_transposed ? a.columns : a.rows,
            .n = b_transposed ? b.rows : b.columns,
            .k = a_transposed ? a.rows : a.columns};
  if (a.unit.defined()) {
    // Products sum over the last dim of both operands.
    gemm.dtype = DType::kBFloat16;
    gemm.a = {a_transposed ? a.transposed.raw() : a.bytes.raw(), gemm.k};
    gemm.b = {b_transposed ? b.bytes.raw() : b.transposed.raw(), gemm.k, true};
    gemm.fp8 = {.a = a.format,
                .b = b.format,
                .a_unit = a.unit.data<float>(),
                .b_unit = b.unit.data<float>(),
                .fast = a.format == Fp8Format::kE4M3 && b.format == Fp8Format::kE4M3};
    return gemm;
  }
  gemm.dtype = a.plain.dtype();
  gemm.a = {a.plain.raw(), a.columns, a_transposed};
  gemm.b = {b.plain.raw(), b.columns, b_transposed};
  return gemm;
}

}  // namespace tutti
