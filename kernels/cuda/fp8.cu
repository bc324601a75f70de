#include "kernels/cuda/fp8.h"

#include "kernels/activation_functors.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/logit_rows.cuh"
#include "kernels/cuda/sums.h"

#include <cuda_fp8.h>

#include <limits>

namespace tutti::cuda {
namespace {

constexpr int kTile = 64;  // rows and columns of a block's tile
constexpr int kPack = 4;   // adjacent elements that a thread reads and writes at a time
constexpr int kAcross = kTile / kPack;
constexpr int kRowsAtOnce = kThreads / kAcross;

/// The bits of |x|: their order as integers is that of the magnitudes, NaN last.
__device__ uint32_t magnitude(float x) {
  return __float_as_uint(x) & 0x7fffffffU;
}

/// *largest = max(*largest, the largest magnitude of the block). The result does not depend on the order of
/// blocks.
__device__ void raise(uint32_t mine, float* largest) {
  __shared__ uint32_t warps[kThreads / 32];
  mine = __reduce_max_sync(0xffffffffU, mine);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const uint32_t other : warps) mine = max(mine, other);
  auto* const all = reinterpret_cast<unsigned int*>(largest);
  if (mine > __ldcv(all)) atomicMax(all, mine);
}

template <Fp8Format format>
__device__ uint8_t code_of(float x) {
  constexpr auto kKind = format == Fp8Format::kE4M3 ? __NV_E4M3 : __NV_E5M2;
  // The conversion saturates; 0 * x + x turns infinity into NaN, as in to_fp8, and keeps the sign of zero.
  return __nv_cvt_float_to_fp8(fmaf(0.0F, x, x), __NV_SATFINITE, kKind);
}

__global__ void __launch_bounds__(kThreads) measure_kernel(const BFloat16* x, int64_t n, float* largest) {
  uint32_t most = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    most = max(most, magnitude(x[i]));
  raise(most, largest);
}

using Neighbours = float[kPack];

__device__ void load(const BFloat16* from, Neighbours& to) {
  const auto pack = *reinterpret_cast<const row::Pack<BFloat16, kPack>*>(from);
  for (int i = 0; i < kPack; ++i) to[i] = pack.at[i];
}

// Sources: make() computes kPack adjacent elements of row r from column c, rounded to bf16 as the op itself
// rounds them.

struct Plain {
  const BFloat16* x;
  __device__ void make(int64_t r, int64_t c, int64_t columns, Neighbours& to) const {
    load(x + r * columns + c, to);
  }
};

template <class Op>
struct ActivatedBy {
  const BFloat16* x;
  Op op;
  __device__ void make(int64_t r, int64_t c, int64_t columns, Neighbours& to) const {
    load(x + r * columns + c, to);
    for (float& value : to) value = BFloat16(op.value(value));
  }
};

template <class Op>
struct DerivedBy {
  const BFloat16* dy;
  const BFloat16* x;
  Op op;
  __device__ void make(int64_t r, int64_t c, int64_t columns, Neighbours& to) const {
    Neighbours saved;
    load(dy + r * columns + c, to);
    load(x + r * columns + c, saved);
    for (int i = 0; i < kPack; ++i) to[i] = BFloat16(to[i] * op.derivative(saved[i]));
  }
};

struct NormalisedBy {
  const BFloat16* x;
  const BFloat16* w;
  const BFloat16* b;  // may be null
  const float* moments;
  __device__ void make(int64_t r, int64_t c, int64_t columns, Neighbours& to) const {
    const float mean = moments[2 * r];
    const float rstd = moments[2 * r + 1];
    Neighbours weight;
    Neighbours shift = {};
    load(x + r * columns + c, to);
    load(w + c, weight);
    if (b != nullptr) load(b + c, shift);
    for (int i = 0; i < kPack; ++i) to[i] = BFloat16((to[i] - mean) * rstd * weight[i] + shift[i]);
  }
};

template <class I>
struct GradientOfLoss {
  LogitRows<BFloat16, I> rows;
  float factor;
  __device__ void make(int64_t r, int64_t c, int64_t, Neighbours& to) const {
    if (!rows.has_gradient(r)) {
      const float value = BFloat16(rows.without_gradient(r));
      for (int i = 0; i < kPack; ++i) to[i] = c + i < rows.n ? value : 0;
      return;
    }
    load(rows.row(r) + c, to);
    // Of the pack, in 32 bits: -1 if the target is in another, and its classes, behind which there is
    // padding.
    const int64_t from_here = rows.targets[r] - c;
    const int target = from_here >= 0 && from_here < kPack ? static_cast<int>(from_here) : -1;
    const int classes = rows.n - c < kPack ? static_cast<int>(rows.n - c) : kPack;
    const float lse = rows.lse[r];
    for (int i = 0; i < kPack; ++i) {
      const float p = math::exp_fast(to[i] - lse) - rows.weights.every;
      const float d = BFloat16(factor * (i == target ? p - rows.weights.target : p));
      to[i] = i < classes ? d : 0;
    }
  }
};

struct Quantised {
  const BFloat16* range;
  uint8_t* bytes;
  uint8_t* transposed;
  float* unit;
  float* largest;
  float* sums;  // (tiles down, columns), or null
  int64_t rows, columns;
};

/// Adds the columns of a tile in a fixed order; each thread has the sums of kPack columns over some of the
/// rows.
__device__ void write_sums(const float (&mine)[kPack], int across, int down, float* sums, int64_t columns) {
  __shared__ float parts[kRowsAtOnce][kTile];
  for (int i = 0; i < kPack; ++i) parts[down][across + i] = mine[i];
  __syncthreads();
  const auto column = static_cast<int>(threadIdx.x);
  if (column >= kTile || column >= columns) return;
  float sum = 0;
  for (int r = 0; r < kRowsAtOnce; ++r) sum += parts[r][column];
  sums[column] = sum;
}

/// One block per tile: reads and writes it by rows, transposes it in shared memory, and writes it by columns.
template <Fp8Format format, class Source>
__global__ void __launch_bounds__(kThreads) quantise_kernel(Source source, Quantised q) {
  using Codes = row::Pack<uint8_t, kPack>;
  alignas(kPack) __shared__ uint8_t turned[kTile][kTile + kPack];  // by column; padded against bank conflicts
  const float scale = fp8_scale(*q.range, Fp8Bits<format>::kMost);
  if (blockIdx.x == 0 && threadIdx.x == 0) *q.unit = 1 / scale;
  const int64_t tiles_across = (q.columns + kTile - 1) / kTile;
  const int64_t first_row = blockIdx.x / tiles_across * kTile;
  const int64_t first_column = blockIdx.x % tiles_across * kTile;
  const int across = static_cast<int>(threadIdx.x) % kAcross * kPack;
  const int down = static_cast<int>(threadIdx.x) / kAcross;
  uint32_t most = 0;
  float sums[kPack] = {};
  for (int r = down; r < kTile; r += kRowsAtOnce) {
    const int64_t at = (first_row + r) * q.columns + first_column + across;
    // Extents are multiples of kPack: no pack crosses the edge.
    if (first_row + r >= q.rows || first_column + across >= q.columns) continue;
    Neighbours values;
    source.make(first_row + r, first_column + across, q.columns, values);
    Codes codes;
    for (int i = 0; i < kPack; ++i) {
      const float value = values[i];
      most = max(most, magnitude(value));
      sums[i] += value;
      codes.at[i] = code_of<format>(value * scale);
      turned[across + i][r] = codes.at[i];
    }
    *reinterpret_cast<Codes*>(q.bytes + at) = codes;
  }
  __syncthreads();
  for (int c = down; c < kTile; c += kRowsAtOnce) {
    if (first_column + c >= q.columns || first_row + across >= q.rows) continue;
    *reinterpret_cast<Codes*>(q.transposed + (first_column + c) * q.rows + first_row + across) =
        *reinterpret_cast<const Codes*>(&turned[c][across]);
  }
  if (q.sums != nullptr) {
    const int64_t at = first_row / kTile * q.columns + first_column;
    write_sums(sums, across, down, q.sums + at, q.columns - first_column);
  }
  raise(most, q.largest);
}

/// `from`, or a copy if it is not aligned for packs.
Tensor readable(const Tensor& from, const Stream& stream) {
  require_here("fp8", from, stream);
  return aligned16(from.raw()) ? from : from.clone(stream);
}

/// Calls f with the device source of an OperandSource.
template <class F>
void with_source(const OperandSource& source, const Stream& stream, F f) {
  if (const auto* activated = std::get_if<Activated>(&source)) {
    const Tensor x = readable(activated->x, stream);
    with_activation(activated->activation, [&](auto op) {
      f(ActivatedBy<decltype(op)>{x.data<BFloat16>(), op});
    });
  } else if (const auto* gradient = std::get_if<ActivationGradient>(&source)) {
    const Tensor dy = readable(gradient->dy, stream);
    const Tensor x = readable(gradient->x, stream);
    with_activation(gradient->activation, [&](auto op) {
      f(DerivedBy<decltype(op)>{dy.data<BFloat16>(), x.data<BFloat16>(), op});
    });
  } else if (const auto* normalised = std::get_if<Normalised>(&source)) {
    const Tensor x = readable(normalised->x, stream);
    const Tensor w = readable(normalised->w, stream);
    const Tensor b = normalised->b.defined() ? readable(normalised->b, stream) : Tensor();
    f(NormalisedBy{x.data<BFloat16>(), w.data<BFloat16>(), b.defined() ? b.data<BFloat16>() : nullptr,
                   normalised->moments.data<float>()});
  } else if (const auto* logits = std::get_if<LogitGradient>(&source)) {
    CrossEntropy loss = logits->loss;
    loss.logits = readable(loss.logits, stream);
    dispatch_index(loss.targets.dtype(), "fp8", [&]<class I>(TypeTag<I>) {
      f(GradientOfLoss<I>{logit_rows<BFloat16, I>(loss), static_cast<float>(loss.scale)});
    });
  } else {
    const Tensor x = readable(std::get<Tensor>(source), stream);
    f(Plain{x.data<BFloat16>()});
  }
}

}  // namespace

