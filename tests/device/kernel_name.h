#pragma once

#include <string>

namespace software_cuda {

/// The name of a kernel by the symbols of the program; its address if there are none.
std::string kernel_name(const void* function);

}  // namespace software_cuda
