#include "kernels/cuda/norm.h"

#include "kernels/cuda/channel_packs.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/row/register_norm.h"

namespace tutti::cuda {
namespace {

constexpr int kWarps = kThreads / 32;
constexpr int kMaxWarpPacks = 3;      // packs per lane; a block holds a row that needs more
constexpr int64_t kWarpChunks = 528;  // blocks of a backward pass: enough to occupy a large device
constexpr int64_t kBlockChunks = 1056;

// Whether the rows of a launch are register-resident, and in a warp or a block. Unaligned, odd and very long
// rows are not.
struct Plan {
  int packs = 0;    // packs per lane; 0: not register-resident
  int threads = 0;  // threads of a row's block; 0: one warp per row
};

template <class T>
Plan plan_for(int64_t n, bool aligned) {
  const int64_t packs = n / row::kWide<T>;
  if (!aligned || n == 0 || n % row::kWide<T> != 0 || packs > 4096) return {};
  if (packs <= 32 * kMaxWarpPacks) return {static_cast<int>((packs + 31) / 32), 0};
  if (packs <= 1024) return {1, static_cast<int>((packs + 31) / 32 * 32)};
  return {packs <= 2048 ? 2 : 4, 1024};
}

/// Calls f(std::integral_constant<int, kPacks>) for the plan's number of packs.
template <class F>
void dispatch_packs(int packs, F f) {
  switch (packs) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    default:
      return f(std::integral_constant<int, 4>{});
  }
}

template <class T>
struct ForwardPointers {
  using A = Accumulate<T>;
  const T* x;
  const T* residual;
  T* sum;
  const T* w;
  const T* b;
  T* y;
  A* moments;
  int64_t rows;
  int64_t n;
  A eps;
};

/// Memory traffic: 2 rows n sizeof(T), twice that with a residual, and rows n sizeof(T) less without y.
/// Moments and parameters are small.
template <bool kCentred, int kPacks, class Team, class T>
__global__ void __launch_bounds__(Team::kMaxLanes == 32 ? kThreads : Team::kMaxLanes)
    register_forward_kernel(ForwardPointers<T> p) {
  Team team;
  const int64_t teams = std::is_same_v<Team, WarpTeam> ? int64_t{gridDim.x} * kWarps : gridDim.x;
  int64_t r = std::is_same_v<Team, WarpTeam> ? int64_t{blockIdx.x} * kWarps + threadIdx.x / 32 : blockIdx.x;
  for (; r < p.rows; r += teams) {
    const int64_t at = r * p.n;
    const T* residual = p.residual == nullptr ? nullptr : p.residual + at;
    T* sum = p.sum == nullptr ? nullptr : p.sum + at;
    T* y = p.y == nullptr ? nullptr : p.y + at;
    const auto m =
        row::register_norm<kCentred, kPacks>(team, p.x + at, residual, sum, p.w, p.b, y, p.n, p.eps);
    if (team.lane() == 0) {
      p.moments[2 * r] = m.mean;
      p.moments[2 * r + 1] = m.rstd;
    }
  }
}

/// Any width and alignment. Memory traffic: that of the register-resident kernel if a row fits the L1 cache.
template <bool kCentred, class T>
struct ForwardRow {
  ForwardPointers<T> p;
  template <class Team>
  __device__ void operator()(Team& team, int64_t r) const {
    using A = Accumulate<T>;
    const T* x = p.x + r * p.n;
    if (p.residual != nullptr) {
      T* sum = p.sum + r * p.n;
      const T* residual = p.residual + r * p.n;
      row::add(team, x, residual, sum, p.n);
      x = sum;  // no barrier: each lane reads only elements that it has written itself
    }
    row::Moments<A> m{};
    if constexpr (kCentred)
      m = row::layer_norm(team, x, p.w, p.b, p.y + r * p.n, p.n, p.eps);
    else
      m.rstd = row::rms_norm(team, x, p.w, p.y + r * p.n, p.n, p.eps);
    if (team.lane() == 0) {
      p.moments[2 * r] = m.mean;
      p.moments[2 * r + 1] = m.rstd;
    }
  }
};

template <bool kCentred, class T>
void launch_forward(ForwardPointers<T> p, const Stream& stream) {
  const Plan plan = plan_for<T>(p.n, aligned16(p.x, p.residual, p.sum, p.w, p.b, p.y));
  if (plan.packs == 0) {
    Tensor unwanted;
    if (p.y == nullptr) {
      unwanted = Tensor::empty(Shape{p.rows, p.n}, dtype_of<T>(), stream);
      p.y = unwanted.data<T>();
    }
    return for_rows("norm", p.rows, p.n, stream, ForwardRow<kCentred, T>{p});
  }
  dispatch_packs(plan.packs, [&]<int kPacks>(std::integral_constant<int, kPacks>) {
    if (plan.threads == 0) {
      launch("norm", stream, {blocks_for(p.rows * 32), kThreads},
             register_forward_kernel<kCentred, kPacks, WarpTeam, T>, p);
    } else if constexpr (kPacks != 3) {
      launch("norm", stream, {blocks_of_rows(p.rows), plan.threads},
             register_forward_kernel<kCentred, kPacks, BlockTeam, T>, p);
    }
  });
}

template <class T>
struct BackwardPointers {
  using A = Accumulate<T>;
  const T* dy;
  const T* x;
  const T* w;
  const A* moments;
  T* dx;
  bool accumulate;
  A* partials;  // (chunks, 2 n)
  int64_t rows;
  int64_t n;
  int64_t chunk;  // rows of a chunk
};

template <class T>
__device__ inline row::Moments<Accumulate<T>> moments_of(const BackwardPointers<T>& p, int64_t r) {
  return {p.moments[2 * r], p.moments[2 * r + 1]};
}

template <bool kCentred, int kPacks, class Team, class T, class Sums>
__device__ inline void backward_row(Team& team, const BackwardPointers<T>& p, int64_t r, Sums& sums) {
  const int64_t at = r * p.n;
  row::register_norm_backward<kCentred, kPacks>(team, p.dy + at, p.x + at, p.w, moments_of(p, r),
                                                p.dx == nullptr ? nullptr : p.dx + at, p.accumulate, sums,
                                                p.n);
}

/// One block per chunk, one warp per row; the sums of the warps are added in their order. Memory traffic: 3
/// rows n sizeof(T), or 4 with accumulate. The partial sums are small.
template <bool kCentred, int kPacks, class T>
__global__ void __launch_bounds__(kThreads, 2) warp_backward_kernel(BackwardPointers<T> p) {
  using A = Accumulate<T>;
  constexpr int kWide = row::kWide<T>;
  __shared__ A totals[2][kPacks][kWide][32];  // adjacent lanes, adjacent banks
  WarpTeam team;
  row::RegisterSums<kPacks, T> sums;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t begin = blockIdx.x * p.chunk;
  const int64_t end = begin + p.chunk < p.rows ? begin + p.chunk : p.rows;
  for (int64_t r = begin + warp; r < end; r += kWarps) backward_row<kCentred, kPacks>(team, p, r, sums);
  for (int turn = 0; turn < kWarps; ++turn) {
    if (warp == turn) {
      row::for_packs<kPacks, T>(team, p.n, [&](int k, int64_t) {
        for (int j = 0; j < kWide; ++j) {
          A& dw = totals[0][k][j][team.lane()];
          A& db = totals[1][k][j][team.lane()];
          dw = (turn == 0 ? A(0) : dw) + sums.dw[k][j];
          db = (turn == 0 ? A(0) : db) + sums.db[k][j];
        }
      });
    }
    __syncthreads();
  }
  A* out = p.partials + int64_t{blockIdx.x} * 2 * p.n;
  for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
    const int64_t pack = i / kWide;
    out[i] = totals[0][pack / 32][i % kWide][pack % 32];
    out[p.n + i] = totals[1][pack / 32][i % kWide][pack % 32];
  }
}

