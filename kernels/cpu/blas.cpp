#include <tutti/kernels/cpu/blas.h>

#include <tutti/kernels/cpu/blas_backends.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

namespace tutti::cpu {
namespace {

// A tile of C: it fits the second-level cache, so that bias and activation find it there, and a step's
// matrices give each thread several. Libraries copy the tile's operands into an order of their own, which
// small tiles pay for more often. 192 x 768 of fp32, 384 x 1536 of bf16.
constexpr int64_t kTileColumnBytes = 768;
constexpr int64_t kTileRowBytes = 3072;
// From this many rows on, B is worth being transposed once for all tiles.
constexpr int64_t kRowsToTransposeFor = 256;

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

/// Cuts `size` into equal parts of at most `most`, rounded up to whole vectors.
int64_t tile_size(int64_t size, int64_t most) {
  const int64_t parts = (size + most - 1) / most;
  const int64_t each = (size + parts - 1) / parts;
  return std::min(size, (each + 15) / 16 * 16);
}

/// to (rows, columns) = from (columns, rows) transposed, both dense but for `from`'s leading dim.
template <class T>
void transpose(const T* from, int64_t ld, T* to, int64_t rows, int64_t columns, const Stream& stream) {
  // Square blocks of one cache line a row. They are turned in a buffer: rows of `to` are often a power of two
  // apart, and fall on the same few places of the first-level cache when written a number at a time.
  constexpr int64_t kBlock = 64 / size_of(dtype_of<T>());
  constexpr int64_t kStrip = 64;  // rows of one task
  stream.pool().parallel_for((rows + kStrip - 1) / kStrip, [&](int64_t task) {
    const int64_t last = std::min(rows, (task + 1) * kStrip);
    T block[kBlock][kBlock];
    for (int64_t c = 0; c < columns; c += kBlock) {
      const int64_t width = std::min(kBlock, columns - c);
      for (int64_t r = task * kStrip; r < last; r += kBlock) {
        const int64_t height = std::min(kBlock, last - r);
        for (int64_t j = 0; j < width; ++j) {
          for (int64_t i = 0; i < height; ++i) block[i][j] = from[(c + j) * ld + r + i];
        }
        for (int64_t i = 0; i < height; ++i) std::copy_n(block[i], width, to + (r + i) * columns + c);
      }
    }
  });
}

/// Every tile of C would have its columns of a transposed B turned anew; this does it once.
Tensor straightened(const Gemm& g, const Stream& stream) {
  const Tensor b = Tensor::empty({g.k, g.n}, g.dtype, stream);
  dispatch_compute(g.dtype, "matrix product", [&]<class T>(TypeTag<T>) {
    transpose(static_cast<const T*>(g.b.data), g.b.ld, b.data<T>(), g.k, g.n, stream);
  });
  return b;
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
  const int64_t rows = tile_size(whole.m, kTileColumnBytes / size_of(whole.dtype));
  const int64_t columns = tile_size(whole.n, kTileRowBytes / size_of(whole.dtype));
  const int64_t row_tiles = (whole.m + rows - 1) / rows;
  const int64_t column_tiles = (whole.n + columns - 1) / columns;
  Matrix b = whole.b;
  Tensor straight;
  if (b.transposed && whole.m >= kRowsToTransposeFor && math_library() == MathLibrary::kOneDnn) {
    straight = straightened(whole, stream);
    b = {straight.raw(), whole.n};
  }
  // Neighbouring tasks share columns of B.
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
