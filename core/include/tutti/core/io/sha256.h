#pragma once

#include <tutti/core/tensor.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

extern "C" struct evp_md_ctx_st;

namespace tutti {

/// SHA-256 (FIPS 180-4), computed incrementally.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// The digest of all data so far as 64 lower-case hexadecimal digits; ends the computation.
  std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// Digest of one piece of data.
std::string sha256(std::span<const std::byte> bytes);
inline std::string sha256(std::string_view text) {
  return sha256(std::as_bytes(std::span(text)));
}

/// One digest of named tensors: names, dtypes, shapes and values, in the order of their names. The order of
/// the list does not matter. Two lists have the same digest only if they are equal bit for bit. Throws Error
/// if a tensor is not contiguous or a name is duplicate.
std::string params_sha256(std::span<const std::pair<std::string, Tensor>> tensors);

}  // namespace tutti