/// One block per chunk, one row at a time. Memory traffic: that of warp_backward_kernel.
template <bool kCentred, int kPacks, class T>
__global__ void __launch_bounds__(BlockTeam::kMaxLanes) block_backward_kernel(BackwardPointers<T> p) {
  BlockTeam team;
  row::RegisterSums<kPacks, T> sums;
  const int64_t begin = blockIdx.x * p.chunk;
  const int64_t end = begin + p.chunk < p.rows ? begin + p.chunk : p.rows;
  for (int64_t r = begin; r < end; ++r) backward_row<kCentred, kPacks>(team, p, r, sums);
  auto* out = p.partials + int64_t{blockIdx.x} * 2 * p.n;
  row::for_packs<kPacks, T>(team, p.n, [&](int k, int64_t i) {
    for (int j = 0; j < row::kWide<T>; ++j) {
      out[i + j] = sums.dw[k][j];
      out[p.n + i + j] = sums.db[k][j];
    }
  });
}

/// dx of rows whose sums do not fit the registers. Memory traffic: that of warp_backward_kernel.
template <bool kCentred, int kPacks, class T>
__global__ void __launch_bounds__(BlockTeam::kMaxLanes) long_backward_kernel(BackwardPointers<T> p) {
  BlockTeam team;
  row::NoSums none;
  for (int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) backward_row<kCentred, kPacks>(team, p, r, none);
}

/// Their sums of dy xhat and of dy. Memory traffic: 2 rows n sizeof(T).
template <class T, class A = Accumulate<T>>
struct ParameterSums {
  static constexpr int kAtOnce = 2;
  struct Kept {};
  struct Loaded {
    row::WidePack<T> dy, x;
    row::Moments<A> moments;
  };
  BackwardPointers<T> p;
  __device__ Kept keep(int64_t, int64_t) const { return {}; }
  __device__ Loaded load(int64_t r, int64_t at) const {
    return {row::load_pack(p.dy + at), row::load_pack(p.x + at), moments_of(p, r)};
  }
  __device__ void add(Kept, const Loaded& in, int64_t, A (&dw)[row::kWide<T>], A (&db)[row::kWide<T>]) const {
    for (int i = 0; i < row::kWide<T>; ++i) {
      const A g = A(in.dy.at[i]);
      dw[i] += g * ((A(in.x.at[i]) - in.moments.mean) * in.moments.rstd);
      db[i] += g;
    }
  }
  __device__ void finish(Kept, int, int64_t, A&, A&) const {}
};

