#include "kernels/plan/cudnn_problem.h"

#include <string_view>

namespace tutti {
namespace {

std::string key_of(const ConvProblem& p) {
  constexpr std::string_view kNames[] = {"forward", "data", "weights"};
  const ConvShape& s = p.shape;
  return fmt::format("conv-{}:{},{}:n{}:{}x{}x{}>{}x{}x{}:k{}x{}:stride{},{}:pad{},{}:dilation{},{}:groups{}",
                     kNames[static_cast<size_t>(p.pass)], name(s.dtype), name(p.weights), s.n, s.h, s.w, s.c,
                     s.oh, s.ow, s.o, s.kh, s.kw, s.stride[0], s.stride[1], s.padding[0], s.padding[1],
                     s.dilation[0], s.dilation[1], s.groups);
}

std::string key_of(const AttentionProblem& p) {
  return fmt::format("attention-{}:b{}:t{}:h{}+{}:d{}:{}:{:a}:{}:{}", p.backward ? "backward" : "forward",
                     p.batch, p.positions, p.heads, p.kv_heads, p.head_dim, p.causal ? "causal" : "full",
                     p.scale, p.saves ? "training" : "inference",
                     p.deterministic ? "deterministic" : "nondeterministic");
}

}  // namespace

std::string key(const CudnnProblem& problem) {
  return std::visit([](const auto& p) { return key_of(p); }, problem);
}

CudnnLayout image_layout(int64_t n, int64_t h, int64_t w, int64_t c) {
  return {{n, c, h, w}, {h * w * c, 1, w * c, c}};
}

CudnnLayout head_layout(const AttentionProblem& p, int64_t heads, int64_t width) {
  return {{p.batch, heads, p.positions, p.head_dim}, {p.positions * width, p.head_dim, width, 1}};
}

}  // namespace tutti
