#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/sums.h"

#include <tuple>

namespace tutti::cuda {
namespace {

constexpr int kCount = 4;  // elements per thread and iteration

template <class Rule>
struct Rules {
  Rule at[kMaxRules];
};

/// One block per piece. Memory traffic per element of AdamW with fp32 gradients and bf16 weights:
/// 4 + 3 * (4 + 4) + 2.
template <class G, class M, class W, class Rule>
__device__ void update_piece(const UpdatePiece& piece, const Rule& rule) {
  const auto* grad = static_cast<const G*>(piece.grad);
  auto* master = static_cast<M*>(piece.master);
  auto* weight = static_cast<W*>(piece.weight);
  auto* first = static_cast<M*>(piece.states[0]);
  auto* second = static_cast<M*>(piece.states[1]);
  known_global(grad, master, first, second, weight);
  const auto all_aligned = [](auto... pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) % (kCount * sizeof(*pointers)) == 0) && ...);
  };
  const bool packed = all_aligned(grad, master, weight, first, second);
  const int64_t packs = packed ? piece.n / kCount : 0;
  for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
    const auto g = reinterpret_cast<const row::Pack<G, kCount>*>(grad)[p];
    auto x = reinterpret_cast<row::Pack<M, kCount>*>(master)[p];
    row::Pack<M, kCount> a{};
    row::Pack<M, kCount> b{};
    if constexpr (Rule::kStates > 0) a = reinterpret_cast<row::Pack<M, kCount>*>(first)[p];
    if constexpr (Rule::kStates > 1) b = reinterpret_cast<row::Pack<M, kCount>*>(second)[p];
    row::Pack<W, kCount> rounded;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      x.at[k] = rule.update(x.at[k], static_cast<M>(g.at[k]), a.at[k], b.at[k]);
      rounded.at[k] = W(x.at[k]);
    }
    reinterpret_cast<row::Pack<M, kCount>*>(master)[p] = x;
    if constexpr (Rule::kStates > 0) reinterpret_cast<row::Pack<M, kCount>*>(first)[p] = a;
    if constexpr (Rule::kStates > 1) reinterpret_cast<row::Pack<M, kCount>*>(second)[p] = b;
    if (weight != nullptr) reinterpret_cast<row::Pack<W, kCount>*>(weight)[p] = rounded;
  }
  for (int64_t i = packs * kCount + threadIdx.x; i < piece.n; i += blockDim.x) {
    M a = 0;
    M b = 0;
    if constexpr (Rule::kStates > 0) a = first[i];
    if constexpr (Rule::kStates > 1) b = second[i];
    const M x = rule.update(master[i], static_cast<M>(grad[i]), a, b);
    master[i] = x;
    if constexpr (Rule::kStates > 0) first[i] = a;
    if constexpr (Rule::kStates > 1) second[i] = b;
    if (weight != nullptr) weight[i] = W(x);
  }
}

template <class G, class M, class W, class Rule>
__global__ void update_kernel(const UpdatePiece* pieces, Rules<Rule> rules) {
  const UpdatePiece piece = pieces[blockIdx.x];
  update_piece<G, M, W, Rule>(piece, rules.at[piece.rule]);
}

/// Reads values that change between steps from memory, so that a captured launch can be replayed.
template <class G, class M, class W, class Rule>
__global__ void controlled_update_kernel(const UpdatePiece* pieces, const Rule* rules,
                                         const double* control) {
  if (control[1] == 0) return;
  const UpdatePiece piece = pieces[blockIdx.x];
  Rule rule = rules[piece.rule];
  if constexpr (requires { rule.grad_scale; }) rule.grad_scale = static_cast<M>(control[0]);
  update_piece<G, M, W, Rule>(piece, rule);
}

/// Memory traffic: the gradients.
template <class G>
struct PieceSquares {
  const UpdatePiece* pieces;
  double* squares;
  template <class Team>
  __device__ void operator()(Team& team, int64_t p) const {
    const UpdatePiece piece = pieces[p];
    const auto* grad = static_cast<const G*>(piece.grad);
    known_global(grad);
    double sum = 0;
    const auto add = [&](G g) {
      const auto value = static_cast<double>(static_cast<Accumulate<G>>(g));
      sum += value * value;
    };
    const row::PackedRow<G> packed(grad, piece.n);
    packed.for_single(team, [&](int64_t i) { add(grad[i]); });
#pragma unroll 4
    for (int64_t i = team.lane(); i < packed.packs; i += team.lanes()) {
      const auto pack = row::load_pack(grad + packed.head + i * packed.kPack);
      for (const G g : pack.at) add(g);
    }
    sum = team.sum(sum);
    if (team.lane() == 0) squares[p] = sum;
  }
};

