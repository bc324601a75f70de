#include "kernels/cpu/blas.h"

#include "kernels/cpu/blas_backends.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace tutti::cpu {
namespace {

// A tile of C: 192 x 768 of fp32, 384 x 1536 of bf16. It fits the L2 cache, so that bias and activation are
// applied there, and the matrices of a step have several tiles per thread. Libraries pack the operands of
// each tile, which costs more for small tiles.
constexpr int64_t kTileColumnBytes = 768;
constexpr int64_t kTileRowBytes = 3072;
// Small products have smaller tiles, so that more threads have work, down to tiles for which packing still
// pays.
constexpr int64_t kEnoughTiles = 8;
constexpr int64_t kLeastTile = int64_t{1} << 24;  // multiplications
// For this many rows or more, it pays to transpose B once for all tiles.
constexpr int64_t kRowsToTransposeFor = 256;

MathLibrary initial_library() {
  const char* wanted = std::getenv("TUTTI_CPU_MATH");
  constexpr MathLibrary kAll[] = {MathLibrary::kOneDnn, MathLibrary::kOpenBlas, MathLibrary::kOwn};
  for (const MathLibrary library : kAll) {
    if (wanted == nullptr || *wanted == '\0') {
      if (has_math_library(library)) return library;
    } else if (name(library) == wanted) {
      require(has_math_library(library), "TUTTI_CPU_MATH={}: not in this build", wanted);
      return library;
    }
  }
  fail("TUTTI_CPU_MATH={}: expected onednn, openblas or own", wanted);
}

std::atomic<MathLibrary>& current() {
  static std::atomic<MathLibrary> library{initial_library()};
  return library;
}

const std::byte* element(const MatrixOperand& m, DType dtype, int64_t i, int64_t j) {
  const int64_t at = m.transposed ? j * m.ld + i : i * m.ld + j;
  return static_cast<const std::byte*>(m.data) + at * size_of(dtype);
}

/// Cuts `size` into equal parts of at most `most`, rounded up to whole vectors.
int64_t tile_size(int64_t size, int64_t most) {
  const int64_t parts = (size + most - 1) / most;
  const int64_t each = (size + parts - 1) / parts;
  return std::min(size, (each + 15) / 16 * 16);
}

struct TileShape {
  int64_t rows, columns;
};

/// The shape of the tiles; depends on the product's shape alone.
TileShape tile_shape(const Gemm& g) {
  int64_t rows = tile_size(g.m, kTileColumnBytes / size_of(g.dtype));
  int64_t columns = tile_size(g.n, kTileRowBytes / size_of(g.dtype));
  const auto tiles = [&] { return ((g.m + rows - 1) / rows) * ((g.n + columns - 1) / columns); };
  while (tiles() < kEnoughTiles && rows * columns / 2 * g.k >= kLeastTile) {
    // The squarer the tile, the less is packed per multiplication.
    if (rows > columns)
      rows = tile_size(g.m, rows / 2);
    else
      columns = tile_size(g.n, columns / 2);
  }
  return {rows, columns};
}

/// A vector of 16 bytes of unsigned integers, which all x86-64 and Arm CPUs support.
template <class U>
struct Vector {
  static constexpr size_t kLanes = 16 / sizeof(U);
  typedef U Type __attribute__((vector_size(16)));
};

/// a0 b0 a1 b1 ... from lane `first` of both vectors.
template <class U, size_t first, size_t... lane>
typename Vector<U>::Type interleave(typename Vector<U>::Type a, typename Vector<U>::Type b,
                                    std::index_sequence<lane...>) {
  return __builtin_shufflevector(a, b, (first + lane / 2 + lane % 2 * Vector<U>::kLanes)...);
}

/// Transposes a square of kLanes rows by log2(kLanes) rounds of interleaving the upper rows with the lower.
template <class U>
void transpose_square(const U* from, int64_t ld, U* to, int64_t ld_to) {
  constexpr size_t kLanes = Vector<U>::kLanes;
  constexpr auto kAll = std::make_index_sequence<kLanes>();
  typename Vector<U>::Type rows[kLanes];
  typename Vector<U>::Type interleaved[kLanes];
  for (size_t i = 0; i < kLanes; ++i) std::memcpy(&rows[i], from + static_cast<int64_t>(i) * ld, 16);
  for (size_t round = 1; round < kLanes; round *= 2) {
    for (size_t i = 0; i < kLanes / 2; ++i) {
      interleaved[2 * i] = interleave<U, 0>(rows[i], rows[i + kLanes / 2], kAll);
      interleaved[2 * i + 1] = interleave<U, kLanes / 2>(rows[i], rows[i + kLanes / 2], kAll);
    }
    std::copy_n(interleaved, kLanes, rows);
  }
  for (size_t i = 0; i < kLanes; ++i) std::memcpy(to + static_cast<int64_t>(i) * ld_to, &rows[i], 16);
}

/// to (rows, columns) = the transpose of from (columns, rows), whose leading dim is ld; `to` is contiguous.
template <class U>
void transpose(const U* from, int64_t ld, U* to, int64_t rows, int64_t columns, const Stream& stream) {
  constexpr int64_t kLanes = Vector<U>::kLanes;
  constexpr int64_t kStrip = 64;  // rows of one task; as many columns are read into the cache at a time
  stream.pool().parallel_for((rows + kStrip - 1) / kStrip, [&](int64_t task) {
    const int64_t last = std::min(rows, (task + 1) * kStrip);
    for (int64_t begin = 0; begin < columns; begin += kStrip) {
      const int64_t end = std::min(columns, begin + kStrip);
      for (int64_t r = task * kStrip; r < last; r += kLanes) {
        for (int64_t c = begin; c < end; c += kLanes) {
          if (r + kLanes <= last && c + kLanes <= end) {
            transpose_square(from + c * ld + r, ld, to + r * columns + c, columns);
            continue;
          }
          for (int64_t i = r; i < std::min(last, r + kLanes); ++i) {
            for (int64_t j = c; j < std::min(end, c + kLanes); ++j)
              std::memcpy(to + i * columns + j, from + j * ld + i, sizeof(U));
          }
        }
      }
    }
  });
}

/// A copy of transposed B that is not transposed. Without it, the library would transpose columns of B for
/// each tile of C again.
Tensor untransposed(const Gemm& g, const Stream& stream) {
  const Tensor b = Tensor::empty({g.k, g.n}, g.dtype, stream);
  const auto run = [&]<class U>(U* to) {
    transpose(static_cast<const U*>(g.b.data), g.b.ld, to, g.k, g.n, stream);
  };
  if (g.dtype == DType::kBFloat16)
    run(static_cast<uint16_t*>(b.raw()));
  else
    run(static_cast<uint32_t*>(b.raw()));
  return b;
}

/// A contiguous fp32 copy of a bf16 matrix of rows x columns, in the same storage order.
std::vector<float> widened(const MatrixOperand& m, int64_t rows, int64_t columns) {
  if (m.transposed) std::swap(rows, columns);
  std::vector<float> copy(static_cast<size_t>(rows * columns));
  const auto* const source = static_cast<const BFloat16*>(m.data);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(source + i * m.ld, columns, copy.data() + i * columns);
  return copy;
}

/// A bf16 product computed in fp32, if the library has no fast bf16 product on this CPU.
void wide_gemm(const Gemm& g) {
  const std::vector<float> a = widened(g.a, g.m, g.k);
  const std::vector<float> b = widened(g.b, g.k, g.n);
  Gemm wide = g;
  wide.dtype = DType::kFloat32;
  wide.a = {a.data(), g.a.transposed ? g.m : g.k, g.a.transposed};
  wide.b = {b.data(), g.b.transposed ? g.k : g.n, g.b.transposed};
  if (g.c_dtype == DType::kFloat32) return gemm_tile(wide);
  std::vector<float> c(static_cast<size_t>(g.m * g.n));
  wide.c = c.data();
  wide.ldc = g.n;
  wide.c_dtype = DType::kFloat32;
  wide.accumulate = false;
  gemm_tile(wide);
  auto* const out = static_cast<BFloat16*>(g.c);
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      BFloat16& y = out[i * g.ldc + j];
      y = BFloat16(c[static_cast<size_t>(i * g.n + j)] + (g.accumulate ? float(y) : 0.0F));
    }
  }
}

}  // namespace

