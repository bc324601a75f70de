#include <tutti/kernels/attention.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/row/softmax_block.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

constexpr int64_t kQueryBlock = 64;
// Keys are processed in blocks, so that the products have few different shapes.
constexpr int64_t kKeyBlock = 256;

struct Sizes {
  int64_t batch, queries, width, head_dim, heads, kv_heads;
  bool causal;
  double scale;
  int64_t window;  // 0: none
  double softcap;

  [[nodiscard]] int64_t q_width() const { return heads * head_dim; }
  [[nodiscard]] int64_t kv_width() const { return kv_heads * head_dim; }
  [[nodiscard]] int64_t group() const { return heads / kv_heads; }
  [[nodiscard]] int64_t query_blocks() const { return (queries + kQueryBlock - 1) / kQueryBlock; }
};

Sizes check_sizes(const Tensor& qkv, const AttentionConfig& config) {
  require(qkv.defined() && qkv.dims() == 3, "attention: needs qkv (B, T, (heads + 2 kv_heads) * D), got {}",
          to_string(qkv.shape()));
  require(config.heads >= 1 && config.kv_heads >= 1 && config.heads % config.kv_heads == 0,
          "attention: {} heads over {} key and value heads", config.heads, config.kv_heads);
  const int64_t parts = config.heads + 2 * config.kv_heads;
  require(qkv.size(2) > 0 && qkv.size(2) % parts == 0,
          "attention: the last dim of {} does not divide into {} query and 2 x {} key and value heads",
          to_string(qkv.shape()), config.heads, config.kv_heads);
  Sizes s{qkv.size(0),     qkv.size(1),   qkv.size(2),  qkv.size(2) / parts, config.heads,
          config.kv_heads, config.causal, config.scale, config.window,       config.softcap};
  require(config.window >= 0 && (config.window == 0 || config.causal) && config.softcap >= 0,
          "attention: window {}{}, soft cap {}: neither may be negative, and a window needs a causal mask",
          config.window, config.causal ? "" : " without a causal mask", config.softcap);
  if (s.scale == 0) s.scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  return s;
}

/// A block of query rows of one head, and the keys that are visible to it.
struct Block {
  int64_t rows;      // queries
  int64_t position;  // position of the first query, counted from the first key
  int64_t keys;      // keys up to the last one that is visible to the last query
  int64_t head_dim;
  bool causal;
  int64_t window;

  /// The keys that are visible to a row: [hidden(row), visible(row)).
  [[nodiscard]] int64_t visible(int64_t row) const {
    return causal ? std::min(keys, position + row + 1) : keys;
  }
  [[nodiscard]] int64_t hidden(int64_t row) const {
    return window == 0 ? 0 : std::max<int64_t>(0, position + row + 1 - window);
  }
};

/// `rows` queries from position `first`, to which at most `keys` keys are visible. Keys before all of their
/// windows are skipped: the keys of the block begin with key `skipped`.
struct Cut {
  Block block;
  int64_t skipped;
};

Cut cut(const Sizes& s, int64_t rows, int64_t first, int64_t keys) {
  const int64_t skipped = s.window == 0 ? 0 : std::max<int64_t>(0, first + 1 - s.window);
  const int64_t last = s.causal ? first + rows : keys;
  return {{rows, first - skipped, last - skipped, s.head_dim, s.causal, s.window}, skipped};
}

/// Factor and soft cap of scores before the softmax.
struct Scoring {
  double scale, softcap;
};

/// Calls f(first key, number of keys) for blocks of keys.
template <class F>
void for_key_blocks(int64_t keys, F f) {
  for (int64_t k = 0; k < keys; k += kKeyBlock) f(k, std::min(kKeyBlock, keys - k));
}

/// scores (rows, ld) = q k^T.
template <class T>
void scores(const Block& b, const T* q, int64_t ldq, const T* k, int64_t ldk, Accumulate<T>* s, int64_t ld) {
  for_key_blocks(b.keys, [&](int64_t first, int64_t count) {
    cpu::gemm_tile({.m = b.rows,
                    .n = count,
                    .k = b.head_dim,
                    .dtype = dtype_of<T>(),
                    .a = {q, ldq},
                    .b = {k + first * ldk, ldk, true},
                    .c = s + first,
                    .ldc = ld,
                    .c_dtype = dtype_of<Accumulate<T>>()});
  });
}

