#include "launcher/preflight/gpu.h"

#include <tutti/core/error.h>

#include <dlfcn.h>

#include <array>
#include <memory>
#include <utility>

namespace tutti {
namespace {

// The types of NVML's functions: neither its header nor its library is needed to build. Its ABI is stable.
using NvmlDevice = void*;
struct Memory {
  unsigned long long total = 0;
  unsigned long long free = 0;
  unsigned long long used = 0;
};
constexpr int kSuccess = 0;
constexpr int kUncorrected = 1;      // NVML_MEMORY_ERROR_TYPE_UNCORRECTED
constexpr int kSinceDriverLoad = 0;  // NVML_VOLATILE_ECC
constexpr int kMultiprocessors = 1;  // NVML_CLOCK_SM

struct SlowReason {
  unsigned long long bit;
  const char* text;
};
// NVML_CLOCKS_THROTTLE_REASON_*: faults. A power cap is not a fault.
constexpr std::array kSlowReasons{SlowReason{0x40, "heat"}, SlowReason{0x20, "heat"},
                                  SlowReason{0x80, "a power brake"}, SlowReason{0x8, "its hardware"}};

/// The library while it is loaded and initialised.
class Nvml {
 public:
  explicit Nvml(const std::string& path)
      : library_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), &close_library) {}
  ~Nvml() {
    if (initialised_) (void)call<int()>("nvmlShutdown");
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  [[nodiscard]] bool loaded() const { return library_ != nullptr; }

  void initialise() {
    check(call<int()>("nvmlInit_v2"), "nvmlInit_v2");
    initialised_ = true;
  }

  /// Calls a function that may be missing in an older library, or not supported by a device: then false.
  template <class... Args>
  bool call(const char* name, Args... args) const {
    return call<int(Args...)>(name, args...) == kSuccess;
  }

  void check(int code, const char* name) const {
    if (code == kSuccess) return;
    using Text = const char*(int);
    auto* const text = reinterpret_cast<Text*>(dlsym(library_.get(), "nvmlErrorString"));
    fail("{}: {} (code {})", name, text == nullptr ? "failed" : text(code), code);
  }

 private:
  static void close_library(void* library) { (void)dlclose(library); }

  template <class Function, class... Args>
  int call(const char* name, Args... args) const {
    constexpr int kNotFound = -1;
    auto* const function = reinterpret_cast<Function*>(dlsym(library_.get(), name));
    return function == nullptr ? kNotFound : function(args...);
  }

  std::unique_ptr<void, void (*)(void*)> library_;
  bool initialised_ = false;
};

GpuReport look_at(const Nvml& nvml, unsigned index) {
  GpuReport gpu;
  NvmlDevice device = nullptr;
  if (!nvml.call("nvmlDeviceGetHandleByIndex_v2", index, &device)) {
    fail("GPU {} does not answer: it may have fallen off the bus (dmesg, Xid 79)", index);
  }
  std::array<char, 96> text{};
  const auto size = static_cast<unsigned>(text.size() - 1);
  if (nvml.call("nvmlDeviceGetName", device, text.data(), size)) gpu.name = text.data();
  text.fill('\0');
  require(nvml.call("nvmlDeviceGetUUID", device, text.data(), size), "GPU {} has no UUID", index);
  gpu.uuid = text.data();
  Memory memory;
  if (nvml.call("nvmlDeviceGetMemoryInfo", device, &memory))
    gpu.memory_bytes = static_cast<int64_t>(memory.total);
  unsigned long long errors = 0;
  if (nvml.call("nvmlDeviceGetTotalEccErrors", device, kUncorrected, kSinceDriverLoad, &errors)) {
    gpu.uncorrected_errors = static_cast<int64_t>(errors);
  }
  unsigned clock = 0;
  if (nvml.call("nvmlDeviceGetClockInfo", device, kMultiprocessors, &clock)) gpu.clock_mhz = clock;
  if (nvml.call("nvmlDeviceGetMaxClockInfo", device, kMultiprocessors, &clock)) gpu.most_clock_mhz = clock;
  unsigned long long reasons = 0;
  if (nvml.call("nvmlDeviceGetCurrentClocksThrottleReasons", device, &reasons)) {
    for (const SlowReason& reason : kSlowReasons) {
      if ((reasons & reason.bit) != 0 && gpu.slowed_by.empty()) gpu.slowed_by = reason.text;
    }
  }
  return gpu;
}

}  // namespace

GpuList list_gpus(const std::string& library) {
  GpuList list;
  Nvml nvml(library);
  if (!nvml.loaded()) return list;
  try {
    nvml.initialise();
    unsigned count = 0;
    require(nvml.call("nvmlDeviceGetCount_v2", &count), "the driver does not report the number of GPUs");
    list.gpus.reserve(count);
    for (unsigned i = 0; i < count; ++i) list.gpus.push_back(look_at(nvml, i));
  } catch (const Error& problem) {
    list.error = problem.what();
  }
  return list;
}

}  // namespace tutti
