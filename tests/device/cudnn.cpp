// The problems of kernels/cuda/cudnn.h on the software device: plain loops, in place of
// kernels/cuda/cudnn.cpp.
#include "kernels/cuda/cudnn.h"

#include "core/cuda/runtime.h"
#include "tests/device/settings.h"

#include <cmath>
#include <limits>

namespace tutti::cuda {
namespace {

double read(const void* memory, int64_t at, DType dtype) {
  return dtype == DType::kFloat32
             ? static_cast<double>(static_cast<const float*>(memory)[at])
             : static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(memory)[at]));
}

void write(void* memory, int64_t at, DType dtype, double value) {
  if (dtype == DType::kFloat32)
    static_cast<float*>(memory)[at] = static_cast<float>(value);
  else
    static_cast<BFloat16*>(memory)[at] = BFloat16(static_cast<float>(value));
}

/// Calls f(image element, filter element, result element) for each product of a convolution.
template <class F>
void for_products(const ConvShape& s, F f) {
  const int64_t in_group = s.c / s.groups;
  const int64_t out_group = s.o / s.groups;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t oh = 0; oh < s.oh; ++oh) {
      for (int64_t ow = 0; ow < s.ow; ++ow) {
        for (int64_t kh = 0; kh < s.kh; ++kh) {
          for (int64_t kw = 0; kw < s.kw; ++kw) {
            const int64_t h = oh * s.stride[0] - s.padding[0] + kh * s.dilation[0];
            const int64_t w = ow * s.stride[1] - s.padding[1] + kw * s.dilation[1];
            if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
            const int64_t image = ((n * s.h + h) * s.w + w) * s.c;
            const int64_t result = ((n * s.oh + oh) * s.ow + ow) * s.o;
            for (int64_t o = 0; o < s.o; ++o) {
              const int64_t filter = ((o * s.kh + kh) * s.kw + kw) * in_group;
              for (int64_t c = 0; c < in_group; ++c)
                f(image + o / out_group * in_group + c, filter + c, result + o);
            }
          }
        }
      }
    }
  }
}

void convolve(const ConvProblem& p, const CudnnMemory& memory) {
  const ConvShape& s = p.shape;
  void* const x = memory.at(kImages);
  void* const w = memory.at(kFilters);
  void* const y = memory.at(kResults);
  const int64_t sizes[] = {s.n * s.h * s.w * s.c, s.o * s.kh * s.kw * (s.c / s.groups),
                           s.n * s.oh * s.ow * s.o};
  const auto out = static_cast<size_t>(p.pass == ConvPass::kForward ? 2 : p.pass == ConvPass::kData ? 0 : 1);
  std::vector<float> sums(static_cast<size_t>(sizes[out]));
  switch (p.pass) {
    case ConvPass::kForward:
      for_products(s, [&](int64_t i, int64_t f, int64_t r) {
        sums[static_cast<size_t>(r)] += static_cast<float>(read(x, i, s.dtype) * read(w, f, p.weights));
      });
      break;
    case ConvPass::kData:
      for_products(s, [&](int64_t i, int64_t f, int64_t r) {
        sums[static_cast<size_t>(i)] += static_cast<float>(read(y, r, s.dtype) * read(w, f, p.weights));
      });
      break;
    case ConvPass::kWeights:
      for_products(s, [&](int64_t i, int64_t f, int64_t r) {
        sums[static_cast<size_t>(f)] += static_cast<float>(read(y, r, s.dtype) * read(x, i, s.dtype));
      });
      break;
  }
  void* const to = out == 2 ? y : out == 0 ? x : w;
  for (size_t i = 0; i < sums.size(); ++i)
    write(to, static_cast<int64_t>(i), out == 1 ? p.weights : s.dtype, static_cast<double>(sums[i]));
}

/// Attention of one head of one sample. Rows of q, k and v are `width` elements apart, those of results
/// `heads head_dim`.
class Head {
 public:
  Head(const AttentionProblem& p, const CudnnMemory& memory, int64_t sample, int64_t head)
      : p_(p),
        memory_(memory),
        q_at_(sample * p.positions * p.width() + head * p.head_dim),
        kv_at_(sample * p.positions * p.width() + head / (p.heads / p.kv_heads) * p.head_dim),
        out_at_((sample * p.positions * p.heads + head) * p.head_dim),
        lse_at_((sample * p.heads + head) * p.positions) {}

