#pragma once

#include <thread>

namespace tutti {

/// Binds a thread to one logical CPU. Throws Error if the system refuses.
void bind_thread(std::thread::native_handle_type thread, int core);

/// Gives the calling thread the CPUs that the process had before bind_thread() was first called. A thread
/// starts on those of the one that starts it: threads that read data or talk to other ranks beside the
/// computation call this, so as not to take turns with it on one core.
void unbind_caller() noexcept;

}  // namespace tutti