void measure(const Tensor& x, const Tensor& largest, const Stream& stream) {
  require_here("fp8", x, stream);
  if (x.numel() == 0) return;
  // A few blocks per multiprocessor, so that there are few atomic operations on `largest`.
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((x.numel() + kThreads - 1) / kThreads, 2048));
  launch("fp8_measure", stream, {blocks, kThreads}, measure_kernel, x.data<BFloat16>(), x.numel(),
         largest.data<float>());
}

Tensor quantise(const OperandSource& source, const Tensor& range, const Tensor& largest,
                const ProductOperand& operand, bool with_sums, const Stream& stream) {
  const int64_t tiles_down = (operand.rows + kTile - 1) / kTile;
  const Tensor sums =
      with_sums ? Tensor::empty({tiles_down, operand.columns}, DType::kFloat32, stream) : Tensor();
  const Quantised q{range.data<BFloat16>(),
                    operand.bytes.data<uint8_t>(),
                    operand.transposed.data<uint8_t>(),
                    operand.unit.data<float>(),
                    largest.data<float>(),
                    with_sums ? sums.data<float>() : nullptr,
                    operand.rows,
                    operand.columns};
  const int64_t tiles = tiles_down * ((q.columns + kTile - 1) / kTile);
  require(tiles <= std::numeric_limits<int32_t>::max(), "fp8: a matrix of {} x {} is too large", q.rows,
          q.columns);
  const auto blocks = static_cast<unsigned>(tiles);
  with_source(source, stream, [&]<class Source>(const Source& from) {
    const auto kernel = operand.format == Fp8Format::kE4M3 ? &quantise_kernel<Fp8Format::kE4M3, Source>
                                                           : &quantise_kernel<Fp8Format::kE5M2, Source>;
    launch("fp8_quantise", stream, {blocks, kThreads}, kernel, from, q);
  });
  if (!with_sums) return {};
  add_chunks(sums, stream);
  return sums.select(0, 0);
}

}  // namespace tutti::cuda
