#pragma once

#include <boost/context/detail/fcontext.hpp>

#include <cstddef>
#include <functional>

namespace software_cuda {

/// A stack on which a function runs until it leaves, and goes on when it is entered again. All calls are
/// those of one thread.
class Fiber {
 public:
  /// `body` is called at the first enter(); it never returns.
  explicit Fiber(std::function<void(Fiber&)> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs the fiber until it calls leave().
  void enter();
  /// Returns from enter(). Called by the fiber itself.
  void leave();

 private:
  static void start(boost::context::detail::transfer_t from);

  std::function<void(Fiber&)> body_;
  std::byte* memory_;
  boost::context::detail::fcontext_t inside_;
  boost::context::detail::fcontext_t outside_ = nullptr;
  // For AddressSanitizer.
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outer_stack_ = nullptr;
  size_t outer_bytes_ = 0;
};

}  // namespace software_cuda
