#include "kernels/cuda/embedding.h"
#include "kernels/cuda/launch.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <bit>
#include <limits>

namespace tutti::cuda {
namespace {

/// One thread per kCount elements of the output. Memory traffic: 2 tokens C sizeof(T), less if rows repeat.
template <class T, class I, int kCount>
struct Gather {
  using Part = row::Pack<T, kCount>;
  const T* table;
  const I* tokens;
  T* y;
  int64_t vocabulary;
  int64_t parts;  // parts of a row
  __device__ void operator()(int64_t i) const {
    const auto token = static_cast<int64_t>(tokens[i / parts]);
    Part part;
    if (token >= 0 && token < vocabulary) {
      part = reinterpret_cast<const Part*>(table)[token * parts + i % parts];
    } else {
      for (int k = 0; k < kCount; ++k) part.at[k] = T(Accumulate<T>(__builtin_nanf("")));
    }
    reinterpret_cast<Part*>(y)[i] = part;
  }
};

template <class I>
struct FillKeys {
  const I* tokens;
  uint32_t* keys;
  int32_t* positions;
  int64_t vocabulary;
  __device__ void operator()(int64_t i) const {
    const auto token = static_cast<int64_t>(tokens[i]);
    keys[i] = static_cast<uint32_t>(token >= 0 && token < vocabulary ? token : vocabulary);
    positions[i] = static_cast<int32_t>(i);
  }
};

constexpr int64_t kPiece = 32;  // occurrences that one block adds

/// Sorted occurrences, in pieces. A run is all occurrences of one token. The sum of a run within one piece is
/// written to the gradient. For a longer run, each of its pieces writes a partial sum: to part 0 of the piece
/// if the run began in an earlier piece, to part 1 if it begins in this piece.
template <class T, class G>
struct Runs {
  using A = Accumulate<T>;
  const uint32_t* keys;
  const int32_t* positions;
  const T* dy;
  A* parts;  // (pieces, 2, C)
  G* gradient;
  bool accumulate;
  int64_t count;
  int64_t width;
  int64_t vocabulary;

  __device__ int64_t end_of(int64_t piece) const {
    return (piece + 1) * kPiece < count ? (piece + 1) * kPiece : count;
  }
  /// Whether occurrence i has the same token as the one before it.
  __device__ bool continues(int64_t i) const { return i > 0 && i < count && keys[i - 1] == keys[i]; }
  template <int kCount>
  __device__ void emit(uint32_t token, int64_t column, const row::Pack<A, kCount>& sum) const {
    if (token >= vocabulary) return;
    auto& out = reinterpret_cast<row::Pack<G, kCount>&>(gradient[token * width + column]);
    auto pack = row::Pack<G, kCount>{};
    if (accumulate) pack = out;
    for (int k = 0; k < kCount; ++k) pack.at[k] = G(Accumulate<G>(A(pack.at[k]) + sum.at[k]));
    out = pack;
  }
};

/// One block per piece; a lane adds kCount adjacent columns, with several loads in flight. Memory traffic:
/// tokens C sizeof(T), and the rows of the gradient.
template <class T, class G, int kCount>
struct AddPieces {
  Runs<T, G> runs;
  template <class Team>
  __device__ void operator()(Team& team, int64_t piece) const {
    constexpr int kAtOnce = 4;
    const int64_t begin = piece * kPiece;
    const int64_t end = runs.end_of(piece);
    for (int64_t c = team.lane() * kCount; c < runs.width; c += team.lanes() * kCount) {
      Sum sum{};
      bool first = true;  // first run of this piece
      for (int64_t i = begin; i < end; i += kAtOnce) {
        row::Pack<T, kCount> in[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int64_t from = runs.positions[i + k < end ? i + k : i];
          in[k] = *reinterpret_cast<const row::Pack<T, kCount>*>(runs.dy + from * runs.width + c);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          if (i + k < end) add(piece, i + k, c, in[k], sum, first);
        }
      }
    }
  }

