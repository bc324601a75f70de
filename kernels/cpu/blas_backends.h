#pragma once

#include "kernels/cpu/blas.h"

#include <string>

// What blas.cpp chooses from. Each runs one Gemm on the calling thread and is false for what it cannot do.
namespace tutti::cpu {

bool onednn_gemm(const Gemm& gemm);
std::string onednn_version();
bool openblas_gemm(const Gemm& gemm);
std::string openblas_version();
void own_gemm(const Gemm& gemm);

}  // namespace tutti::cpu
