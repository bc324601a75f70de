#include <tutti/kernels/linear.h>

#include "kernels/activation_functors.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/gemm.h"
#include "kernels/gradient.h"
#include "kernels/linear_parts.h"
#include "kernels/sums.h"

#include <utility>

namespace tutti {
namespace {

/// A tile of a row-major matrix with `columns` columns.
struct Tile {
  int64_t row_begin, row_end, column_begin, column_end, columns;
};

/// y += bias over a tile.
template <class T>
void add_bias(const Tile& tile, const T* bias, T* y) {
  using A = Accumulate<T>;
  run_best_isa([=] {
    for (int64_t r = tile.row_begin; r < tile.row_end; ++r) {
      INDEPENDENT_LOOP
      for (int64_t c = tile.column_begin; c < tile.column_end; ++c) {
        const int64_t at = r * tile.columns + c;
        y[at] = T(static_cast<A>(y[at]) + static_cast<A>(bias[c]));
      }
    }
  });
}

/// before += bias unless it is null, and y = op(before), over a tile.
template <class T, class Op>
void activate(const Tile& tile, T* before, const T* bias, T* y, Op op) {
  using A = Accumulate<T>;
  const auto run = [=](auto shift) {
    for (int64_t r = tile.row_begin; r < tile.row_end; ++r) {
      INDEPENDENT_LOOP
      for (int64_t c = tile.column_begin; c < tile.column_end; ++c) {
        const int64_t at = r * tile.columns + c;
        const A x = static_cast<A>(before[at]) + shift(c);
        before[at] = T(x);
        y[at] = T(op.value(x));
      }
    }
  };
  if (bias != nullptr)
    run_best_isa([=] { run([=](int64_t c) { return static_cast<A>(bias[c]); }); });
  else
    run_best_isa([=] { run([](int64_t) { return A(0); }); });
}

/// p.before = p.product + bias; p.y = activation(p.before).
void forward(const cuda::LinearForward& p, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::linear(p, stream);
  }
  const int64_t outputs = p.product.n;
  dispatch_compute(p.y.dtype(), "linear", [&]<class T>(TypeTag<T>) {
    const T* const b = p.bias.defined() ? p.bias.data<T>() : nullptr;
    T* const pre = p.before.data<T>();
    T* const y = p.y.data<T>();
    Gemm product = p.product;
    product.c = pre;
    product.ldc = outputs;
    product.c_dtype = p.y.dtype();
    cpu::gemm(product, stream,
              [&](int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end) {
                const Tile tile{row_begin, row_end, column_begin, column_end, outputs};
                if (p.activation == Activation::kNone && b != nullptr) add_bias(tile, b, y);
                with_activation(p.activation, [&](auto op) { activate(tile, pre, b, y, op); });
              });
  });
}

}  // namespace

LinearInput LinearInput::of(std::string_view op, const Var& x, const Stream& stream) {
  require(x.value.defined(), "{}: undefined input", op);
  const Tensor in = x.value.to_contiguous(stream);
  const int64_t inputs = in.dims() == 0 ? 1 : in.size(-1);
  const int64_t rows = in.dims() == 0 ? 1 : numel({in.shape().begin(), in.shape().end() - 1});
  return {.shape = in.shape(), .dtype = in.dtype(), .source = in.view({rows, inputs}), .node = x.node};
}

