#pragma once

#include <thread>
#include <vector>

namespace tutti {

/// Binds a thread to one logical CPU. Throws Error if the system refuses.
void bind_thread(std::thread::native_handle_type thread, int core);

/// Gives the calling thread the CPUs that the process had before bind_thread() was first called. A thread
/// inherits the CPUs of the thread that starts it: threads that read data or communicate during the
/// computation call this, so that they do not share its core.
void unbind_caller() noexcept;

/// The logical CPUs, ascending, that the calling thread may use, or that it had if bind_thread() has bound
/// it.
std::vector<int> unbound_core_list();

}  // namespace tutti
