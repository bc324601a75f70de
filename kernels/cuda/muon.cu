#include "kernels/cuda/muon.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sums.h"

namespace tutti::cuda {
namespace {

template <class G, class M>
struct Average {
  const G* grad;
  M* running;
  M* x;
  M* squares;
  M momentum, rest, grad_scale;  // rest: 1 - momentum, rounded once
  bool nesterov;
  __device__ void operator()(int64_t i) const {
    const M g = static_cast<M>(grad[i]) * grad_scale;
    const M m = running[i] + rest * (g - running[i]);
    running[i] = m;
    const M out = nesterov ? g + momentum * (m - g) : m;
    x[i] = out;
    squares[i] = out * out;
  }
};

template <class M>
struct DivideByNorm {
  const M* squares;
  M* x;
  __device__ void operator()(int64_t i) const { x[i] *= M(1) / (M(sqrt(*squares)) + M(1e-7)); }
};

template <class M>
struct Combine {
  M* y;
  const M* x;
  M own, other;
  __device__ void operator()(int64_t i) const { y[i] = own * y[i] + other * x[i]; }
};

template <class M, class W>
struct Apply {
  M* master;
  W* weight;
  const M* direction;
  M keep, rate;
  __device__ void operator()(int64_t i) const {
    const M x = master[i] * keep - rate * direction[i];
    master[i] = x;
    if (weight != nullptr) weight[i] = W(static_cast<float>(x));
  }
};

/// Calls f(TypeTag<M>) with the dtype of masters.
template <class F>
void by_master(const Tensor& master, F&& f) {
  if (master.dtype() == DType::kFloat64)
    f(TypeTag<double>{});
  else
    f(TypeTag<float>{});
}

}  // namespace

void muon_average(const MuonAverage& p, const Stream& stream) {
  for (const Tensor* t : {&p.grad, &p.running, &p.x}) require_here("muon", *t, stream);
  const int64_t n = p.x.numel();
  if (n == 0) return;
  const Tensor squares = Tensor::empty({1, n}, p.x.dtype(), stream);
  by_master(p.x, [&]<class M>(TypeTag<M>) {
    dispatch_compute(p.grad.dtype(), "muon", [&]<class G>(TypeTag<G>) {
      for_elements("muon_average", n, stream,
                   Average<G, M>{p.grad.data<G>(), p.running.data<M>(), p.x.data<M>(), squares.data<M>(),
                                 static_cast<M>(p.momentum), static_cast<M>(1 - p.momentum),
                                 static_cast<M>(p.grad_scale), p.nesterov});
    });
    const Tensor total = sum_middle_parts(squares, 1, n, 1, stream);
    add_chunks(total, stream);
    for_elements("muon_norm", n, stream, DivideByNorm<M>{total.data<M>(), p.x.data<M>()});
  });
}

void muon_combine(const Tensor& y, double own, const Tensor& x, double other, const Stream& stream) {
  for (const Tensor* t : {&y, &x}) require_here("muon", *t, stream);
  by_master(y, [&]<class M>(TypeTag<M>) {
    for_elements("muon_combine", y.numel(), stream,
                 Combine<M>{y.data<M>(), x.data<M>(), static_cast<M>(own), static_cast<M>(other)});
  });
}

void muon_apply(const Tensor& master, const Tensor& weight, const Tensor& direction, double keep, double rate,
                const Stream& stream) {
  for (const Tensor* t : {&master, &weight, &direction}) require_here("muon", *t, stream);
  by_master(master, [&]<class M>(TypeTag<M>) {
    const auto run = [&]<class W>(TypeTag<W>) {
      for_elements("muon_apply", master.numel(), stream,
                   Apply<M, W>{master.data<M>(), weight.defined() ? weight.data<W>() : nullptr,
                               direction.data<M>(), static_cast<M>(keep), static_cast<M>(rate)});
    };
    if (weight.defined() && weight.dtype() == DType::kBFloat16)
      run(TypeTag<BFloat16>{});
    else
      run(TypeTag<M>{});
  });
}

}  // namespace tutti::cuda