std::string_view name(MathLibrary library) {
  switch (library) {
    case MathLibrary::kOneDnn:
      return "onednn";
    case MathLibrary::kOpenBlas:
      return "openblas";
    case MathLibrary::kOwn:
      return "own";
  }
  return "own";
}

std::string math_library_version(MathLibrary library) {
  switch (library) {
    case MathLibrary::kOneDnn:
      return onednn_version();
    case MathLibrary::kOpenBlas:
      return openblas_version();
    case MathLibrary::kOwn:
      return "own loops";
  }
  return "own loops";
}

bool has_math_library(MathLibrary library) {
  switch (library) {
    case MathLibrary::kOneDnn:
      return !onednn_version().empty();
    case MathLibrary::kOpenBlas:
      return !openblas_version().empty();
    case MathLibrary::kOwn:
      return true;
  }
  return false;
}

MathLibrary math_library() {
  return current().load(std::memory_order_relaxed);
}

void set_math_library(MathLibrary library) {
  require(has_math_library(library), "set_math_library: {} is not in this build", name(library));
  current().store(library, std::memory_order_relaxed);
}

void gemm_tile(const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0) return;
  const MathLibrary library = math_library();
  if (gemm.k == 0 || library == MathLibrary::kOwn) return own_gemm(gemm);
  if (library == MathLibrary::kOneDnn && onednn_gemm(gemm)) return;
  if (gemm.dtype == DType::kBFloat16) return wide_gemm(gemm);
  if (!openblas_gemm(gemm)) own_gemm(gemm);
}

