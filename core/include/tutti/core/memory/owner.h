#pragma once

#include <string_view>

namespace tutti {

/// Sets the owner of allocations on this thread for the scope: the path of a module, or an op. Out-of-memory
/// reports list these names. `name` must outlive the scope; scopes nest.
class MemoryOwner {
 public:
  explicit MemoryOwner(std::string_view name);
  ~MemoryOwner();
  MemoryOwner(const MemoryOwner&) = delete;
  MemoryOwner& operator=(const MemoryOwner&) = delete;

  /// The innermost name; "" outside any scope.
  static std::string_view current() noexcept;

 private:
  std::string_view before_;
};

}  // namespace tutti
