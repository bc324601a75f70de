#pragma once

#include <string_view>

namespace tutti {

/// Names who allocates on this thread for as long as it lives: the path of a module, an op. Out-of-memory
/// reports list these names. `name` outlives the scope; scopes nest.
class MemoryOwner {
 public:
  explicit MemoryOwner(std::string_view name);
  ~MemoryOwner();
  MemoryOwner(const MemoryOwner&) = delete;
  MemoryOwner& operator=(const MemoryOwner&) = delete;

  /// The innermost name, "" outside of any scope.
  static std::string_view current() noexcept;

 private:
  std::string_view before_;
};

}  // namespace tutti