/// out (rows, ldo) = p v; p is (rows, ld).
template <class T>
void weighted(const Block& b, const T* p, int64_t ld, const T* v, int64_t ldv, Accumulate<T>* out,
              int64_t ldo) {
  for_key_blocks(b.keys, [&](int64_t first, int64_t count) {
    cpu::gemm_tile({.m = b.rows,
                    .n = b.head_dim,
                    .k = count,
                    .dtype = dtype_of<T>(),
                    .a = {p + first, ld},
                    .b = {v + first * ldv, ldv},
                    .c = out,
                    .ldc = ldo,
                    .c_dtype = dtype_of<Accumulate<T>>(),
                    .accumulate = first > 0});
  });
}

/// Sums over query blocks: `out` has one row per key, ld elements apart.
template <class A>
struct KeySums {
  A* out;
  int64_t ld;
  [[nodiscard]] KeySums from(int64_t key) const { return {out + key * ld, ld}; }
};

/// sums (keys, D) = or += p^T x; p is (rows, ld), x is (rows, D).
template <class T>
void weighted_transposed(const Block& b, const T* p, int64_t ld, const T* x, int64_t ldx,
                         const KeySums<Accumulate<T>>& sums, bool accumulate) {
  for_key_blocks(b.keys, [&](int64_t first, int64_t count) {
    cpu::gemm_tile({.m = count,
                    .n = b.head_dim,
                    .k = b.rows,
                    .dtype = dtype_of<T>(),
                    .a = {p + first, ld, true},
                    .b = {x, ldx},
                    .c = sums.out + first * sums.ld,
                    .ldc = sums.ld,
                    .c_dtype = dtype_of<Accumulate<T>>(),
                    .accumulate = accumulate});
  });
}

/// The operands of one query block; leading dims in elements.
template <class T>
struct ForwardBlock {
  Block block;
  const T *q, *k, *v;
  int64_t ldq, ldkv;
  T* out;
  int64_t ldo;
  Accumulate<T>* lse;  // (rows); nullptr in inference
};

template <class T>
void forward_block(const ForwardBlock<T>& f, const Scoring& scoring, int64_t ld, const Stream& stream) {
  using A = Accumulate<T>;
  const Block& b = f.block;
  const Tensor scratch = Tensor::empty({b.rows * (ld + b.head_dim + 1)}, dtype_of<A>(), stream);
  A* const s = scratch.data<A>();
  A* const sum = s + b.rows * ld;
  A* const o = sum + b.rows;
  // Probabilities in T: they overwrite the scores if T is A.
  const Tensor narrow = std::is_same_v<T, A> ? scratch : Tensor::empty({b.rows * ld}, dtype_of<T>(), stream);
  T* const p = narrow.data<T>();
  scores(b, f.q, f.ldq, f.k, f.ldkv, s, ld);
  const auto cap = static_cast<A>(scoring.softcap);
  const A scale = cap > 0 ? A(1) : static_cast<A>(scoring.scale);
  run_best_isa([&] {
    SerialTeam team;
    for (int64_t r = 0; r < b.rows; ++r) {
      A maximum = 0;
      const int64_t hidden = b.hidden(r);
      A* const from = s + r * ld + hidden;
      T* const to = p + r * ld + hidden;
      if (cap > 0) row::cap_scores(team, from, b.visible(r) - hidden, static_cast<A>(scoring.scale), cap);
      row::score_row(team, from, to, b.visible(r) - hidden, b.keys - hidden, scale, sum[r], maximum);
      std::fill(to - hidden, to, T(A(0)));
      if (f.lse != nullptr) f.lse[r] = maximum + math::log(sum[r]);
    }
  });
  weighted(b, p, ld, f.v, f.ldkv, o, b.head_dim);
  run_best_isa([&] {
    for (int64_t r = 0; r < b.rows; ++r) {
      const A inverse = A(1) / sum[r];
      for (int64_t i = 0; i < b.head_dim; ++i) f.out[r * f.ldo + i] = T(o[r * b.head_dim + i] * inverse);
    }
  });
}

int64_t padded(int64_t keys) {
  return (keys + 63) / 64 * 64;
}

