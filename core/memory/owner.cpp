#include <tutti/core/memory/owner.h>

#include <utility>

namespace tutti {
namespace {

thread_local std::string_view current_owner;

}  // namespace

MemoryOwner::MemoryOwner(std::string_view name) : before_(std::exchange(current_owner, name)) {}

MemoryOwner::~MemoryOwner() {
  current_owner = before_;
}

std::string_view MemoryOwner::current() noexcept {
  return current_owner;
}

}  // namespace tutti