LinearResult linear_forward(std::string_view op, const Tape& tape, const LinearInput& x, const Var& w,
                            const Var& bias, Activation activation, const Fp8Ranges& ranges) {
  const Stream& stream = tape.stream();
  require(w.value.defined(), "{}: undefined input", op);
  require(!x.shape.empty() && w.value.dims() == 2 && x.shape.back() == w.value.size(1),
          "{}: x {} does not fit w {}, which is (outputs, inputs)", op, to_string(x.shape),
          to_string(w.shape()));
  require(x.dtype == w.dtype(), "{}: x is {}, w is {}", op, name(x.dtype), name(w.dtype()));
  const bool has_bias = bias.value.defined();
  const int64_t outputs = w.value.size(0);
  const int64_t inputs = w.value.size(1);
  require(!has_bias || (bias.shape() == Shape{outputs} && bias.dtype() == x.dtype),
          "{}: bias {} {} for {} outputs in {}", op, to_string(bias.shape()),
          has_bias ? name(bias.dtype()) : "undefined", outputs, name(x.dtype));

  const Tensor weight = w.value.to_contiguous(stream);
  Shape shape = x.shape;
  shape.back() = outputs;
  const Tensor out = Tensor::empty(shape, x.dtype, stream);
  const int64_t rows = numel({shape.begin(), shape.end() - 1});  // if there are no inputs, y is the bias

  // The derivative of kRelu is a function of its output, that of the others of their input.
  const bool keeps_input = activation != Activation::kNone && activation != Activation::kRelu;
  const Tensor before = keeps_input ? Tensor::empty(shape, x.dtype, stream) : out;
  const Tensor bias_row = has_bias ? bias.value.to_contiguous(stream) : Tensor();
  const Fp8Pass fp8(tape, ranges, x.dtype, {rows, inputs, outputs});
  const ProductOperand x_operand = fp8.operand(Fp8Pass::kX, x.source, stream);
  const ProductOperand w_operand = fp8.operand(Fp8Pass::kW, weight, stream);
  forward({product(x_operand, false, w_operand, true), bias_row, before, out, activation}, stream);
  return {.y = out,
          .saved = {.x = x_operand.by_columns(),
                    .w = w_operand.by_columns(),
                    .fp8 = fp8,
                    .derived = activation == Activation::kNone ? Tensor() : before,
                    .activation = activation,
                    .rows = rows,
                    .outputs = outputs}};
}

void activation_backward(const Tensor& dy, const Tensor& derived, const Tensor& dx, Activation activation,
                         const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) {
      with_activation(activation, [&](auto op) { cuda::map_backward(dy, derived, dx, op, stream); });
      return;
    }
  }
  dispatch_compute(dy.dtype(), "linear", [&]<class T>(TypeTag<T>) {
    const T* const from = dy.data<T>();
    const T* const with = derived.data<T>();
    T* const to = dx.data<T>();
    with_activation(activation, [&](auto op) {
      for_ranges(stream, dy.numel(), kElementsPerTask, [=](int64_t begin, int64_t end) {
        SerialTeam team;
        row::map_backward(team, from + begin, with + begin, to + begin, end - begin, op);
      });
    });
  });
}

ProductOperand LinearSaved::parameter_gradients(const OperandSource& d, const Gradients& gradients,
                                                const Stream& stream) const {
  ProductOperand operand;
  if (gradients.needs(2)) {
    Tensor sums;
    operand = fp8.operand(Fp8Pass::kDy, d, sums, stream);
    const auto [slot, mode] = gradients.slot(2);
    store(sums, slot, mode, stream);
  } else {
    operand = fp8.operand(Fp8Pass::kDy, d, stream);
  }
  fp8.record_ranges(gradients, 3, stream);
  if (gradients.needs(1)) gemm_gradient(gradients, 1, product(operand, true, x, false), stream);
  return operand;
}

Var record_linear(Tape& tape, const LinearInput& x, const Var& w, const Var& bias, Activation activation,
                  const Fp8Ranges& ranges) {
  LinearResult result = linear_forward("linear", tape, x, w, bias, activation, ranges);
  return tape.record("linear", std::move(result.y), {x.place(), w, bias, ranges.x, ranges.w, ranges.dy},
                     [saved = std::move(result.saved), stream = tape.stream()](const Tensor& dy,
                                                                               const Gradients& gradients) {
                       const bool active = saved.activation != Activation::kNone;
                       const Tensor d = active ? reuse_or_empty(dy, stream) : dy;
                       if (active) activation_backward(dy, saved.derived, d, saved.activation, stream);
                       const ProductOperand operand =
                           saved.parameter_gradients(saved.matrix(d), gradients, stream);
                       if (gradients.needs(0))
                         gemm_gradient(gradients, 0, saved.input_gradient(operand), stream);
                     });
}

Var linear(Tape& tape, const Var& x, const Var& w, const Var& bias, Activation activation) {
  return record_linear(tape, LinearInput::of("linear", x, tape.stream()), w, bias, activation, {});
}

}  // namespace tutti
