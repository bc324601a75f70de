#include "launcher/info/build.h"

#include "tutti_revision.h"

namespace tutti {

std::string build_number() {
  return TUTTI_VERSION;
}

std::string build_revision() {
  return TUTTI_REVISION;
}

std::string build_version() {
  const std::string revision = build_revision();
  if (revision.empty()) return build_number();
  const bool dirty = revision.ends_with("-dirty");
  return build_number() + " (" + revision.substr(0, 10) + (dirty ? "-dirty)" : ")");
}

std::string build_compiler() {
  return TUTTI_COMPILER;
}

}  // namespace tutti
