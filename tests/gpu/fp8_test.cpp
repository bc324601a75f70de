#include "tests/gpu/on_both.h"

#include <tutti/kernels/fp8.h>
#include "kernels/activation_functors.h"
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/pointwise.h"

#include <limits>

namespace tutti::test {
namespace {

class GpuFp8 : public GpuTest {
 protected:
  /// Compares output and gradients of `f` in bf16 with fp8 products between the GPU and the CPU, which
  /// emulates fp8.
  void check(const Function& f, const std::vector<Tensor>& inputs, const Tensor& dy, double tolerance) {
    if (cuda::device_info(0).capability < 89) GTEST_SKIP() << "fp8 products need sm_89 or newer";
    const StepContext context{.step = kFirstFp8Step, .batch_share = 0.5};
    const Outcome expected = run_op(f, inputs, dy, DType::kBFloat16, stream(), context);
    std::vector<Tensor> gpu_inputs;
    for (const Tensor& input : inputs) gpu_inputs.push_back(input.to(input.dtype(), gpu()));
    poison(dy.bytes());
    const Outcome on_gpu = run_op(f, gpu_inputs, dy.to(dy.dtype(), gpu()), DType::kBFloat16, gpu(), context);
    Outcome actual{.output = on_gpu.output.to(on_gpu.output.dtype(), stream()), .gradients = {}};
    for (const Tensor& g : on_gpu.gradients)
      actual.gradients.push_back(g.defined() ? g.to(g.dtype(), stream()) : Tensor());
    expect_near(actual, expected, tolerance, "GPU against CPU");
  }
  Tensor range(double value) { return Tensor::full({1}, value, DType::kFloat64, stream()); }

  /// Quantises on the GPU. Returns bytes, their transpose, the largest magnitude and the sums of the columns,
  /// on the CPU.
  std::vector<Tensor> quantised(const OperandSource& source, const Shape& shape, Fp8Format format) {
    const ProductOperand operand{.bytes = Tensor::empty(shape, DType::kUInt8, gpu()),
                                 .transposed = Tensor::empty({shape[1], shape[0]}, DType::kUInt8, gpu()),
                                 .unit = Tensor::empty({}, DType::kFloat32, gpu()),
                                 .format = format,
                                 .rows = shape[0],
                                 .columns = shape[1]};
    const Tensor largest = Tensor::zeros({}, DType::kFloat32, gpu());
    poison(numel(shape));
    const Tensor sums =
        cuda::quantise(source, Tensor::full({1}, 2, DType::kBFloat16, gpu()), largest, operand, true, gpu());
    std::vector<Tensor> result;
    for (const Tensor& t : {operand.bytes, operand.transposed, largest, sums})
      result.push_back(t.to(t.dtype(), stream()));
    return result;
  }
  void expect_codes_of(const Tensor& matrix, const OperandSource& source, Fp8Format format) {
    const auto expected = quantised(matrix, matrix.shape(), format);
    const auto actual = quantised(source, matrix.shape(), format);
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto a = to_doubles(actual[i]);
      const auto b = to_doubles(expected[i]);
      EXPECT_EQ(a, b) << "output " << i;
    }
  }
};

/// The sums of the columns of x; infinite for columns with infinite elements.
std::vector<double> column_sums(const Tensor& x) {
  const std::vector<double> values = to_doubles(x);
  std::vector<double> sums(static_cast<size_t>(x.size(1)));
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
  return sums;
}

template <Fp8Format format>
uint8_t code(const Tensor& x, int64_t i, float scale) {
  return to_fp8<format>(static_cast<float>(x.data<BFloat16>()[i]) * scale);
}

TEST_F(GpuFp8, CodesMatchTheCpu) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{16, 16}, {48, 80}, {128, 64}, {208, 1040}}) {
    for (const Fp8Format format : {Fp8Format::kE4M3, Fp8Format::kE5M2}) {
      SCOPED_TRACE(fmt::format("{} x {} {}", rows, columns, name(format)));
      const Tensor x = random.normal({rows, columns}, 5).to(DType::kBFloat16, stream());
      x.data<BFloat16>()[3] = BFloat16(std::numeric_limits<float>::infinity());
      x.data<BFloat16>()[5] = BFloat16(1e30F);
      x.data<BFloat16>()[7] = BFloat16(-1e-9F);
      x.data<BFloat16>()[9] = BFloat16(-0.0F);
      const Tensor range = Tensor::full({1}, 11, DType::kBFloat16, stream());
      ProductOperand operand{.bytes = Tensor::empty({rows, columns}, DType::kUInt8, gpu()),
                             .transposed = Tensor::empty({columns, rows}, DType::kUInt8, gpu()),
                             .unit = Tensor::empty({}, DType::kFloat32, gpu()),
                             .format = format,
                             .rows = rows,
                             .columns = columns};
      const Tensor largest = Tensor::zeros({}, DType::kFloat32, gpu());
      poison(rows * columns);
      const Tensor gpu_x = x.to(x.dtype(), gpu());
      const Tensor sums =
          cuda::quantise(gpu_x, range.to(range.dtype(), gpu()), largest, operand, true, gpu());
      const float most =
          format == Fp8Format::kE4M3 ? Fp8Bits<Fp8Format::kE4M3>::kMost : Fp8Bits<Fp8Format::kE5M2>::kMost;
      const float scale = fp8_scale(11, most);
      const Tensor bytes = operand.bytes.to(DType::kUInt8, stream());
      const Tensor transposed = operand.transposed.to(DType::kUInt8, stream());
      int64_t wrong = 0;
      for (int64_t i = 0; i < rows * columns; ++i) {
        const uint8_t expected = format == Fp8Format::kE4M3 ? code<Fp8Format::kE4M3>(x, i, scale)
                                                            : code<Fp8Format::kE5M2>(x, i, scale);
        // NaN has several codes.
        const auto same = [&](uint8_t actual) {
          return actual == expected || ((expected & 0x7fU) == 0x7fU &&
                                        (actual & 0x7fU) > (format == Fp8Format::kE4M3 ? 0x7eU : 0x7cU));
        };
        wrong += same(bytes.data<uint8_t>()[i]) ? 0 : 1;
        wrong += same(transposed.data<uint8_t>()[i % columns * rows + i / columns]) ? 0 : 1;
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_EQ(operand.unit.item(), 1 / scale);
      const auto expected_sums = column_sums(x);
      const auto actual_sums = to_doubles(sums.to(DType::kFloat32, stream()));
      for (size_t c = 0; c < expected_sums.size(); ++c) {
        if (std::isfinite(expected_sums[c]))
          EXPECT_NEAR(actual_sums[c], expected_sums[c],
                      1e-6 * (std::abs(expected_sums[c]) + 20.0 * static_cast<double>(rows)))
              << c;
        else
          EXPECT_EQ(actual_sums[c], expected_sums[c]) << c;
      }
      EXPECT_TRUE(std::isinf(largest.item()));
    }
  }
}

