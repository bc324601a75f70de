# The CUDA toolkit and NVIDIA's libraries, with messages about missing ones and how to install them.
set(TUTTI_CUDA_ARCHITECTURES "80-real;90-real;100" CACHE STRING
    "Compute capabilities to compile kernels for; 'native' for those of this machine")
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES ${TUTTI_CUDA_ARCHITECTURES})
endif()
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "TUTTI_CUDA=ON, but no CUDA compiler was found: put nvcc of CUDA 13 on PATH, set CUDACXX to it, "
                      "or configure with the preset 'release' for a build without CUDA")
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
  message(FATAL_ERROR "Tutti needs CUDA 13 or later; ${CMAKE_CUDA_COMPILER} is ${CMAKE_CUDA_COMPILER_VERSION}")
endif()
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 lacks C++20 for nvcc
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
# Lambdas and constexpr functions of host headers (dtypes, row programs, random keys) run in kernels.
string(APPEND CMAKE_CUDA_FLAGS
       " --extended-lambda --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra -DFMT_USE_CONSTEXPR=1")
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
find_package(CUDAToolkit 13.0 REQUIRED)

# Where Python has NVIDIA's packages, each with include/ and lib/ of its own: the last place that is looked in. Their
# libraries have no names without a version.
set(wheels "")
find_program(TUTTI_PYTHON3 python3)
if(TUTTI_PYTHON3)
  execute_process(COMMAND ${TUTTI_PYTHON3} -c "import site, sysconfig
print(*{sysconfig.get_path('purelib'), site.getusersitepackages(), *site.getsitepackages()}, sep=';', end='')"
                  OUTPUT_VARIABLE sites ERROR_QUIET)
  foreach(site ${sites})
    file(GLOB packages LIST_DIRECTORIES true ${site}/nvidia/*)
    list(APPEND wheels ${site} ${packages})
  endforeach()
endif()

# find_nvidia(NAME header library word): an imported target tutti::NAME, or an error that ends with `word`.
function(find_nvidia name header library word)
  string(TOUPPER ${name} upper)
  find_path(${upper}_INCLUDE_DIR ${header} HINTS ENV ${upper}_HOME ${CUDAToolkit_INCLUDE_DIRS} PATHS ${wheels} PATH_SUFFIXES include)
  find_library(${upper}_LIBRARY NAMES ${library} ${ARGN} HINTS ENV ${upper}_HOME ${CUDAToolkit_LIBRARY_DIR} PATHS ${wheels}
               PATH_SUFFIXES lib lib64)
  if(NOT ${upper}_INCLUDE_DIR OR NOT ${upper}_LIBRARY)
    message(FATAL_ERROR "TUTTI_CUDA=ON, but ${name} was not found (${header}, lib${library}.so): ${word}")
  endif()
  add_library(tutti_${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(tutti_${name} SYSTEM INTERFACE ${${upper}_INCLUDE_DIR})
  target_link_libraries(tutti_${name} INTERFACE ${${upper}_LIBRARY})
endfunction()
find_nvidia(nccl nccl.h nccl "install libnccl-dev, `pip install nvidia-nccl-cu13`, or set NCCL_HOME to where include/nccl.h is"
            libnccl.so.2)
find_nvidia(cudnn cudnn.h cudnn
            "install cudnn9-cuda-13, `pip install nvidia-cudnn-cu13`, or set CUDNN_HOME to where include/cudnn.h is" libcudnn.so.9)

# Only the headers of cudnn-frontend are used. Fetched once with a network, they can be carried to where there is none.
set(frontend ${PROJECT_SOURCE_DIR}/build/cudnn_frontend)
set(how_to_fetch "pip install --no-deps --target ${frontend} nvidia-cudnn-frontend")
set(fetched ${PROJECT_BINARY_DIR}/cudnn_frontend)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ENV CUDNN_FRONTEND_HOME ${frontend} ${fetched} PATHS ${wheels}
          PATH_SUFFIXES include)
if(NOT CUDNN_FRONTEND_INCLUDE_DIR AND TUTTI_PYTHON3)
  message(STATUS "Fetching the headers of cudnn-frontend with pip")
  execute_process(COMMAND ${TUTTI_PYTHON3} -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 --no-deps
                          --target ${fetched} nvidia-cudnn-frontend OUTPUT_QUIET ERROR_QUIET)
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${fetched} PATH_SUFFIXES include)
endif()
if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
  message(FATAL_ERROR "TUTTI_CUDA=ON, but cudnn_frontend.h was not found, and pip could not fetch it. Where there is a network: "
          "`${how_to_fetch}`; carry that folder here, or set CUDNN_FRONTEND_HOME to the folder above include/")
endif()
# Versions 1.18 to 1.23 lose what a captured backward pass of attention needs at its replays.
file(STRINGS ${CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h frontend_version REGEX "(MAJOR|MINOR)_VERSION +[0-9]+")
list(TRANSFORM frontend_version REPLACE "[^0-9]" "")
list(JOIN frontend_version "." frontend_version)
if(frontend_version VERSION_LESS 1.32)
  message(FATAL_ERROR "Tutti needs cudnn-frontend 1.32 or later; ${CUDNN_FRONTEND_INCLUDE_DIR} has ${frontend_version}. Where "
          "there is a network: `${how_to_fetch}`; carry that folder here, or set CUDNN_FRONTEND_HOME to the folder above include/")
endif()
add_library(tutti_cudnn_frontend INTERFACE IMPORTED GLOBAL)
target_include_directories(tutti_cudnn_frontend SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR})
