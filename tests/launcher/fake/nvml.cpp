// A fake management library with two GPUs, for tests of code that uses it. As in the real one, functions
// return 0 for success and take opaque handles.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" {

int nvmlInit_v2() {
  return std::getenv("FAKE_NVML_FAILS") == nullptr ? 0 : 18;
}
int nvmlShutdown() {
  return 0;
}
const char* nvmlErrorString(int code) {
  return code == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(uintptr_t{index} + 1);
  return index < 2 ? 0 : 2;
}
static unsigned index_of(void* device) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(device) - 1);
}
int nvmlDeviceGetName(void* device, char* text, unsigned size) {
  (void)std::snprintf(text, size, "Fake %u", index_of(device));
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* text, unsigned size) {
  (void)std::snprintf(text, size, "GPU-%04u", index_of(device));
  return 0;
}
int nvmlDeviceGetMemoryInfo(void*, unsigned long long* memory) {
  memory[0] = 80ULL << 30U;
  return 0;
}
int nvmlDeviceGetTotalEccErrors(void* device, int kind, int counter, unsigned long long* errors) {
  if (index_of(device) == 0) return 3;  // not supported
  *errors = kind == 1 && counter == 0 ? 7 : 1000;
  return 0;
}
int nvmlDeviceGetClockInfo(void*, int clock, unsigned* mhz) {
  *mhz = clock == 1 ? 1200 : 1;
  return 0;
}
int nvmlDeviceGetMaxClockInfo(void*, int clock, unsigned* mhz) {
  *mhz = clock == 1 ? 1980 : 1;
  return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
  *reasons = index_of(device) == 0 ? 0x5 : 0x44;  // idle and a power cap; a power cap and heat
  return 0;
}
}
