# TUTTI_SOFTWARE_DEVICE: the CUDA backend runs on a device in software, for tests. Included in place of the CUDA
# toolkit; kernels are compiled by the host's compiler.
if(TUTTI_INSTALL AND PROJECT_IS_TOP_LEVEL)
  set(TUTTI_INSTALL OFF)  # nobody should train with it
endif()
message(STATUS "The CUDA backend of this build runs on a device in software: for tests only")
include(CheckIncludeFileCXX)
find_library(BOOST_CONTEXT_LIBRARY boost_context)
find_path(SOFTWARE_DEVICE_CBLAS cblas.h PATH_SUFFIXES openblas)
find_library(SOFTWARE_DEVICE_OPENBLAS openblas)
if(NOT BOOST_CONTEXT_LIBRARY OR NOT SOFTWARE_DEVICE_CBLAS OR NOT SOFTWARE_DEVICE_OPENBLAS)
  message(FATAL_ERROR "The software device needs libboost-context-dev and libopenblas-dev")
endif()
set(device_folder ${PROJECT_SOURCE_DIR}/tests/device)
file(GLOB device_sources CONFIGURE_DEPENDS ${device_folder}/*.cpp)
list(FILTER device_sources EXCLUDE REGEX "/cudnn\\.cpp$|_test\\.cpp$")  # part of tutti_kernels, in place of kernels/cuda/cudnn.cpp
add_library(software_cuda STATIC ${device_sources})
target_include_directories(software_cuda SYSTEM PUBLIC ${device_folder}/include PRIVATE ${SOFTWARE_DEVICE_CBLAS})
target_include_directories(software_cuda PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(software_cuda PRIVATE tutti_options PUBLIC fmt::fmt ${BOOST_CONTEXT_LIBRARY}
                      ${SOFTWARE_DEVICE_OPENBLAS} Threads::Threads)
if(TUTTI_SANITIZE)
  target_compile_options(software_cuda PRIVATE -O2)
  set_source_files_properties(${device_folder}/race.cpp PROPERTIES COMPILE_OPTIONS -fno-sanitize=all)  # at each access
endif()
foreach(library cudart cublasLt nvrtc)
  add_library(CUDA::${library} ALIAS software_cuda)
endforeach()
set(NCCL_INCLUDE_DIR ${device_folder}/include)
set(NCCL_LIBRARY software_cuda)
set(CUDNN_LIBRARY software_cuda)

# With clang, kernels tell the race detector what they read and write.
set(reported $<$<CXX_COMPILER_ID:Clang>:-fsanitize-coverage=func,trace-loads,trace-stores>)

# The sources of a room's CUDA backend for this device, instead of those for a GPU.
macro(tutti_software_sources list)
  list(TRANSFORM ${list} REPLACE "^.*/kernels/cuda/cudnn\\.cpp$" "${device_folder}/cudnn.cpp")
  foreach(source ${${list}})
    if(source MATCHES "\\.cu$")
      # As nvcc, without the reassociation that vectorises the CPU's row programs.
      set_source_files_properties(${source} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
        "-xc++;-Wno-unknown-pragmas;-Wno-attributes;-fno-associative-math;-fsigned-zeros;$<$<CXX_COMPILER_ID:GNU>:-ftrapping-math>;${reported}"
        SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endmacro()
