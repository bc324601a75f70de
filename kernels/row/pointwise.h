#pragma once

#include <tutti/core/dtype.h>
#include "kernels/row/functor_list.h"
#include "kernels/row/math.h"

// One functor per operation, with its value and derivative, for CPU and CUDA. T is float or double. Add the
// name of a new functor to UnaryOps or BinaryOps: CUDA kernels are instantiated for these lists.
namespace tutti::row {

/// The argument of a unary operation's derivative, which forward saves.
enum class Saves : uint8_t { kNothing, kInput, kOutput };

struct Neg {
  static constexpr Saves kSaves = Saves::kNothing;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return -x;
  }
  template <class T>
  HOST_DEVICE T derivative(T) const {
    return T(-1);
  }
};

struct Scale {
  static constexpr Saves kSaves = Saves::kNothing;
  double factor;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return T(factor) * x;
  }
  template <class T>
  HOST_DEVICE T derivative(T) const {
    return T(factor);
  }
};

struct AddScalar {
  static constexpr Saves kSaves = Saves::kNothing;
  double constant;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x + T(constant);
  }
  template <class T>
  HOST_DEVICE T derivative(T) const {
    return T(1);
  }
};

struct Exp {
  static constexpr Saves kSaves = Saves::kOutput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return math::exp(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    return y;
  }
};

struct Log {
  static constexpr Saves kSaves = Saves::kInput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return math::log(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T x) const {
    return T(1) / x;
  }
};

struct Sqrt {
  static constexpr Saves kSaves = Saves::kOutput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return math::sqrt(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    return T(0.5) / y;
  }
};

struct Square {
  static constexpr Saves kSaves = Saves::kInput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x * x;
  }
  template <class T>
  HOST_DEVICE T derivative(T x) const {
    return x + x;
  }
};

struct Relu {
  static constexpr Saves kSaves = Saves::kOutput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x < T(0) ? T(0) : x;
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    return y > T(0) ? T(1) : T(0);
  }
};

struct Gelu {
  static constexpr Saves kSaves = Saves::kInput;
  template <class T>
  HOST_DEVICE static T normal_cdf(T x) {
    return T(0.5) + T(0.5) * math::erf(x * T(0.70710678118654752440));
  }
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x * normal_cdf(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T x) const {
    return normal_cdf(x) + x * T(0.39894228040143267794) * math::exp(T(-0.5) * x * x);
  }
};

struct GeluTanh {
  static constexpr Saves kSaves = Saves::kInput;
  // 0.5 (1 + tanh(u)) = sigmoid(2u), which is cheaper; 2u = x (kLinear + kCubic x^2).
  static constexpr double kLinear = 1.59576912160573071176;
  static constexpr double kCubic = kLinear * 0.044715;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x * math::sigmoid(x * (T(kLinear) + T(kCubic) * (x * x)));
  }
  template <class T>
  HOST_DEVICE T derivative(T x) const {
    const T z = x * x;
    const T s = math::sigmoid(x * (T(kLinear) + T(kCubic) * z));
    return s + s * (T(1) - s) * x * (T(kLinear) + T(3 * kCubic) * z);
  }
};

struct Silu {
  static constexpr Saves kSaves = Saves::kInput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return x * math::sigmoid(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T x) const {
    const T s = math::sigmoid(x);
    return s + s * (T(1) - s) * x;
  }
};

struct Sigmoid {
  static constexpr Saves kSaves = Saves::kOutput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return math::sigmoid(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    return y * (T(1) - y);
  }
};

struct Tanh {
  static constexpr Saves kSaves = Saves::kOutput;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return math::tanh(x);
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    return T(1) - y * y;
  }
};

struct SoftCap {
  static constexpr Saves kSaves = Saves::kOutput;
  double cap;
  template <class T>
  HOST_DEVICE T value(T x) const {
    return T(cap) * math::tanh(x / T(cap));
  }
  template <class T>
  HOST_DEVICE T derivative(T y) const {
    const T u = y / T(cap);
    return T(1) - u * u;
  }
};