// Gradients are rounded to bf16 in the backward pass of an activation and then to E5M2, whose spacing is so
// large that an element that is rounded up on one device and down on the other changes a sum by a twentieth.
TEST_F(GpuFp8, LinearLayersMatchTheCpu) {
  for (const auto& [rows, inputs, outputs] : {std::array<int64_t, 3>{16, 16, 16},
                                              {128, 64, 192},
                                              {extent(1024, 144), extent(768, 80), extent(2304, 208)},
                                              {30, 64, 64}}) {
    for (const Activation activation : {Activation::kNone, Activation::kGeluTanh}) {
      SCOPED_TRACE(fmt::format("{} x {} -> {}", rows, inputs, outputs));
      const Function f = [activation](Tape& t, const std::vector<Var>& v) {
        return fp8_linear(t, v[0], v[1], v[2], activation, {.x = v[3], .w = v[4], .dy = v[5]});
      };
      check(f,
            {random.normal({rows, inputs}), random.normal({outputs, inputs}, 0.1), random.normal({outputs}),
             range(4), range(0.4), range(5)},
            random.normal({rows, outputs}), activation == Activation::kNone ? 3e-2 : 8e-2);
    }
  }
}

// The expected codes are those of the bf16 matrix that the op itself writes.
TEST_F(GpuFp8, FusedSourcesHaveTheCodesOfTheirMatrices) {
  for (const Shape& shape : {Shape{16, 16}, Shape{48, 80}, Shape{208, 1040}}) {
    SCOPED_TRACE(to_string(shape));
    const Tensor x = random.normal(shape, 2).to(DType::kBFloat16, gpu());
    const Tensor y = Tensor::empty(shape, DType::kBFloat16, gpu());
    for (const Activation activation :
         {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      SCOPED_TRACE(static_cast<int>(activation));
      with_activation(activation, [&](auto op) { cuda::map(x, y, op, gpu()); });
      expect_codes_of(y, Activated{x, activation}, Fp8Format::kE4M3);
    }
    for (const bool centred : {true, false}) {
      cuda::NormForward norm{.centred = centred,
                             .eps = 1e-5,
                             .x = x,
                             .w = random.normal({shape[1]}).to(DType::kBFloat16, gpu()),
                             .b = centred ? random.normal({shape[1]}).to(DType::kBFloat16, gpu()) : Tensor(),
                             .y = y,
                             .moments = Tensor::empty({shape[0], 2}, DType::kFloat32, gpu())};
      cuda::norm_forward(norm, gpu());
      fill(norm.moments, 0, gpu());
      norm.y = Tensor();
      cuda::norm_forward(norm, gpu());
      expect_codes_of(y, Normalised{x, norm.w, norm.b, norm.moments}, Fp8Format::kE4M3);
    }
    for (const double smoothing : {0.0, 0.1}) {
      for (const DType labels : {DType::kInt32, DType::kInt64}) {
        const Tensor targets = random.integers({shape[0]}, 0, shape[1] - 1);
        targets.data<int32_t>()[3] = -1;
        const cuda::CrossEntropy loss{.logits = x,
                                      .targets = targets.to(labels, gpu()),
                                      .lse = Tensor::empty({shape[0]}, DType::kFloat32, gpu()),
                                      .ignore_index = -1,
                                      .smoothing = smoothing,
                                      .scale = 0.7};
        cuda::cross_entropy(loss, Tensor::empty({}, DType::kFloat32, gpu()), gpu());
        cuda::cross_entropy_backward(loss, Tensor::full({}, 1, DType::kFloat32, gpu()), y, gpu());
        expect_codes_of(y, LogitGradient{loss}, Fp8Format::kE5M2);
      }
    }
  }
}

// Without ReLU, whose derivative depends on rounding close to 0.
TEST_F(GpuFp8, FeedForwardLayersMatchTheCpu) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{32, 48}, {208, 128}, {30, 64}}) {
    for (const Activation activation :
         {Activation::kNone, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      SCOPED_TRACE(fmt::format("{} x {}, activation {}", rows, width, static_cast<int>(activation)));
      const Function f = [activation](Tape& t, const std::vector<Var>& v) {
        return fp8_mlp(
            t, v[0], v[1], v[2], v[3], v[4], activation,
            {.up = {.x = v[5], .w = v[6], .dy = v[7]}, .down = {.x = v[8], .w = v[9], .dy = v[10]}});
      };
      check(f,
            {random.normal({rows, width}), random.normal({4 * width, width}, 0.1), random.normal({4 * width}),
             random.normal({width, 4 * width}, 0.1), random.normal({width}), range(4), range(0.4), range(5),
             range(6), range(0.4), range(5)},
            random.normal({rows, width}), 8e-2);
    }
  }
}

