#pragma once

// Whether this is a build with the address sanitizer: clang does not define GCC's macro.
#if defined(__has_feature)
#  if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#    define __SANITIZE_ADDRESS__ 1
#  endif
#endif
