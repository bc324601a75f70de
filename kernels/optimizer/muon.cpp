#include "kernels/cuda/muon.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gemm.h"
#include "kernels/optimizer/rule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tutti {
namespace {

MatrixOperand matrix(const Tensor& tensor, bool transposed = false) {
  return {.data = tensor.raw(), .ld = tensor.size(1), .transposed = transposed};
}

/// c = a b. All matrices are contiguous.
void multiply(const Stream& stream, const MatrixOperand& a, const MatrixOperand& b, const Tensor& c,
              int64_t inner) {
  gemm({.m = c.size(0),
        .n = c.size(1),
        .k = inner,
        .dtype = c.dtype(),
        .a = a,
        .b = b,
        .c = c.raw(),
        .ldc = c.size(1),
        .c_dtype = c.dtype()},
       stream);
}

/// y <- y * own + x * other, elementwise.
void combine(const Stream& stream, const Tensor& y, double own, const Tensor& x, double other) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::muon_combine(y, own, x, other, stream);
  }
  dispatch_compute(y.dtype(), "muon", [&]<class T>(TypeTag<T>) {
    stream.pool().parallel_ranges(y.numel(), 16384, [&](int64_t begin, int64_t end) {
      T* __restrict out = y.data<T>();
      const T* __restrict in = x.data<T>();
      const auto a = static_cast<Accumulate<T>>(own);
      const auto b = static_cast<Accumulate<T>>(other);
      run_best_isa([=] {
        for (int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(a * out[i] + b * in[i]);
      });
    });
  });
}

/// Orthogonalises x (rows, columns), whose norm is at most 1: its singular values become close to 1 (0.7 to
/// 1.2), its singular vectors do not change. x <- a x + (b A + c A^2) x with A = x x^T, or with A = x^T x
/// from the right if that is smaller. Source, also of the coefficients: Jordan et al. 2024, "Muon: an
/// optimizer for hidden layers in neural networks".
void newton_schulz(const Stream& stream, Tensor& x, int64_t iterations) {
  constexpr double a = 3.4445;
  constexpr double b = -4.7750;
  constexpr double c = 2.0315;
  const bool from_right = x.size(0) > x.size(1);
  const int64_t small = std::min(x.size(0), x.size(1));
  const Tensor gram = Tensor::empty({small, small}, x.dtype(), stream);
  const Tensor polynomial = Tensor::empty({small, small}, x.dtype(), stream);
  Tensor next = Tensor::empty(x.shape(), x.dtype(), stream);
  for (int64_t i = 0; i < iterations; ++i) {
    multiply(stream, matrix(x, from_right), matrix(x, !from_right), gram, from_right ? x.size(0) : x.size(1));
    multiply(stream, matrix(gram), matrix(gram), polynomial, small);
    combine(stream, polynomial, c, gram, b);
    if (from_right)
      multiply(stream, matrix(x), matrix(polynomial), next, small);
    else
      multiply(stream, matrix(polynomial), matrix(x), next, small);
    combine(stream, next, 1, x, a);
    std::swap(x, next);
  }
}

/// Orthogonalised momentum: the update of each matrix is the running average of its gradient, orthogonalised.
/// Filters are matrices (outputs, rest). Matrices that are packed into one parameter are one matrix, unless
/// split_packed is set. Source: Jordan et al. 2024; scale `match_adamw`, 0.2 sqrt(max(rows, columns)): Liu et
/// al. 2025, "Muon is scalable for LLM training", eq. 4.
class MuonRule final : public UpdateRule {
 public:
  MuonRule(const OptimizerConfig& config, std::vector<UpdateTarget> targets, const Stream& stream)
      : config_(config.muon), decay_(config.weight_decay), targets_(std::move(targets)) {
    for (const UpdateTarget& target : targets_) {
      require(
          target.whole(),
          "optimizer: muon needs whole matrices, but the state of parameter '{}' {} is sharded: this rank "
          "has elements [{}, {}); use algorithm adamw or sgd, or replicate the state",
          target.parameter->name, to_string(target.parameter->shape), target.begin, target.end);
    }
    for (size_t t = 0; t < targets_.size(); ++t) add_matrices(t);
    average_ = new_states(targets_, stream);
  }

  void step(const UpdateStep& now, const Stream& stream) override {
    for (const PackedMatrix& matrix : matrices_) step_matrix(matrix, now, stream);
  }

  void add_states(std::vector<StateTensor>& states) const override {
    for (size_t t = 0; t < targets_.size(); ++t) {
      states.push_back(targets_[t].checkpoint_part("momentum", average_[t]));
    }
  }

 private:
  /// Rows of a target that are one matrix: elements [begin, begin + rows * columns) of its parameter.
  struct PackedMatrix {
    size_t target = 0;
    int64_t begin = 0;
    int64_t rows = 0;
    int64_t columns = 0;
    std::vector<UpdateChunk>
        chunks;  ///< of the parameter's elements; the same as for a matrix that is not packed

    [[nodiscard]] int64_t size() const { return rows * columns; }
  };

