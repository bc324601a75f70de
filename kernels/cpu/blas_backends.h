#pragma once

#include "kernels/cpu/blas.h"

#include <string>

// The implementations that blas.cpp selects from. Each runs one Gemm on the calling thread and returns false
// for products that it does not support.
namespace tutti::cpu {

bool onednn_gemm(const Gemm& gemm);
std::string onednn_version();
bool openblas_gemm(const Gemm& gemm);
std::string openblas_version();
void own_gemm(const Gemm& gemm);

}  // namespace tutti::cpu
