#include "tests/device/kernel_name.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace software_cuda {
namespace {

/// This program's file: kernels are functions of it that no dynamic symbol names.
const std::byte* program() {
  static const std::byte* const mapped = [] {
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) return static_cast<const std::byte*>(nullptr);
    void* const memory = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    (void)close(file);
    return memory == MAP_FAILED ? nullptr : static_cast<const std::byte*>(memory);
  }();
  return mapped;
}

/// The mangled name of the function at an address of the file; null if there is none.
const char* symbol_at(uintptr_t address) {
  const std::byte* const file = program();
  if (file == nullptr) return nullptr;
  const auto& header = *reinterpret_cast<const Elf64_Ehdr*>(file);
  const auto* const sections = reinterpret_cast<const Elf64_Shdr*>(file + header.e_shoff);
  for (int i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr& table = sections[i];
    if (table.sh_type != SHT_SYMTAB) continue;
    const auto* const symbols = reinterpret_cast<const Elf64_Sym*>(file + table.sh_offset);
    for (size_t s = 0; s < table.sh_size / sizeof(Elf64_Sym); ++s) {
      if (ELF64_ST_TYPE(symbols[s].st_info) == STT_FUNC && symbols[s].st_value == address)
        return reinterpret_cast<const char*>(file + sections[table.sh_link].sh_offset + symbols[s].st_name);
    }
  }
  return nullptr;
}

}  // namespace

std::string kernel_name(const void* function) {
  Dl_info info{};
  const auto at = reinterpret_cast<uintptr_t>(function);
  if (dladdr(function, &info) == 0) return fmt::format("{}", function);
  const auto base = reinterpret_cast<uintptr_t>(info.dli_fbase);
  // A program that is not position-independent has its addresses in the file.
  const char* name = symbol_at(at - base);
  if (name == nullptr) name = symbol_at(at);
  if (name == nullptr) return fmt::format("{}+{:#x}", info.dli_fname, at - base);
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 ? readable.get() : name;
}

}  // namespace software_cuda
