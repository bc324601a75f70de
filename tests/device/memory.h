#pragma once

#include <cstddef>
#include <string>

// The memory of the software devices. It has addresses of its own, and is accessible only while a device
// runs: a host that reads or writes it is ended with a message.
namespace software_cuda {

/// Null if the device has no more memory. The memory contains NaN. `device` < 0: pinned memory of the host.
void* allocate(size_t bytes, int device);
/// Bytes that are allocated on a device.
size_t in_use(int device);
/// False if `memory` is not the start of memory that is in use and of this kind. Later accesses are caught.
bool release(void* memory, bool pinned);

enum class Place { kPageable, kPinned, kDevice, kOutside };
/// Where a range is; kOutside: partly or wholly in a device's memory, but not within one allocation.
Place place_of(const void* memory, size_t bytes);
/// The device of an address in the memory of devices, else -1.
int device_of(const void* memory);
/// The lowest address of a device's memory.
const std::byte* device_begin(int device);

/// Makes the memory of devices accessible (by the device) or not.
void open_memory();
void close_memory();

/// What is known about an address, for messages about signals; async-signal-safe.
const char* describe_address(const void* address) noexcept;

}  // namespace software_cuda