/// All functors of unary operations.
using UnaryOps = FunctorList<Neg, Scale, AddScalar, Exp, Log, Sqrt, Square, Relu, Gelu, GeluTanh, Silu,
                             Sigmoid, Tanh, SoftCap>;

// Binary operations: `first` and `second` are the derivatives with respect to the two operands; with kLinear,
// they do not depend on the operands.

struct Add {
  static constexpr bool kLinear = true;
  template <class T>
  HOST_DEVICE T value(T a, T b) const {
    return a + b;
  }
  template <class T>
  HOST_DEVICE T first(T, T) const {
    return T(1);
  }
  template <class T>
  HOST_DEVICE T second(T, T) const {
    return T(1);
  }
};

struct Sub {
  static constexpr bool kLinear = true;
  template <class T>
  HOST_DEVICE T value(T a, T b) const {
    return a - b;
  }
  template <class T>
  HOST_DEVICE T first(T, T) const {
    return T(1);
  }
  template <class T>
  HOST_DEVICE T second(T, T) const {
    return T(-1);
  }
};

struct Mul {
  static constexpr bool kLinear = false;
  template <class T>
  HOST_DEVICE T value(T a, T b) const {
    return a * b;
  }
  template <class T>
  HOST_DEVICE T first(T, T b) const {
    return b;
  }
  template <class T>
  HOST_DEVICE T second(T a, T) const {
    return a;
  }
};

struct Div {
  static constexpr bool kLinear = false;
  template <class T>
  HOST_DEVICE T value(T a, T b) const {
    return a / b;
  }
  template <class T>
  HOST_DEVICE T first(T, T b) const {
    return T(1) / b;
  }
  template <class T>
  HOST_DEVICE T second(T a, T b) const {
    return -a / (b * b);
  }
};

/// All functors of binary operations.
using BinaryOps = FunctorList<Add, Sub, Mul, Div>;

/// y = op(x); y may be x.
template <class Team, class T, class Op>
HOST_DEVICE void map(Team& t, const T* x, T* y, int64_t n, Op op) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) y[i] = T(op.value(A(x[i])));
}

/// dx = dy * derivative(saved); dx may be dy.
template <class Team, class T, class Op>
HOST_DEVICE void map_backward(Team& t, const T* dy, const T* saved, T* dx, int64_t n, Op op) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < n; i += t.lanes()) dx[i] = T(A(dy[i]) * op.derivative(A(saved[i])));
}

/// y = silu(gate) * up, h elements each.
template <class Team, class T>
HOST_DEVICE void swiglu(Team& t, const T* gate, const T* up, T* y, int64_t h) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < h; i += t.lanes()) y[i] = T(Silu().value(A(gate[i])) * A(up[i]));
}

template <class Team, class T>
HOST_DEVICE void swiglu_backward(Team& t, const T* dy, const T* gate, const T* up, T* dgate, T* dup,
                                 int64_t h) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < h; i += t.lanes()) {
    const A g = A(gate[i]);
    const A s = math::sigmoid(g);
    const A d = A(dy[i]);
    dgate[i] = T(d * A(up[i]) * (s + s * (A(1) - s) * g));
    dup[i] = T(d * s * g);
  }
}

/// y = op(gate) * up, h elements each; `op` saves its input.
template <class Team, class T, class Op>
HOST_DEVICE void gated(Team& t, const T* gate, const T* up, T* y, int64_t h, Op op) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < h; i += t.lanes()) y[i] = T(op.value(A(gate[i])) * A(up[i]));
}

template <class Team, class T, class Op>
HOST_DEVICE void gated_backward(Team& t, const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t h,
                                Op op) {
  using A = Accumulate<T>;
  INDEPENDENT_LOOP
  for (int64_t i = t.lane(); i < h; i += t.lanes()) {
    const A g = A(gate[i]);
    const A d = A(dy[i]);
    dgate[i] = T(d * A(up[i]) * op.derivative(g));
    dup[i] = T(d * op.value(g));
  }
}

}  // namespace tutti::row
