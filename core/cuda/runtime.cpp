#include "core/cuda/runtime.h"

#include "core/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace tutti::cuda {
namespace {

thread_local std::array<char, 64> last_kernel{};  // ends with a zero

/// What else is known about an error of work that had been submitted before the call which returned it; else
/// "".
std::string about_earlier_work(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
      break;
    default:
      return "";
  }
  const char* const blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  if (blocking != nullptr && std::string_view(blocking) == "1") return "";
  return fmt::format(
      "; a kernel or copy before it failed while it ran{}. CUDA_LAUNCH_BLOCKING=1 names the kernel",
      last_kernel[0] == '\0' ? ""
                             : fmt::format(" (the last kernel launched here: '{}')", last_kernel.data()));
}

}  // namespace

void remember_kernel(std::string_view name) noexcept {
  const size_t length = std::min(name.size(), last_kernel.size() - 1);
  std::copy_n(name.data(), length, last_kernel.data());
  last_kernel[length] = '\0';
}

void check(cudaError_t status, std::string_view call, std::source_location where) {
  if (status == cudaSuccess) [[likely]]
    return;
  // Clear an error that is not sticky, which the next launch check would otherwise report again.
  (void)cudaGetLastError();
  int device = -1;
  const bool known = cudaGetDevice(&device) == cudaSuccess;
  throw Error(fmt::format("{} failed on {}: {} ({}){}", call, known ? fmt::format("cuda:{}", device) : "CUDA",
                          cudaGetErrorName(status), cudaGetErrorString(status), about_earlier_work(status)),
              where);
}

void check_device(std::string_view call, std::source_location where) {
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), call,
        where);  // returns the device's error, and asks nothing of a stream
}

namespace {

thread_local int device_in_use = -1;  // of this thread's innermost UseDevice
thread_local bool chosen = false;     // whether this thread has called cudaSetDevice

}  // namespace

UseDevice::UseDevice(int device) : outer_(device_in_use) {
  // Queried each time: other code of the process may have made another device current.
  int now = -1;
  check(cudaGetDevice(&now), "cudaGetDevice");
  if (now != device || !chosen) check(cudaSetDevice(device), "cudaSetDevice");
  chosen = true;
  device_in_use = device;
}

UseDevice::~UseDevice() {
  // A destructor does not throw; a broken device is reported by the next call.
  if (outer_ >= 0 && outer_ != device_in_use) (void)cudaSetDevice(outer_);
  device_in_use = outer_;
}

cudaStream_t native(const Stream& stream) {
  require(stream.device().type == DeviceType::kCuda,
          "a CUDA operation needs a stream of a CUDA device, got one of {}", name(stream.device()));
  return static_cast<cudaStream_t>(stream.native());
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

std::string why_no_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return "";
  (void)cudaGetLastError();
  int driver = 0;
  if (status == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) {
    return fmt::format("the NVIDIA driver supports CUDA up to {}.{}, this build needs {}.{}", driver / 1000,
                       driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  }
  return status == cudaSuccess ? "there is no CUDA device" : cudaGetErrorString(status);
}

DeviceInfo device_info(int device) {
  const int count = device_count();
  require(device >= 0 && device < count, "cuda:{} does not exist: {}", device,
          count == 0 ? why_no_device() : fmt::format("there are {} devices", count));
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
  DeviceInfo info{.name = p.name,
                  .uuid = "GPU",
                  .pci = fmt::format("{:04x}:{:02x}:{:02x}.0", p.pciDomainID, p.pciBusID, p.pciDeviceID),
                  .capability = p.major * 10 + p.minor,
                  .multiprocessors = p.multiProcessorCount,
                  .memory_bytes = static_cast<int64_t>(p.totalGlobalMem)};
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) info.uuid += '-';
    info.uuid += fmt::format("{:02x}", static_cast<unsigned char>(p.uuid.bytes[i]));
  }
  return info;
}

// tutti::cuda::probe_kernel is an empty kernel of this build. It can be loaded only if the build was compiled
// for the device's architecture.
const void* probe_kernel();

void require_usable(int device) {
  const DeviceInfo info = device_info(device);
  const UseDevice use(device);
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel());
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();
    fail(
        "cuda:{} ({}) has compute capability {}.{}, for which this build has no kernels: configure with "
        "-DCMAKE_CUDA_ARCHITECTURES={} or native",
        device, info.name, info.capability / 10, info.capability % 10, info.capability);
  }
  check(status, "cudaFuncGetAttributes");
}

}  // namespace tutti::cuda
