#include <tutti/kernels/embedding.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/on_cuda.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tutti {
namespace {

struct Occurrence {
  int64_t token;
  int64_t position;
};

/// Adds each row of dy to the row of its token in the table's gradient. Each task processes a range of the
/// vocabulary; the order of `sorted` (by token, then position) is that of the additions.
template <class T, class G>
void scatter(const std::vector<Occurrence>& sorted, const Tensor& dy, const Tensor& destination,
             GradMode mode, const Stream& stream) {
  using A = Accumulate<T>;
  const int64_t vocabulary = destination.size(0);
  const int64_t width = destination.size(1);
  const T* d = dy.data<T>();
  G* out = destination.data<G>();
  const int64_t rows = std::max<int64_t>(1, (vocabulary + 255) / 256);
  for_ranges(stream, vocabulary, rows, [&](int64_t begin, int64_t end) {
    auto next = std::lower_bound(sorted.begin(), sorted.end(), begin,
                                 [](const Occurrence& o, int64_t token) { return o.token < token; });
    constexpr int64_t kPiece = 256;
    A sums[kPiece];
    for (int64_t token = begin; token < end; ++token) {
      const auto first = next;
      while (next != sorted.end() && next->token == token) ++next;
      G* row = out + token * width;
      if (first == next) {
        if (mode == GradMode::kOverwrite) {
          for (int64_t c = 0; c < width; ++c) row[c] = G(Accumulate<G>(0));
        }
        continue;
      }
      for (int64_t at = 0; at < width; at += kPiece) {
        const int64_t n = std::min(kPiece, width - at);
        for (int64_t c = 0; c < n; ++c) sums[c] = mode == GradMode::kOverwrite ? A(0) : A(row[at + c]);
        for (auto it = first; it != next; ++it) {
          const T* from = d + it->position * width + at;
          for (int64_t c = 0; c < n; ++c) sums[c] += A(from[c]);
        }
        for (int64_t c = 0; c < n; ++c) row[at + c] = G(Accumulate<G>(sums[c]));
      }
    }
  });
}

Var embedding_on_cuda(Tape& tape, const Var& table, const Tensor& tokens) {
  if constexpr (kWithCuda) {
    const Stream& stream = tape.stream();
    const Tensor rows = table.value.to_contiguous(stream);
    const Tensor given = tokens.to(tokens.dtype(), stream).to_contiguous(stream);
    Shape shape = given.shape();
    shape.push_back(rows.size(1));
    const Tensor y = Tensor::empty(shape, rows.dtype(), stream);
    cuda::embedding(rows, given, y, stream);
    return tape.record("embedding", y, {table},
                       [given, stream](const Tensor& dy, const Gradients& gradients) {
                         cuda::embedding_backward(dy, given, gradients.slot(0), stream);
                       });
  } else {
    fail("embedding: this build has no kernel for {}", name(tape.stream().device()));
  }
}

}  // namespace

Var embedding(Tape& tape, const Var& table, const Tensor& tokens) {
  require(table.value.dims() == 2, "embedding: the table has shape {}, expected (V, C)",
          to_string(table.shape()));
  const Stream& stream = tape.stream();
  if (on_cuda(stream)) return embedding_on_cuda(tape, table, tokens);
  const Tensor rows = table.value.to_contiguous(stream);
  const Tensor given = tokens.to_contiguous(stream);
  const int64_t vocabulary = rows.size(0);
  const int64_t count = given.numel();
  std::vector<Occurrence> occurrences;
  occurrences.reserve(static_cast<size_t>(count));
  dispatch_index(given.dtype(), "embedding", [&]<class I>(TypeTag<I>) {
    const I* token = given.data<I>();
    for (int64_t i = 0; i < count; ++i) {
      require(token[i] >= 0 && token[i] < vocabulary, "embedding: token {} at position {} is outside [0, {})",
              token[i], i, vocabulary);
      occurrences.push_back({token[i], i});
    }
  });
  Shape shape = given.shape();
  shape.push_back(rows.size(1));
  const Tensor y = Tensor::empty(shape, rows.dtype(), stream);
  const auto bytes = static_cast<size_t>(rows.size(1) * size_of(rows.dtype()));
  const auto* from = static_cast<const std::byte*>(rows.raw());
  auto* to = static_cast<std::byte*>(y.raw());
  stream.pool().parallel_ranges(count, rows_per_task(rows.size(1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto token = static_cast<size_t>(occurrences[static_cast<size_t>(i)].token);
      std::memcpy(to + static_cast<size_t>(i) * bytes, from + token * bytes, bytes);
    }
  });
  return tape.record(
      "embedding", y, {table},
      [occurrences = std::move(occurrences), stream](const Tensor& dy, const Gradients& gradients) mutable {
        std::sort(occurrences.begin(), occurrences.end(), [](const Occurrence& a, const Occurrence& b) {
          return a.token != b.token ? a.token < b.token : a.position < b.position;
        });
        const auto slot = gradients.slot(0);
        dispatch_compute(dy.dtype(), "embedding", [&]<class T>(TypeTag<T>) {
          dispatch_compute(slot.tensor.dtype(), "embedding", [&]<class G>(TypeTag<G>) {
            scatter<T, G>(occurrences, dy, slot.tensor, slot.mode, stream);
          });
        });
      });
}

}  // namespace tutti
