#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// The header of a NumPy file. Source: NumPy's "NEP 1, a simple file format for NumPy arrays".
struct NpyHeader {
  std::string descr;  ///< dtype: "<u2"
  bool fortran_order = false;
  std::vector<int64_t> shape;
  size_t data_begin = 0;
};

/// Whether the bytes begin as a NumPy file does.
bool is_npy(std::span<const std::byte> file);

/// Throws Error naming `name` unless the header is of version 1 to 3, has at most 64 KiB, and is a dictionary
/// of the three keys descr (a text: no records), fortran_order and shape (at most 32 sizes).
NpyHeader parse_npy_header(std::span<const std::byte> file, const std::string& name);

}  // namespace tutti
