#pragma once

#include <tutti/core/error.h>

#include <mpi.h>

#include <string>

namespace tutti {

/// Handles for MPI calls outside session.cpp. Included by .cpp files only.
struct MpiHandles {
  MPI_Comm world = MPI_COMM_NULL;  ///< a duplicate owned by the session
};

/// Throws Error with the text of MPI_Error_string unless `code` is MPI_SUCCESS.
inline void check_mpi(int code, std::string_view call) {
  if (code == MPI_SUCCESS) return;
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  text.resize(static_cast<size_t>(length));
  fail("{} failed: {} (code {})", call, text, code);
}

}  // namespace tutti
