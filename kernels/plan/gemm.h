#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/float8.h>

#include <cstdint>

namespace tutti {

/// A matrix operand in memory: element (i, j) is at data[i * ld + j], or at data[j * ld + i] if
/// transposed.
struct MatrixOperand {
  const void* data = nullptr;
  int64_t ld = 0;
  bool transposed = false;
};

/// fp8 operands, on CUDA devices only.
struct Fp8Factors {
  Fp8Format a = Fp8Format::kNone, b = Fp8Format::kNone;
  const float* a_unit = nullptr;  ///< on the device: the factor that the values of A are multiplied by
  const float* b_unit = nullptr;
  bool fast = false;  ///< partial sums may have fewer bits than fp32
};

/// C (m, n) = A (m, k) B (k, n), or C += with `accumulate`. A and B are `dtype`: fp32, bf16 or fp64. C is
/// row-major with leading dim ldc, of `dtype`, or fp32 for bf16 operands. Sums are fp32 (fp64 for fp64).
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kFloat32;
  MatrixOperand a, b;
  void* c = nullptr;
  int64_t ldc = 0;
  DType c_dtype = DType::kFloat32;
  bool accumulate = false;
  Fp8Factors fp8{};  ///< if set, `dtype` is bf16, A is not transposed and B is
};

}  // namespace tutti