  void forward() const {
    for (int64_t t = 0; t < p_.positions; ++t) {
      std::vector<double> weights = scores(t);
      double most = -INFINITY;
      for (const double score : weights) most = std::max(most, score);
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - most);
      for (int64_t d = 0; d < p_.head_dim; ++d) {
        double value = 0;
        for (size_t s = 0; s < weights.size(); ++s)
          value += weights[s] * kv(kValue, static_cast<int64_t>(s), d);
        write(memory_.at(kAttended), out_index(t, d), DType::kBFloat16, value / sum);
      }
      if (p_.saves)
        static_cast<float*>(memory_.at(kStatistics))[lse_at_ + t] = static_cast<float>(most + std::log(sum));
    }
  }

  /// Adds to dk and dv, (positions, head_dim) each; writes the gradient of q.
  void backward(std::vector<double>& dk, std::vector<double>& dv) const {
    const auto n = static_cast<size_t>(p_.head_dim);
    for (int64_t t = 0; t < p_.positions; ++t) {
      const double lse = static_cast<double>(static_cast<const float*>(memory_.at(kStatistics))[lse_at_ + t]);
      double inner = 0;  // dout . out
      std::vector<double> dout(n);
      for (int64_t d = 0; d < p_.head_dim; ++d) {
        dout[static_cast<size_t>(d)] = read(memory_.at(kAttendedGradient), out_index(t, d), DType::kBFloat16);
        inner +=
            dout[static_cast<size_t>(d)] * read(memory_.at(kAttended), out_index(t, d), DType::kBFloat16);
      }
      std::vector<double> dq(n);
      const std::vector<double> all = scores(t);
      for (size_t s = 0; s < all.size(); ++s) {
        const double weight = std::exp(all[s] - lse);
        double dweight = 0;
        for (size_t d = 0; d < n; ++d) {
          dweight += dout[d] * kv(kValue, static_cast<int64_t>(s), static_cast<int64_t>(d));
          dv[s * n + d] += weight * dout[d];
        }
        const double dscore = weight * (dweight - inner) * p_.scale;
        for (size_t d = 0; d < n; ++d) {
          dq[d] += dscore * kv(kKey, static_cast<int64_t>(s), static_cast<int64_t>(d));
          dk[s * n + d] += dscore * query(t, static_cast<int64_t>(d));
        }
      }
      for (size_t d = 0; d < n; ++d) {
        write(memory_.at(kQueryGradient), q_at_ + t * p_.width() + static_cast<int64_t>(d), DType::kBFloat16,
              dq[d]);
      }
    }
  }

  void write_kv(CudnnTensor which, const std::vector<double>& gradient) const {
    for (int64_t t = 0; t < p_.positions; ++t) {
      for (int64_t d = 0; d < p_.head_dim; ++d) {
        write(memory_.at(which), kv_at_ + t * p_.width() + d, DType::kBFloat16,
              gradient[static_cast<size_t>(t * p_.head_dim + d)]);
      }
    }
  }

 private:
  [[nodiscard]] int64_t out_index(int64_t t, int64_t d) const {
    return out_at_ + t * p_.heads * p_.head_dim + d;
  }
  [[nodiscard]] double query(int64_t t, int64_t d) const {
    return read(memory_.at(kQuery), q_at_ + t * p_.width() + d, DType::kBFloat16);
  }
  [[nodiscard]] double kv(CudnnTensor which, int64_t s, int64_t d) const {
    return read(memory_.at(which), kv_at_ + s * p_.width() + d, DType::kBFloat16);
  }
  [[nodiscard]] std::vector<double> scores(int64_t t) const {
    std::vector<double> all(static_cast<size_t>(p_.causal ? t + 1 : p_.positions));
    for (size_t s = 0; s < all.size(); ++s) {
      for (int64_t d = 0; d < p_.head_dim; ++d) all[s] += query(t, d) * kv(kKey, static_cast<int64_t>(s), d);
      all[s] *= p_.scale;
    }
    return all;
  }

  const AttentionProblem& p_;
  const CudnnMemory& memory_;
  int64_t q_at_, kv_at_, out_at_, lse_at_;
};

void attend(const AttentionProblem& p, const CudnnMemory& memory) {
  const int64_t group = p.heads / p.kv_heads;
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    for (int64_t kv_head = 0; kv_head < p.kv_heads; ++kv_head) {
      std::vector<double> dk(static_cast<size_t>(p.positions * p.head_dim));
      std::vector<double> dv(dk.size());
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        const Head one(p, memory, sample, head);
        p.backward ? one.backward(dk, dv) : one.forward();
      }
      if (!p.backward) continue;
      const Head any(p, memory, sample, kv_head * group);
      any.write_kv(kKeyGradient, dk);
      any.write_kv(kValueGradient, dv);
    }
  }
}

bool has_plan(const CudnnProblem& problem) {
  const auto* const attention = std::get_if<AttentionProblem>(&problem);
  return attention == nullptr || (attention->head_dim % 8 == 0 && attention->head_dim <= 128);
}

}  // namespace

bool cudnn_has_plan(const CudnnProblem& problem, const Stream&) {
  return has_plan(problem);
}

std::string cudnn_why_no_plan(const CudnnProblem& problem, const std::string&, int) {
  return has_plan(problem) ? "" : "the head is too wide";
}

float cudnn_measured(const CudnnProblem&, CudnnMemory, const Stream&) {
  return std::numeric_limits<float>::infinity();
}

bool cudnn_run(const CudnnProblem& problem, CudnnMemory memory, const Stream& stream) {
  if (!has_plan(problem) || software_cuda::settings().fails("cudnn")) return false;
  for (const auto& [id, address] : memory) {
    require(reinterpret_cast<uintptr_t>(address) % 16 == 0,
            "cuDNN: the address of tensor {} is no multiple of 16", id);
  }
  check(software_cuda::submit(native(stream), "cuDNN " + key(problem),
                              [problem, memory = std::move(memory)] {
                                if (const auto* const conv = std::get_if<ConvProblem>(&problem))
                                  convolve(*conv, memory);
                                else
                                  attend(std::get<AttentionProblem>(problem), memory);
                              }),
        "cuDNN");
  return true;
}

}  // namespace tutti::cuda
