#include "launcher/bench/device_trace.h"

#include <tutti/core/error.h>

#if defined(TUTTI_WITH_CUDA) && __has_include(<cupti.h>)
#  define TUTTI_WITH_CUPTI 1
#  include <cupti.h>
#  include <dlfcn.h>
#endif

#include <cstdlib>
#include <mutex>
#include <utility>

namespace tutti {

#if defined(TUTTI_WITH_CUPTI)

namespace {

constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr size_t kBufferAlignment = 8;  // ACTIVITY_RECORD_ALIGNMENT
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET};

/// CUPTI's functions, loaded at first use: without tracing, the library is not required.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped = nullptr;
  decltype(&cuptiGetTimestamp) timestamp = nullptr;
  decltype(&cuptiGetResultString) text = nullptr;
  std::string reason;

  /// Never unloaded: its threads may outlive all users.
  static const Cupti& loaded() {
    static const Cupti cupti = load();
    return cupti;
  }

 private:
  static Cupti load() {
    Cupti cupti;
    void* library = nullptr;
    for (const char* name :
         {"libcupti.so.13", "libcupti.so", "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so",
          "/usr/local/cuda/lib64/libcupti.so"}) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
    }
    if (library == nullptr) {
      cupti.reason = "libcupti.so.13 was not found: add the toolkit's extras/CUPTI/lib64 to LD_LIBRARY_PATH";
      return cupti;
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr) cupti.reason = fmt::format("libcupti has no {}", name);
    };
    find(cupti.register_callbacks, "cuptiActivityRegisterCallbacks");
    find(cupti.enable, "cuptiActivityEnable");
    find(cupti.disable, "cuptiActivityDisable");
    find(cupti.flush, "cuptiActivityFlushAll");
    find(cupti.next_record, "cuptiActivityGetNextRecord");
    find(cupti.dropped, "cuptiActivityGetNumDroppedRecords");
    find(cupti.timestamp, "cuptiGetTimestamp");
    find(cupti.text, "cuptiGetResultString");
    return cupti;
  }
};

/// The output of the callbacks: global, because CUPTI passes them no user data.
struct Records {
  std::mutex mutex;
  std::vector<DeviceSpan> spans;
  size_t dropped = 0;
};

Records& records() {
  static Records all;
  return all;
}

void take(const CUpti_Activity& record) {
  const auto keep = [](const auto& activity, const char* name) {
    records().spans.push_back(
        {static_cast<int64_t>(activity.start), static_cast<int64_t>(activity.end), name});
  };
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto& kernel = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
      return keep(kernel, kernel.name != nullptr ? kernel.name : "");
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return keep(reinterpret_cast<const CUpti_ActivityMemcpy6&>(record), "memcpy");
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return keep(reinterpret_cast<const CUpti_ActivityMemset4&>(record), "memset");
    default:
      return;
  }
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t valid) {
  const Cupti& cupti = Cupti::loaded();
  {
    const std::scoped_lock lock(records().mutex);
    CUpti_Activity* record = nullptr;
    while (valid > 0 && cupti.next_record(buffer, valid, &record) == CUPTI_SUCCESS) take(*record);
    size_t lost = 0;
    if (cupti.dropped(context, stream, &lost) == CUPTI_SUCCESS) records().dropped += lost;
  }
  std::free(buffer);
}

}  // namespace

struct DeviceTrace::State {
  size_t enabled = 0;  // of kKinds
  ~State() {
    const Cupti& cupti = Cupti::loaded();
    while (enabled > 0) (void)cupti.disable(kKinds[--enabled]);
  }
};

std::unique_ptr<DeviceTrace> DeviceTrace::start(std::string& reason) {
  const Cupti& cupti = Cupti::loaded();
  reason = cupti.reason;
  if (!reason.empty()) return nullptr;
  const auto works = [&](CUptiResult result, std::string_view call) {
    if (result == CUPTI_SUCCESS) return true;
    const char* text = nullptr;
    (void)cupti.text(result, &text);
    reason = fmt::format("{} failed: {}", call, text != nullptr ? text : "unknown error");
    return false;
  };
  {
    const std::scoped_lock lock(records().mutex);
    records().spans.clear();
    records().dropped = 0;
  }
  if (!works(cupti.register_callbacks(&give_buffer, &take_buffer), "cuptiActivityRegisterCallbacks"))
    return nullptr;
  auto state = std::make_unique<State>();
  for (const CUpti_ActivityKind kind : kKinds) {
    if (!works(cupti.enable(kind), "cuptiActivityEnable")) return nullptr;
    ++state->enabled;
  }
  return std::unique_ptr<DeviceTrace>(new DeviceTrace(std::move(state)));
}

int64_t DeviceTrace::now_ns() const {
  uint64_t now = 0;
  require(Cupti::loaded().timestamp(&now) == CUPTI_SUCCESS, "cuptiGetTimestamp failed");
  return static_cast<int64_t>(now);
}

std::vector<DeviceSpan> DeviceTrace::stop() {
  require(Cupti::loaded().flush(0) == CUPTI_SUCCESS, "cuptiActivityFlushAll failed");
  state_ = std::make_unique<State>();  // disables all kinds
  const std::scoped_lock lock(records().mutex);
  require(records().dropped == 0, "CUPTI lost {} records", records().dropped);
  return std::exchange(records().spans, {});
}

#else

struct DeviceTrace::State {};

std::unique_ptr<DeviceTrace> DeviceTrace::start(std::string& reason) {
  reason = "this build has no CUPTI (cupti.h of the CUDA toolkit)";
  return nullptr;
}

int64_t DeviceTrace::now_ns() const {
  fail("this build has no CUPTI");
}

std::vector<DeviceSpan> DeviceTrace::stop() {
  fail("this build has no CUPTI");
}

#endif

DeviceTrace::DeviceTrace(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceTrace::~DeviceTrace() = default;

}  // namespace tutti
