#include "kernels/cuda/attention.h"

#include "kernels/cuda/cudnn.h"

namespace tutti::cuda {
namespace {

/// `saves`: forward also writes what backward needs.
AttentionProblem problem_of(const AttentionHeads& h, const Tensor& qkv, bool saves) {
  return {.batch = qkv.size(0),
          .positions = qkv.size(1),
          .heads = h.heads,
          .kv_heads = h.kv_heads,
          .head_dim = h.head_dim,
          .causal = h.causal,
          .scale = h.scale,
          .backward = false,
          .saves = saves};
}

AttentionProblem backward_of(AttentionProblem problem, const Stream& stream) {
  problem.backward = true;
  problem.deterministic = stream.algorithm_selection() == AlgorithmSelection::kHeuristic;
  return problem;
}

/// Whether cuDNN has plans for forward and, if it follows, backward. One of them may still fail when it runs;
/// the other pass can then be by blocks: both save the logarithms of the sums of exponentials.
bool by_cudnn(const AttentionProblem& problem, const Tensor& qkv, const Stream& stream) {
  if (qkv.dtype() != DType::kBFloat16 || problem.head_dim % 8 != 0 || qkv.numel() == 0) return false;
  return cudnn_has_plan(problem, stream) &&
         (!problem.saves || cudnn_has_plan(backward_of(problem, stream), stream));
}

struct Packed {
  void *q, *k, *v;
};

Packed parts(const AttentionHeads& h, const Tensor& qkv) {
  auto* const q = static_cast<std::byte*>(qkv.raw());
  const int64_t bytes = h.head_dim * size_of(qkv.dtype());
  return {q, q + h.heads * bytes, q + (h.heads + h.kv_heads) * bytes};
}

AttentionTensors views(const AttentionHeads& h, const Tensor& qkv, const Tensor& out, const Tensor& lse) {
  const int64_t q = h.heads * h.head_dim;
  const int64_t kv = h.kv_heads * h.head_dim;
  return {qkv.slice(2, 0, q), qkv.slice(2, q, q + kv), qkv.slice(2, q + kv, q + 2 * kv), out, lse};
}

}  // namespace

void attention(const AttentionHeads& h, const Tensor& qkv, const Tensor& out, const Tensor& lse,
               const Stream& stream) {
  const AttentionProblem problem = problem_of(h, qkv, lse.defined());
  if (by_cudnn(problem, qkv, stream)) {
    const Tensor in = aligned(qkv, stream);
    const Packed p = parts(h, in);
    CudnnMemory memory{{kQuery, p.q}, {kKey, p.k}, {kValue, p.v}, {kAttended, out.raw()}};
    if (lse.defined()) memory[kStatistics] = lse.raw();
    if (cudnn_run(problem, std::move(memory), stream)) return;
  }
  attention_by_blocks(h, views(h, qkv, out, lse), stream);
}

void attention_backward(const AttentionHeads& h, const Tensor& qkv, const Tensor& out, const Tensor& lse,
                        const Tensor& dout, const Tensor& dqkv, const Stream& stream) {
  const AttentionProblem problem = problem_of(h, qkv, true);
  if (by_cudnn(problem, qkv, stream)) {
    const Tensor in = aligned(qkv, stream);
    const Tensor gradient = aligned(dout, stream);
    const Packed p = parts(h, in);
    const Packed d = parts(h, dqkv);
    const bool done = cudnn_run(backward_of(problem, stream),
                                {{kQuery, p.q},
                                 {kKey, p.k},
                                 {kValue, p.v},
                                 {kAttended, out.raw()},
                                 {kStatistics, lse.raw()},
                                 {kAttendedGradient, gradient.raw()},
                                 {kQueryGradient, d.q},
                                 {kKeyGradient, d.k},
                                 {kValueGradient, d.v}},
                                stream);
    if (done) return;
  }
  attention_by_blocks_backward(h, views(h, qkv, out, lse), dout, dqkv, stream);
}

}  // namespace tutti::cuda