/// Any width and alignment; one team per chunk.
template <bool kCentred, class T>
struct BackwardChunk {
  BackwardPointers<T> p;
  template <class Team>
  __device__ void operator()(Team& team, int64_t chunk) const {
    auto* dw = p.partials + chunk * 2 * p.n;
    auto* db = dw + p.n;
    // No barriers: a lane reads and writes its own columns only.
    for (int64_t i = team.lane(); i < p.n; i += team.lanes()) dw[i] = db[i] = 0;
    const int64_t begin = chunk * p.chunk;
    const int64_t end = begin + p.chunk < p.rows ? begin + p.chunk : p.rows;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * p.n;
      row::norm_backward<kCentred>(team, p.dy + at, p.x + at, p.w, moments_of(p, r),
                                   p.dx == nullptr ? nullptr : p.dx + at, p.accumulate, dw, db, p.n);
    }
  }
};

template <bool kCentred, class T>
void launch_backward(const BackwardPointers<T>& p, const Plan& plan, int64_t chunks, const Stream& stream) {
  if (plan.packs == 0) return for_rows("norm_backward", chunks, p.n, stream, BackwardChunk<kCentred, T>{p});
  const auto blocks = static_cast<unsigned>(chunks);
  dispatch_packs(plan.packs, [&]<int kPacks>(std::integral_constant<int, kPacks>) {
    if (plan.threads == 0) {
      if constexpr (kPacks <= kMaxWarpPacks)
        launch("norm_backward", stream, {blocks, kThreads}, warp_backward_kernel<kCentred, kPacks, T>, p);
    } else if constexpr (kPacks == 1) {
      launch("norm_backward", stream, {blocks, plan.threads}, block_backward_kernel<kCentred, kPacks, T>, p);
    } else if constexpr (kPacks != 3) {
      // First: dx may be dy.
      channel_sums<row::kWide<T>>("norm_sums", p.partials, p.rows, p.n, p.chunk, stream, ParameterSums<T>{p});
      if (p.dx != nullptr)
        launch("norm_backward", stream, {blocks_of_rows(p.rows), plan.threads},
               long_backward_kernel<kCentred, kPacks, T>, p);
    }
  });
}

template <class T>
T* pointer(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

}  // namespace

void norm_forward(const NormForward& p, const Stream& stream) {
  for (const Tensor* t : {&p.x, &p.residual, &p.sum, &p.w, &p.b, &p.y}) require_here("norm", *t, stream);
  const int64_t n = p.w.numel();
  if (p.x.numel() == 0) return;
  dispatch_compute(p.x.dtype(), "norm", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    const ForwardPointers<T> pointers{.x = p.x.data<T>(),
                                      .residual = pointer<T>(p.residual),
                                      .sum = pointer<T>(p.sum),
                                      .w = p.w.data<T>(),
                                      .b = pointer<T>(p.b),
                                      .y = pointer<T>(p.y),
                                      .moments = p.moments.data<A>(),
                                      .rows = p.x.numel() / n,
                                      .n = n,
                                      .eps = A(p.eps)};
    p.centred ? launch_forward<true>(pointers, stream) : launch_forward<false>(pointers, stream);
  });
}

Tensor norm_backward(const NormBackward& p, const Stream& stream) {
  for (const Tensor* t : {&p.dy, &p.x, &p.w, &p.moments, &p.dx}) require_here("norm_backward", *t, stream);
  const int64_t n = p.w.numel();
  const int64_t rows = n == 0 ? 0 : p.x.numel() / n;
  return dispatch_compute(p.x.dtype(), "norm_backward", [&]<class T>(TypeTag<T>) {
    using A = Accumulate<T>;
    if (rows == 0) return Tensor::zeros({1, 2 * n}, dtype_of<A>(), stream);
    const auto* dy = p.dy.data<T>();
    const auto* x = p.x.data<T>();
    const auto* w = p.w.data<T>();
    T* dx = pointer<T>(p.dx);
    const Plan plan = plan_for<T>(n, aligned16(dy, x, w, dx));
    const int64_t most = plan.packs != 0 && plan.threads == 0 ? kWarpChunks : kBlockChunks;
    const int64_t chunk = (rows + most - 1) / most;
    const int64_t chunks = (rows + chunk - 1) / chunk;
    const Tensor partials = Tensor::empty({chunks, 2 * n}, dtype_of<A>(), stream);
    const BackwardPointers<T> pointers{.dy = dy,
                                       .x = x,
                                       .w = w,
                                       .moments = p.moments.data<A>(),
                                       .dx = dx,
                                       .accumulate = p.accumulate,
                                       .partials = partials.data<A>(),
                                       .rows = rows,
                                       .n = n,
                                       .chunk = chunk};
    p.centred ? launch_backward<true>(pointers, plan, chunks, stream)
              : launch_backward<false>(pointers, plan, chunks, stream);
    return partials;
  });
}

}  // namespace tutti::cuda