 private:
  using A = Accumulate<T>;
  using Sum = row::Pack<A, kCount>;
  /// Adds occurrence i, and passes the sum on where its run or the piece ends.
  __device__ void add(int64_t piece, int64_t i, int64_t c, const row::Pack<T, kCount>& in, Sum& sum,
                      bool& first) const {
    for (int j = 0; j < kCount; ++j) sum.at[j] += A(in.at[j]);
    const bool goes_on = runs.continues(i + 1);
    if (goes_on && i + 1 < runs.end_of(piece)) return;
    A* const parts = runs.parts + 2 * piece * runs.width + c;
    if (first && runs.continues(piece * kPiece))
      *reinterpret_cast<Sum*>(parts) = sum;
    else if (goes_on)
      *reinterpret_cast<Sum*>(parts + runs.width) = sum;
    else
      runs.emit(runs.keys[i], c, sum);
    sum = Sum{};
    first = false;
  }
};

/// Adds the partial sums of the run that begins in a piece and continues in the next.
template <class T, class G>
struct JoinRuns {
  Runs<T, G> runs;
  template <class Team>
  __device__ void operator()(Team& team, int64_t piece) const {
    const int64_t end = runs.end_of(piece);
    if (!runs.continues(end)) return;
    const uint32_t key = runs.keys[end];
    if (runs.keys[piece * kPiece] == key && runs.continues(piece * kPiece)) return;  // began earlier
    int64_t last = piece + 1;
    while (runs.continues(runs.end_of(last))) {
      if (runs.keys[runs.end_of(last)] != key) break;
      ++last;
    }
    for (int64_t c = team.lane(); c < runs.width; c += team.lanes()) {
      auto sum = runs.parts[(2 * piece + 1) * runs.width + c];
      for (int64_t p = piece + 1; p <= last; ++p) sum += runs.parts[2 * p * runs.width + c];
      runs.emit(key, c, row::Pack<decltype(sum), 1>{{sum}});
    }
  }
};

template <class Pack>
bool is_aligned(const Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.raw()) % alignof(Pack) == 0;
}

struct Sorted {
  Tensor keys;       // (count) uint32, stored as int32
  Tensor positions;  // (count) int32
};

/// Sorts occurrences by token, and by position for equal tokens, as the sort is stable. The key of a token
/// outside the vocabulary is behind all others.
Sorted sort_occurrences(const Tensor& tokens, int64_t vocabulary, const Stream& stream) {
  const int64_t count = tokens.numel();
  require(count < std::numeric_limits<int32_t>::max(), "embedding: {} tokens", count);
  const auto fresh = [&] { return Tensor::empty({count}, DType::kInt32, stream); };
  const Tensor keys = fresh();
  const Tensor positions = fresh();
  const Sorted sorted{fresh(), fresh()};
  const auto unsigned_data = [](const Tensor& t) { return reinterpret_cast<uint32_t*>(t.data<int32_t>()); };
  dispatch_index(tokens.dtype(), "embedding", [&]<class I>(TypeTag<I>) {
    for_elements("embedding keys", count, stream,
                 FillKeys<I>{tokens.data<I>(), unsigned_data(keys), positions.data<int32_t>(), vocabulary});
  });
  const UseDevice use(stream.device().index);
  size_t bytes = 0;
  const auto sort = [&](void* scratch) {
    check(cub::DeviceRadixSort::SortPairs(
              scratch, bytes, static_cast<const uint32_t*>(unsigned_data(keys)), unsigned_data(sorted.keys),
              static_cast<const int32_t*>(positions.data<int32_t>()), sorted.positions.data<int32_t>(),
              static_cast<int>(count), 0, std::bit_width(static_cast<uint64_t>(vocabulary)), native(stream)),
          "cub::DeviceRadixSort::SortPairs");
  };
  sort(nullptr);  // writes the size of its scratch memory to `bytes`
  const Tensor scratch = Tensor::empty({static_cast<int64_t>(bytes)}, DType::kUInt8, stream);
  sort(scratch.raw());
  return sorted;
}

}  // namespace

void embedding(const Tensor& table, const Tensor& tokens, const Tensor& y, const Stream& stream) {
  for (const Tensor* t : {&table, &tokens, &y}) require_here("embedding", *t, stream);
  if (y.numel() == 0) return;
  const int64_t width = table.size(1);
  dispatch_compute(table.dtype(), "embedding", [&]<class T>(TypeTag<T>) {
    dispatch_index(tokens.dtype(), "embedding", [&]<class I>(TypeTag<I>) {
      const auto gather = [&]<int kCount>(std::integral_constant<int, kCount>) {
        for_elements("embedding", y.numel() / kCount, stream,
                     Gather<T, I, kCount>{.table = table.data<T>(),
                                          .tokens = tokens.data<I>(),
                                          .y = y.data<T>(),
                                          .vocabulary = table.size(0),
                                          .parts = width / kCount});
      };
      if (width % row::kWide<T> == 0 && aligned16(table.raw(), y.raw()))
        gather(std::integral_constant<int, row::kWide<T>>{});
      else
        gather(std::integral_constant<int, 1>{});
    });
  });
}

void embedding_backward(const Tensor& dy, const Tensor& tokens, const Gradients::Slot& gradient,
                        const Stream& stream) {
  const Tensor& table = gradient.tensor;
  for (const Tensor* t : {&dy, &tokens, &table}) require_here("embedding_backward", *t, stream);
  const bool accumulate = gradient.mode == GradMode::kAccumulate;
  if (!accumulate) fill(table, 0, stream);
  const int64_t count = tokens.numel();
  const int64_t width = table.size(1);
  if (count == 0 || width == 0) return;
  const Sorted sorted = sort_occurrences(tokens, table.size(0), stream);
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  dispatch_compute(dy.dtype(), "embedding", [&]<class T>(TypeTag<T>) {
    dispatch_compute(table.dtype(), "embedding", [&]<class G>(TypeTag<G>) {
      using A = Accumulate<T>;
      const Tensor parts = Tensor::empty({pieces, 2, width}, dtype_of<A>(), stream);
      const Runs<T, G> runs{.keys = reinterpret_cast<const uint32_t*>(sorted.keys.data<int32_t>()),
                            .positions = sorted.positions.data<int32_t>(),
                            .dy = dy.data<T>(),
                            .parts = parts.data<A>(),
                            .gradient = table.data<G>(),
                            .accumulate = accumulate,
                            .count = count,
                            .width = width,
                            .vocabulary = table.size(0)};
      const Grid grid{blocks_of_rows(pieces), kThreads};
      const auto add = [&]<int kCount>(std::integral_constant<int, kCount>) {
        launch("embedding_backward", stream, grid, block_rows_kernel<AddPieces<T, G, kCount>>, pieces,
               AddPieces<T, G, kCount>{runs});
      };
      constexpr int kCount = 4;  // a row of 768 columns occupies 192 of 256 threads
      if (width % kCount == 0 && is_aligned<row::Pack<T, kCount>>(dy) &&
          is_aligned<row::Pack<G, kCount>>(table))
        add(std::integral_constant<int, kCount>{});
      else
        add(std::integral_constant<int, 1>{});
      launch("embedding_backward", stream, grid, block_rows_kernel<JoinRuns<T, G>>, pieces,
             JoinRuns<T, G>{runs});
    });
  });
}

}  // namespace tutti::cuda
