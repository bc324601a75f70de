#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// One kernel, copy or fill on a device.
struct DeviceSpan {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  std::string name;  ///< of the kernel, mangled; "memcpy" and "memset" for copies and fills
};

/// Kinds of work on a device.
enum class DeviceWork : uint8_t { kProducts, kAttention, kConvolutions, kOwn, kCollectives, kCopies, kOther };
inline constexpr size_t kDeviceWorks = 7;
std::string_view name(DeviceWork work);
/// The kind of a kernel, from the naming conventions of cuBLAS, cuDNN, NCCL and Tutti.
DeviceWork work_of(std::string_view kernel);

/// The time of a device in a step, by kind of work.
struct DeviceTime {
  double busy_s = 0;  ///< at least one kernel, copy or fill was running
  double idle_s = 0;  ///< nothing was running, between kernels or while the host prepared the step
  std::array<double, kDeviceWorks> work_s{};  ///< by DeviceWork; concurrent work counts for each
};

/// Means over the steps between consecutive `marks_ns`, which are times at which the device was idle. Spans
/// may be in any order; those outside the marks are ignored.
DeviceTime device_time(std::vector<DeviceSpan> spans, std::span<const int64_t> marks_ns);

/// Records the work of this process's devices with CUPTI, the tracing library of the CUDA toolkit. Only one
/// object at a time. Tracing slows steps down: use it for the distribution of time, not for its amount.
class DeviceTrace {
 public:
  /// Null, and sets `reason`, if there is no CUPTI or another tool uses it.
  static std::unique_ptr<DeviceTrace> start(std::string& reason);
  ~DeviceTrace();
  DeviceTrace(const DeviceTrace&) = delete;
  DeviceTrace& operator=(const DeviceTrace&) = delete;

  /// The current time of the clock of the spans.
  [[nodiscard]] int64_t now_ns() const;
  /// Ends the recording. All work of the devices must be done. Throws Error if records were lost.
  std::vector<DeviceSpan> stop();

 private:
  struct State;
  explicit DeviceTrace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tutti
