#pragma once

#include <tutti/kernels/activation.h>
#include "kernels/row/pointwise.h"

#include <utility>

namespace tutti {

/// Calls f(functor) with the functor (kernels/row/pointwise.h) of an activation; does nothing for kNone.
template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return f(row::Relu{});
    case Activation::kGelu:
      return f(row::Gelu{});
    case Activation::kGeluTanh:
      return f(row::GeluTanh{});
    case Activation::kSilu:
      return f(row::Silu{});
  }
}

}  // namespace tutti