template <class T>
void forward(const Sizes& s, const Tensor& qkv, const Tensor& out, const Tensor& lse, const Stream& stream) {
  const T* const data = qkv.data<T>();
  stream.pool().parallel_for(s.batch * s.heads * s.query_blocks(), [&](int64_t task) {
    // The longest blocks of a head first, for load balance.
    const int64_t first = (s.query_blocks() - 1 - task % s.query_blocks()) * kQueryBlock;
    const int64_t head = task / s.query_blocks() % s.heads;
    const int64_t b = task / s.query_blocks() / s.heads;
    const int64_t rows = std::min(kQueryBlock, s.queries - first);
    const T* const sample = data + b * s.queries * s.width;
    const auto [block, skipped] = cut(s, rows, first, s.queries);
    const T* const keys = sample + skipped * s.width + s.q_width() + head / s.group() * s.head_dim;
    forward_block<T>(
        {.block = block,
         .q = sample + first * s.width + head * s.head_dim,
         .k = keys,
         .v = keys + s.kv_width(),
         .ldq = s.width,
         .ldkv = s.width,
         .out = out.data<T>() + (b * s.queries + first) * s.q_width() + head * s.head_dim,
         .ldo = s.q_width(),
         .lse =
             lse.defined() ? lse.data<Accumulate<T>>() + (b * s.heads + head) * s.queries + first : nullptr},
        {s.scale, s.softcap}, padded(s.queries), stream);
  });
}

/// Rounds rows of D sums to T and writes them ld elements apart.
template <class T>
void round_rows(const Accumulate<T>* from, T* to, int64_t rows, int64_t head_dim, int64_t ld) {
  run_best_isa([&] {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < head_dim; ++i) to[r * ld + i] = T(from[r * head_dim + i]);
    }
  });
}

/// With a window, no query block writes the sums of all keys: all blocks add to sums that begin with 0.
template <class T>
void clear_keys(const Sizes& s, const KeySums<Accumulate<T>>& dk, const KeySums<Accumulate<T>>& dv) {
  for (int64_t key = 0; key < s.queries; ++key) {
    std::fill_n(dk.from(key).out, s.head_dim, Accumulate<T>(0));
    std::fill_n(dv.from(key).out, s.head_dim, Accumulate<T>(0));
  }
}