void gemm(const Gemm& whole, const Stream& stream, TileDone done) {
  if (whole.m == 0 || whole.n == 0) return;
  const TileShape most = tile_shape(whole);
  const int64_t rows = most.rows;
  const int64_t columns = most.columns;
  const int64_t row_tiles = (whole.m + rows - 1) / rows;
  const int64_t column_tiles = (whole.n + columns - 1) / columns;
  MatrixOperand b = whole.b;
  Tensor b_copy;
  if (b.transposed && whole.dtype != DType::kFloat64 && whole.m >= kRowsToTransposeFor &&
      math_library() == MathLibrary::kOneDnn) {
    b_copy = untransposed(whole, stream);
    b = {b_copy.raw(), whole.n};
  }
  // Consecutive tasks use the same columns of B.
  stream.pool().parallel_for(row_tiles * column_tiles, [&](int64_t t) {
    const int64_t row = t % row_tiles * rows;
    const int64_t column = t / row_tiles * columns;
    Gemm tile = whole;
    tile.m = std::min(rows, whole.m - row);
    tile.n = std::min(columns, whole.n - column);
    tile.a.data = element(whole.a, whole.dtype, row, 0);
    tile.b = {element(b, whole.dtype, 0, column), b.ld, b.transposed};
    tile.c = static_cast<std::byte*>(whole.c) + (row * whole.ldc + column) * size_of(whole.c_dtype);
    gemm_tile(tile);
    done(row, row + tile.m, column, column + tile.n);
  });
}

void gemm(const Gemm& whole, const Stream& stream) {
  gemm(whole, stream, [](int64_t, int64_t, int64_t, int64_t) {});
}

}  // namespace tutti::cpu
