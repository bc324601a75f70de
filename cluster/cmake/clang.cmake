# A toolchain file for the builds with sanitizers and fuzzers: clang of the version that cluster/install-deps installs.
if(NOT CMAKE_CXX_COMPILER)
  find_program(TUTTI_CLANG NAMES clang++-16 clang++-17 clang++-18 clang++-19 clang++-20 clang++-21 clang++
               DOC "clang++, at least 16")
  if(NOT TUTTI_CLANG)
    message(FATAL_ERROR "This build needs clang 16 or later (cluster/install-deps test), or -DCMAKE_CXX_COMPILER=")
  endif()
  set(CMAKE_CXX_COMPILER ${TUTTI_CLANG})
endif()
