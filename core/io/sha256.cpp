#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include <tutti/core/io/sha256.h>

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <vector>

namespace tutti {

void Sha256::Free::operator()(evp_md_ctx_st* context) const noexcept {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  require(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
          "sha256: OpenSSL cannot start a digest");
}

void Sha256::update(std::span<const std::byte> bytes) {
  constexpr size_t kPiece = size_t{8} << 20;
  while (true) {
    const auto piece = bytes.first(std::min(kPiece, bytes.size()));
    require(EVP_DigestUpdate(context_.get(), piece.data(), piece.size()) == 1, "sha256: OpenSSL failed");
    bytes = bytes.subspan(piece.size());
    if (bytes.empty()) return;
    interruption_point();
  }
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1, "sha256: OpenSSL failed");
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string params_sha256(std::span<const std::pair<std::string, Tensor>> tensors) {
  std::vector<const std::pair<std::string, Tensor>*> sorted;
  for (const auto& entry : tensors) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  Sha256 hash;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto& [tensor_name, tensor] = *sorted[i];
    require(tensor.contiguous(), "params_sha256: tensor '{}' is not contiguous", tensor_name);
    require(i == 0 || sorted[i - 1]->first != tensor_name, "params_sha256: duplicate tensor '{}'",
            tensor_name);
    // The length before the name ensures that different lists give different bytes.
    hash.update(fmt::format("{} {} {} {}\n", tensor_name.size(), tensor_name, name(tensor.dtype()),
                            to_string(tensor.shape())));
    const Tensor bytes = tensor.on_host();
    hash.update({static_cast<const std::byte*>(bytes.raw()), static_cast<size_t>(bytes.bytes())});
  }
  return hash.finish();
}

}  // namespace tutti
