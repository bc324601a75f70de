#include "launcher/launch/failure_message.h"

#include "launcher/launch/quoting.h"

namespace tutti {

FailureMessage parse_mpirun_message(std::string_view line) {
  const bool daemon = contains(line, "Remote daemon:");
  if (!daemon && !contains(line, "noticed that process rank")) return {};
  return {.host = host_after(line, " on node "),
          .host_lost = daemon,
          .killed = contains(line, "Killed") || contains(line, "exited on signal 9"),
          .consequence = contains(line, "Broken pipe")};
}

std::string host_after(std::string_view line, std::string_view sign) {
  const size_t found = line.find(sign);
  if (found == std::string_view::npos) return "";
  std::string_view rest = line.substr(found + sign.size());
  rest = rest.substr(0, rest.find_first_of(" \t\n,:;"));
  while (rest.ends_with('.')) rest.remove_suffix(1);
  return is_host_name(rest) ? std::string(rest) : "";
}

}  // namespace tutti