  void add_matrices(size_t t) {
    const Parameter& parameter = *targets_[t].parameter;
    const int64_t all = parameter.shape[0];
    std::vector<int64_t> rows{all};
    if (config_.split_packed && !parameter.packed.empty()) rows = parameter.packed;
    require(std::accumulate(rows.begin(), rows.end(), int64_t{0}) == all,
            "optimizer: the {} rows of parameter '{}' are not those of the {} matrices packed into it", all,
            parameter.name, rows.size());
    int64_t begin = 0;
    for (const int64_t r : rows) {
      PackedMatrix matrix{.target = t,
                          .begin = begin,
                          .rows = r,
                          .columns = targets_[t].size() / std::max<int64_t>(all, 1),
                          .chunks = {}};
      matrix.chunks = cut_into_chunks(t, begin, begin + matrix.size());
      begin += matrix.size();
      matrices_.push_back(std::move(matrix));
    }
  }

  void step_matrix(const PackedMatrix& matrix, const UpdateStep& now, const Stream& stream) {
    const UpdateTarget& target = targets_[matrix.target];
    Tensor x = Tensor::empty({matrix.rows, matrix.columns}, target.state_dtype(), stream);
    average(matrix, now.grad_scale, x, stream);
    newton_schulz(stream, x, config_.iterations);

    const auto r = static_cast<double>(matrix.rows);
    const auto c = static_cast<double>(matrix.columns);
    const double scale =
        config_.scale == "spectral" ? std::sqrt(std::max(1.0, r / c)) : 0.2 * std::sqrt(std::max(r, c));
    const double rate = now.learning_rate * target.rule.learning_rate;
    const double keep = 1 - rate * decay_ * target.rule.weight_decay;
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        const ParamGroup& group = *target.group;
        const auto part = [&](const Tensor& flat, int64_t first) {
          return flat.slice(0, first + matrix.begin, first + matrix.begin + matrix.size());
        };
        const Tensor weight = group.weights().shares_storage_with(group.master())
                                  ? Tensor()
                                  : part(group.weights(), target.flat);
        return cuda::muon_apply(part(group.master(), target.flat - group.state_begin()), weight, x, keep,
                                rate * scale, stream);
      }
    }
    stream.pool().parallel_for(static_cast<int64_t>(matrix.chunks.size()), [&](int64_t i) {
      const UpdateChunk& chunk = matrix.chunks[static_cast<size_t>(i)];
      with_span(target, chunk.begin, chunk.end,
                [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& span) {
                  apply(span, x.data<M>() + (chunk.begin - matrix.begin), static_cast<M>(keep),
                        static_cast<M>(rate * scale));
                });
    });
  }

  /// Updates the running average, and writes the matrix to orthogonalise, divided by its norm, to x.
  void average(const PackedMatrix& matrix, double grad_scale, const Tensor& x, const Stream& stream) {
    const UpdateTarget& target = targets_[matrix.target];
    const Tensor& running = average_[matrix.target];
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        const int64_t first = target.flat + matrix.begin;
        return cuda::muon_average({.grad = target.group->grads().slice(0, first, first + matrix.size()),
                                   .running = running.slice(0, matrix.begin, matrix.begin + matrix.size()),
                                   .x = x,
                                   .momentum = config_.momentum,
                                   .grad_scale = grad_scale,
                                   .nesterov = config_.nesterov},
                                  stream);
      }
    }
    std::vector<double> squares(matrix.chunks.size());
    stream.pool().parallel_for(static_cast<int64_t>(matrix.chunks.size()), [&](int64_t i) {
      const UpdateChunk& chunk = matrix.chunks[static_cast<size_t>(i)];
      with_span(target, chunk.begin, chunk.end,
                [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& span) {
                  squares[static_cast<size_t>(i)] =
                      average_range(span, running.data<M>() + chunk.begin,
                                    x.data<M>() + (chunk.begin - matrix.begin), static_cast<M>(grad_scale));
                });
    });
    const double norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
    combine(stream, x, 1 / (norm + 1e-7), x, 0);
  }

  template <class G, class M, class W>
  double average_range(const UpdateSpan<G, M, W>& span, M* __restrict running, M* __restrict out,
                       M grad_scale) {
    double sum = 0;
    const M mu = static_cast<M>(config_.momentum);
    const M rest = static_cast<M>(1 - config_.momentum);
    const bool nesterov = config_.nesterov;
    run_best_isa([&] {
      const auto s = span;
      double squares = 0;
      for (int64_t i = 0; i < s.n; ++i) {
        const M g = static_cast<M>(s.grad[i]) * grad_scale;
        const M m = running[i] + rest * (g - running[i]);
        running[i] = m;
        const M x = nesterov ? g + mu * (m - g) : m;
        out[i] = x;
        squares += static_cast<double>(x) * static_cast<double>(x);
      }
      sum = squares;
    });
    return sum;
  }

  template <class G, class M, class W>
  static void apply(const UpdateSpan<G, M, W>& span, const M* __restrict direction, M keep, M rate) {
    run_best_isa([&] {
      const auto s = span;
      for (int64_t i = 0; i < s.n; ++i) {
        const M x = s.master[i] * keep - rate * direction[i];
        s.master[i] = x;
        if (s.weight != nullptr) s.weight[i] = W(x);
      }
    });
  }

  MuonConfig config_;
  double decay_;
  std::vector<UpdateTarget> targets_;
  std::vector<PackedMatrix> matrices_;
  std::vector<Tensor> average_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_muon_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                           const Stream& stream) {
  return std::make_unique<MuonRule>(config, std::move(targets), stream);
}

}  // namespace tutti