/// Gradients of one key and value head of one sample and of all its query heads.
template <class T>
void backward_head(const Sizes& s, const T* qkv, const T* out, const T* dout, const Accumulate<T>* lse,
                   T* dqkv, int64_t kv_head, const Stream& stream) {
  using A = Accumulate<T>;
  constexpr bool kNarrow =
      !std::is_same_v<T, A>;  // sums are in scratch memory and rounded at the end; else in dqkv
  const int64_t d = s.head_dim;
  const int64_t ld = padded(s.queries);
  const Tensor scratch = Tensor::empty({kQueryBlock * (2 * ld + d + 1) + (kNarrow ? 2 * s.queries * d : 0)},
                                       dtype_of<A>(), stream);
  A* const score = scratch.data<A>();
  A* const dp = score + kQueryBlock * ld;
  A* const dq_sums = dp + kQueryBlock * ld;
  A* const delta = dq_sums + kQueryBlock * d;
  const Tensor narrow = kNarrow ? Tensor::empty({2 * kQueryBlock * ld}, dtype_of<T>(), stream) : scratch;
  T* const p = narrow.data<T>();
  T* const ds = p + kQueryBlock * ld;
  const T* const k = qkv + s.q_width() + kv_head * d;
  const T* const v = k + s.kv_width();
  T* const dk_out = dqkv + s.q_width() + kv_head * d;
  T* const dv_out = dk_out + s.kv_width();
  KeySums<A> dk{delta + kQueryBlock, d};
  KeySums<A> dv{dk.out + s.queries * d, d};
  if constexpr (!kNarrow) {
    dk = {dk_out, s.width};
    dv = {dv_out, s.width};
  }
  const auto scale = static_cast<A>(s.scale);
  const auto cap = static_cast<A>(s.softcap);
  if (s.window > 0) clear_keys<T>(s, dk, dv);
  for (int64_t head = kv_head * s.group(); head < (kv_head + 1) * s.group(); ++head) {
    // All keys are visible to the last block of queries: it is first, and writes the sums that the others add
    // to.
    for (int64_t block = s.query_blocks() - 1; block >= 0; --block) {
      const bool adds = s.window > 0 || head > kv_head * s.group() || block < s.query_blocks() - 1;
      const int64_t first = block * kQueryBlock;
      const int64_t rows = std::min(kQueryBlock, s.queries - first);
      const Cut part = cut(s, rows, first, s.queries);  // clang's OpenMP cannot capture structured bindings
      const Block& b = part.block;
      const int64_t skipped = part.skipped;
      const T* const k_visible = k + skipped * s.width;
      const T* const v_visible = v + skipped * s.width;
      const T* const q = qkv + first * s.width + head * d;
      const T* const o = out + first * s.q_width() + head * d;
      const T* const g = dout + first * s.q_width() + head * d;
      scores(b, q, s.width, k_visible, s.width, score, ld);
      scores(b, g, s.q_width(), v_visible, s.width, dp, ld);
      run_best_isa([&] {
        SerialTeam team;
        for (int64_t r = 0; r < rows; ++r) {
          A sum = 0;
          for (int64_t i = 0; i < d; ++i) {
            sum += static_cast<A>(o[r * s.q_width() + i]) * static_cast<A>(g[r * s.q_width() + i]);
          }
          delta[r] = sum;
          const int64_t hidden = b.hidden(r);
          const int64_t at = r * ld + hidden;
          const int64_t visible = b.visible(r) - hidden;
          const A row_lse = lse[head * s.queries + first + r];
          if (cap > 0) {
            row::capped_row_backward(team, score + at, dp + at, p + at, ds + at, visible, b.keys - hidden,
                                     scale, cap, row_lse, delta[r]);
          } else {
            row::score_row_backward(team, score + at, dp + at, p + at, ds + at, visible, b.keys - hidden,
                                    scale, row_lse, delta[r]);
          }
          std::fill(p + r * ld, p + at, T(A(0)));
          std::fill(ds + r * ld, ds + at, T(A(0)));
        }
      });
      weighted_transposed(b, p, ld, g, s.q_width(), dv.from(skipped), adds);
      weighted_transposed(b, ds, ld, q, s.width, dk.from(skipped), adds);
      T* const dq = dqkv + first * s.width + head * d;
      if constexpr (kNarrow) {
        weighted(b, ds, ld, k_visible, s.width, dq_sums, d);
        round_rows(dq_sums, dq, rows, d, s.width);
      } else {
        weighted(b, ds, ld, k_visible, s.width, dq, s.width);
      }
    }
  }
  if constexpr (kNarrow) {
    round_rows(dk.out, dk_out, s.queries, d, s.width);
    round_rows(dv.out, dv_out, s.queries, d, s.width);
  }
}

DType accumulate_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

[[maybe_unused]] cuda::AttentionHeads heads_of(const Sizes& s) {
  return {s.heads, s.kv_heads, s.head_dim, s.causal, s.scale};
}

/// Throws Error for soft caps and for windows shorter than the sequence, for which there are no CUDA kernels.
[[maybe_unused]] void require_plain(const Sizes& s, int64_t keys) {
  require(s.softcap == 0 && (s.window == 0 || s.window >= keys),
          "attention: a {} is not supported on CUDA, only on the CPU (run.device: cpu)",
          s.softcap > 0 ? fmt::format("soft cap of {}", s.softcap)
                        : fmt::format("window of {} of {} positions", s.window, keys));
}

/// `lse` is undefined in inference.
void run_forward(const Sizes& s, const Tensor& qkv, const Tensor& out, const Tensor& lse,
                 const Stream& stream) {
  dispatch_compute(qkv.dtype(), "attention", [](auto) {});
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      require_plain(s, s.queries);
      return cuda::attention(heads_of(s), qkv, out, lse, stream);
    }
  }
  dispatch_compute(qkv.dtype(), "attention",
                   [&]<class T>(TypeTag<T>) { forward<T>(s, qkv, out, lse, stream); });
}

void run_backward(const Sizes& s, const Tensor& in, const Tensor& out, const Tensor& lse, const Tensor& dy,
                  const Tensor& dqkv, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::attention_backward(heads_of(s), in, out, lse, dy, dqkv, stream);
  }
  dispatch_compute(in.dtype(), "attention", [&]<class T>(TypeTag<T>) {
    stream.pool().parallel_for(s.batch * s.kv_heads, [&](int64_t task) {
      const int64_t b = task / s.kv_heads;
      const int64_t rows = b * s.queries;
      backward_head<T>(s, in.data<T>() + rows * s.width, out.data<T>() + rows * s.q_width(),
                       dy.data<T>() + rows * s.q_width(), lse.data<Accumulate<T>>() + rows * s.heads,
                       dqkv.data<T>() + rows * s.width, task % s.kv_heads, stream);
    });
  });
}

}  // namespace