TEST_F(GpuFp8, DeferredNormsMatchTheCpu) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{32, 48}, {208, 1040}, {30, 64}}) {
    for (const bool centred : {true, false}) {
      SCOPED_TRACE(fmt::format("{} x {}, {}", rows, width, centred ? "layer" : "rms"));
      const Function f = [&](Tape& t, const std::vector<Var>& v) {
        const auto normed = [&]() -> Fp8Input {
          if (takes_deferred_norm(t, v[0], v[4]))
            return centred ? add_deferred_layer_norm(t, v[0], v[1], v[2], v[3]).norm
                           : add_deferred_rms_norm(t, v[0], v[1], v[2]).norm;
          return centred ? add_layer_norm(t, v[0], v[1], v[2], v[3]).y : add_rms_norm(t, v[0], v[1], v[2]).y;
        };
        return fp8_linear(t, normed(), v[4], Var{}, Activation::kNone, {.x = v[5], .w = v[6], .dy = v[7]});
      };
      check(f,
            {random.normal({rows, width}), random.normal({rows, width}), random.normal({width}),
             random.normal({width}), random.normal({64, width}, 0.1), range(4), range(0.4), range(5)},
            random.normal({rows, 64}), 8e-2);
    }
  }
}

TEST_F(GpuFp8, LossOfTheHeadMatchesTheCpu) {
  const Tensor targets = random.integers({96}, 0, 1007);
  for (const int64_t chunk : {32, 96}) {
    const Function f = [&](Tape& t, const std::vector<Var>& v) {
      const Tensor labels = targets.to(targets.dtype(), t.stream());
      return fp8_linear_cross_entropy(t, v[0], v[1], labels, {.chunk_rows = chunk},
                                      {.x = v[2], .w = v[3], .dy = v[4]});
    };
    check(f, {random.normal({96, 64}), random.normal({1008, 64}, 0.1), range(4), range(0.4), range(1)},
          Tensor::full({}, 1, DType::kFloat64, stream()), 4e-2);
  }
}

}  // namespace
}  // namespace tutti::test
