#include <tutti/kernels/cpu/blas.h>

#include <tutti/kernels/cpu/blas_backends.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

namespace tutti::cpu {
namespace {

// A tile of C: as large as the caches allow, small enough that a step's matrices give each thread several.
constexpr int64_t kTileRows = 128;
constexpr int64_t kTileColumns = 768;

MathLibrary initial_library() {
  const char* wanted = std::getenv("TUTTI_CPU_MATH");
  constexpr MathLibrary kAll[] = {MathLibrary::kOneDnn, MathLibrary::kOpenBlas, MathLibrary::kOwn};
  for (const MathLibrary library : kAll) {
    if (wanted == nullptr || *wanted == '\0') {
      if (has_math_library(library)) return library;
    } else if (name(library) == wanted) {
      require(has_math_library(library), "TUTTI_CPU_MATH={}: this build does not have it", wanted);
      return library;
    }
  }
  fail("TUTTI_CPU_MATH={}: expected onednn, openblas or own", wanted);
}

std::atomic<MathLibrary>& current() {
  static std::atomic<MathLibrary> library{initial_library()};
  return library;
}

const std::byte* element(const Matrix& m, DType dtype, int64_t i, int64_t j) {
  const int64_t at = m.transposed ? j * m.ld + i : i * m.ld + j;
  return static_cast<const std::byte*>(m.data) + at * size_of(dtype);
}

/// Columns a tile: whole rows of a narrow C, equal parts of a wide one.
int64_t tile_columns(int64_t n) {
  const int64_t parts = (n + kTileColumns - 1) / kTileColumns;
  const int64_t each = (n + parts - 1) / parts;
  return std::min(n, (each + 63) / 64 * 64);
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
  require(has_math_library(library), "set_math_library: this build does not have {}", name(library));
  current().store(library, std::memory_order_relaxed);
}

void gemm_tile(const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0) return;
  if (gemm.k > 0) {
    switch (math_library()) {
      case MathLibrary::kOneDnn:
        if (onednn_gemm(gemm)) return;
        [[fallthrough]];
      case MathLibrary::kOpenBlas:
        if (openblas_gemm(gemm)) return;
        [[fallthrough]];
      case MathLibrary::kOwn:
        break;
    }
  }
  own_gemm(gemm);
}

void gemm(const Gemm& whole, const Stream& stream, TileDone done) {
  if (whole.m == 0 || whole.n == 0) return;
  const int64_t columns = tile_columns(whole.n);
  const int64_t column_tiles = (whole.n + columns - 1) / columns;
  const int64_t row_tiles = (whole.m + kTileRows - 1) / kTileRows;
  // Neighbouring tasks share rows of A or columns of B; the smaller operand is the one to walk in the inner
  // loop.
  stream.pool().parallel_for(row_tiles * column_tiles, [&](int64_t t) {
    const int64_t row = t % row_tiles * kTileRows;
    const int64_t column = t / row_tiles * columns;
    Gemm tile = whole;
    tile.m = std::min(kTileRows, whole.m - row);
    tile.n = std::min(columns, whole.n - column);
    tile.a.data = element(whole.a, whole.dtype, row, 0);
    tile.b.data = element(whole.b, whole.dtype, 0, column);
    tile.c = static_cast<std::byte*>(whole.c) + (row * whole.ldc + column) * size_of(whole.c_dtype);
    gemm_tile(tile);
    done(row, row + tile.m, column, column + tile.n);
  });
}

void gemm(const Gemm& whole, const Stream& stream) {
  gemm(whole, stream, [](int64_t, int64_t, int64_t, int64_t) {});
}

}  // namespace tutti::cpu