Var attention(Tape& tape, const Var& qkv, const AttentionConfig& config) {
  const Stream& stream = tape.stream();
  const Sizes s = check_sizes(qkv.value, config);
  const Tensor in = qkv.value.to_contiguous(stream);
  const Tensor out = Tensor::empty({s.batch, s.queries, s.q_width()}, in.dtype(), stream);
  const bool saves = tape.recording() && qkv.needs_grad();
  const Tensor lse =
      saves ? Tensor::empty({s.batch, s.heads, s.queries}, accumulate_dtype(in.dtype()), stream) : Tensor();
  run_forward(s, in, out, lse, stream);
  return tape.record("attention", out, {qkv},
                     [s, in, out, lse, stream](const Tensor& dy, const Gradients& gradients) {
                       const Tensor dqkv = Tensor::empty(in.shape(), in.dtype(), stream);
                       run_backward(s, in, out, lse, dy, dqkv, stream);
                       gradients.add(0, dqkv);
                     });
}

Tensor attention_with_cache(const Stream& stream, const Tensor& qkv, const Tensor& k_cache,
                            const Tensor& v_cache, int64_t used, const AttentionConfig& config) {
  const Sizes s = check_sizes(qkv, config);
  const auto fits = [&](const Tensor& cache) {
    return cache.defined() && cache.dims() == 3 && cache.contiguous() && cache.size(0) == s.batch &&
           cache.size(2) == s.kv_width() && cache.dtype() == qkv.dtype();
  };
  require(fits(k_cache) && fits(v_cache) && k_cache.shape() == v_cache.shape(),
          "attention_with_cache: caches {} and {} do not fit qkv {}", to_string(k_cache.shape()),
          to_string(v_cache.shape()), to_string(qkv.shape()));
  const int64_t capacity = k_cache.size(1);
  require(used >= 0 && used + s.queries <= capacity,
          "attention_with_cache: {} + {} positions in a cache of {}", used, s.queries, capacity);
  const int64_t keys = used + s.queries;
  copy(k_cache.slice(1, used, keys), qkv.slice(2, s.q_width(), s.q_width() + s.kv_width()), stream);
  copy(v_cache.slice(1, used, keys), qkv.slice(2, s.q_width() + s.kv_width(), s.width), stream);
  const Tensor in = qkv.to_contiguous(stream);
  const Tensor out = Tensor::empty({s.batch, s.queries, s.q_width()}, in.dtype(), stream);
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      dispatch_compute(in.dtype(), "attention_with_cache", [](auto) {});
      require_plain(s, keys);
      cuda::attention_by_blocks(
          heads_of(s),
          {in.slice(2, 0, s.q_width()), k_cache.slice(1, 0, keys), v_cache.slice(1, 0, keys), out, Tensor()},
          stream);
      return out;
    }
  }
  dispatch_compute(in.dtype(), "attention_with_cache", [&]<class T>(TypeTag<T>) {
    stream.pool().parallel_for(s.batch * s.heads * s.query_blocks(), [&](int64_t task) {
      const int64_t first = task % s.query_blocks() * kQueryBlock;
      const int64_t head = task / s.query_blocks() % s.heads;
      const int64_t b = task / s.query_blocks() / s.heads;
      const int64_t rows = std::min(kQueryBlock, s.queries - first);
      const auto [block, skipped] = cut(s, rows, used + first, keys);
      const int64_t at = (b * capacity + skipped) * s.kv_width() + head / s.group() * s.head_dim;
      forward_block<T>({.block = block,
                        .q = in.data<T>() + (b * s.queries + first) * s.width + head * s.head_dim,
                        .k = k_cache.data<T>() + at,
                        .v = v_cache.data<T>() + at,
                        .ldq = s.width,
                        .ldkv = s.kv_width(),
                        .out = out.data<T>() + (b * s.queries + first) * s.q_width() + head * s.head_dim,
                        .ldo = s.q_width(),
                        .lse = nullptr},
                       {s.scale, s.softcap}, padded(capacity), stream);
    });
  });
  return out;
}

}  // namespace tutti