const UpdatePiece* pieces_of(const UpdateTable& table) {
  return static_cast<const UpdatePiece*>(table.pieces.raw());
}

}  // namespace

UpdateTable make_update_table(const Precision& precision, std::span<const UpdatePiece> pieces,
                              const Stream& stream) {
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(pieces.data()), pieces.size_bytes());
  return {.precision = precision,
          .pieces = Tensor::from(bytes, {static_cast<int64_t>(bytes.size())}, stream),
          .count = static_cast<int64_t>(pieces.size())};
}

namespace {

/// Calls launch(TypeTag<G>, TypeTag<W>) with the types of a table's gradients and weights.
template <class M, class Launch>
void with_types(const UpdateTable& table, Launch launch) {
  if constexpr (std::is_same_v<M, double>) {
    launch(TypeTag<double>{}, TypeTag<double>{});
  } else {
    const bool half_weight = table.precision.compute == DType::kBFloat16;
    const auto with_grad = [&]<class G>(TypeTag<G> g) {
      half_weight ? launch(g, TypeTag<BFloat16>{}) : launch(g, TypeTag<float>{});
    };
    table.precision.grad == DType::kBFloat16 ? with_grad(TypeTag<BFloat16>{}) : with_grad(TypeTag<float>{});
  }
}

}  // namespace

template <row::Listed<row::UpdateRules> Rule>
void update(const UpdateTable& table, std::span<const Rule> numbers, const Stream& stream) {
  require_here("optimizer", table.pieces, stream);
  require(numbers.size() <= kMaxRules, "optimizer: {} rules for one kernel", numbers.size());
  if (table.count == 0) return;
  Rules<Rule> rules{};
  std::copy(numbers.begin(), numbers.end(), rules.at);
  using M = typename Rule::Number;
  with_types<M>(table, [&]<class G, class W>(TypeTag<G>, TypeTag<W>) {
    launch("optimizer", stream, {static_cast<unsigned>(table.count), kThreads}, update_kernel<G, M, W, Rule>,
           pieces_of(table), rules);
  });
}

template <row::Listed<row::UpdateRules> Rule>
void controlled_update(const UpdateTable& table, const Tensor& numbers, const Tensor& control,
                       const Stream& stream) {
  for (const Tensor* t : {&table.pieces, &numbers, &control}) require_here("optimizer", *t, stream);
  require(numbers.bytes() == static_cast<int64_t>(kMaxRules * sizeof(Rule)),
          "optimizer: {} bytes of numbers, expected {} rules of {}", numbers.bytes(), kMaxRules,
          sizeof(Rule));
  if (table.count == 0) return;
  using M = typename Rule::Number;
  with_types<M>(table, [&]<class G, class W>(TypeTag<G>, TypeTag<W>) {
    launch("optimizer", stream, {static_cast<unsigned>(table.count), kThreads},
           controlled_update_kernel<G, M, W, Rule>, pieces_of(table), static_cast<const Rule*>(numbers.raw()),
           control.data<double>());
  });
}

void clip_control(const Tensor& squares, double clip_norm, const Tensor& control, const Stream& stream) {
  for (const Tensor* t : {&squares, &control}) require_here("clipping", *t, stream);
  const double* from = squares.data<double>();
  double* to = control.data<double>();
  for_elements("clipping", 1, stream, [=] __device__(int64_t) {
    const double norm = sqrt(*from);
    to[0] = clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
    to[1] = isfinite(norm) ? 1 : 0;
    to[2] = norm;
  });
}

// An explicit instantiation cannot name a list; taking the addresses instantiates the templates for all of
// it.
template <class... Each>
auto update_instances(row::FunctorList<Each...>) {
  return std::tuple(&update<Each>..., &controlled_update<Each>...);
}
template auto update_instances(row::UpdateRules);

Tensor sum_of_squares(const UpdateTable& table, const Stream& stream) {
  require_here("grad_norm", table.pieces, stream);
  if (table.count == 0) return Tensor::zeros({}, DType::kFloat64, stream);
  const Tensor squares = Tensor::empty({1, table.count}, DType::kFloat64, stream);
  dispatch_compute(table.precision.grad, "grad_norm", [&]<class G>(TypeTag<G>) {
    launch("grad_norm", stream, {static_cast<unsigned>(table.count), kThreads},
           block_rows_kernel<PieceSquares<G>>, table.count,
           PieceSquares<G>{pieces_of(table), squares.data<double>()});
  });
  const Tensor parts = sum_middle_parts(squares, 1, table.count, 1, stream);
  add_chunks(parts, stream);
  return parts.select(0, 0).select(0, 0);
}

}  // namespace tutti::cuda
