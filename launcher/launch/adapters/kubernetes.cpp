// Kubernetes with the MPI operator: an MPIJob of kubeflow.org/v2beta1. Its launcher pod runs `tutti launch`,
// which finds the workers in the host file that the operator gives it. Never chosen by itself: kubectl stands
// on many machines that mean no cluster.
#include "launcher/launch/adapters/adapters.h"
#include "launcher/launch/script.h"
#include "launcher/launch/words.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace {

std::optional<Allocation> detect_kubernetes(const Surroundings&) {
  return std::nullopt;
}

/// Names of Kubernetes' objects: RFC 1123 labels, with room for "-launcher" and a pod's suffix.
std::string object_name(const std::string& name) {
  const bool good = name.size() <= 40 && !name.empty() && name.front() != '-' && name.back() != '-' &&
                    name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  require(good, "--name '{}': Kubernetes wants lower-case letters, digits and '-', 40 at most", name);
  return name;
}

/// A word of a container's command, in which $(NAME) would stand for a variable.
std::string command_word(const std::string& word) {
  std::string escaped;
  for (const char c : word) escaped.append(c == '$' ? 2 : 1, c);
  return yaml_string(escaped, "the command");
}

/// One container: what launcher and workers share. `indent` stands in front of each line.
std::string container(const LaunchSpec& spec, std::string_view role, const std::vector<std::string>& command,
                      int64_t gpus, int64_t cores) {
  std::string text = fmt::format("            - name: {}\n              image: {}\n", role,
                                 yaml_string(spec.image, "--image"));
  if (!command.empty()) {
    text += "              command:\n";
    for (const std::string& word : command) text += fmt::format("                - {}\n", command_word(word));
  }
  if (!spec.volume.empty()) {
    const std::string folder = yaml_string(spec.working_directory, "the working directory");
    text += fmt::format(
        "              workingDir: {}\n              volumeMounts:\n                - name: work\n"
        "                  mountPath: {}\n",
        folder, folder);
  }
  if (gpus > 0 || cores > 0) {
    text += "              resources:\n                limits:\n";
    if (cores > 0) text += fmt::format("                  cpu: {}\n", cores);
    if (gpus > 0) text += fmt::format("                  nvidia.com/gpu: {}\n", gpus);
  }
  return text;
}

std::string pod(const LaunchSpec& spec, std::string_view role, int64_t replicas,
                const std::string& the_container) {
  std::string text = fmt::format(
      "    {}:\n      replicas: {}\n      restartPolicy: Never\n      template:\n        spec:\n          "
      "containers:\n{}",
      role, replicas, the_container);
  if (!spec.volume.empty()) {
    text += fmt::format(
        "          volumes:\n            - name: work\n              persistentVolumeClaim:\n"
        "                claimName: {}\n",
        yaml_string(spec.volume, "--volume"));
  }
  return text;
}

Rendered render_kubernetes(const LaunchSpec& spec, const Allocation& allocation) {
  require(!spec.image.empty(), "--scheduler kubernetes needs --image: a container that holds tutti");
  const bool mpich = spec.library.family != MpiLibrary::Family::kOpenMpi;
  for (const auto& [option, given] : {std::pair{"--account", !spec.account.empty()},
                                      {"--qos", !spec.qos.empty()},
                                      {"--after", !spec.after.empty() || !spec.after_ok.empty()},
                                      {"--exclude", !spec.exclude.empty()},
                                      {"--directive", !spec.directives.empty()},
                                      {"--sweep", !spec.sweep.empty()}}) {
    require(!given, "{}: an MPIJob has no such thing", option);
  }
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const int64_t slots = even_ranks(hosts);
  LaunchSpec inner = sized(spec, hosts);
  inner.executable = "tutti";  // the image's, wherever it stands there
  const std::string name = object_name(spec.name);
  std::string text = fmt::format(
      "# Written by `tutti launch`. Submit it again by: kubectl create --filename FILE\n"
      "apiVersion: kubeflow.org/v2beta1\nkind: MPIJob\nmetadata:\n  name: {}\n{}"
      "spec:\n  slotsPerWorker: {}\n  mpiImplementation: {}\n  runPolicy:\n    cleanPodPolicy: Running\n"
      "    backoffLimit: {}\n",
      name, spec.kube_namespace.empty() ? "" : "  namespace: " + spec.kube_namespace + "\n", slots,
      mpich ? "MPICH" : "OpenMPI", spec.requeue ? 3 : 0);
  if (spec.time_limit_s > 0) text += fmt::format("    activeDeadlineSeconds: {}\n", spec.time_limit_s);
  if (!spec.partition.empty()) {
    text +=
        fmt::format("    schedulingPolicy:\n      queue: {}\n", yaml_string(spec.partition, "--partition"));
  }
  text += "  mpiReplicaSpecs:\n";
  text += pod(spec, "Launcher", 1,
              container(spec, "launcher", inner_launch(inner, LimitSignal::kBySupervisor), 0, 0));
  text += pod(spec, "Worker", static_cast<int64_t>(hosts.size()),
              container(spec, "worker", {}, spec.gpus_per_node, slots * spec.cores_per_rank));
  const std::string path = script_path(spec, "yaml");
  return {.files = {{path, text}},
          .argv = {"kubectl", "create", "--filename", path, "--output",
                   "jsonpath={.metadata.namespace}/{.metadata.name}"},
          .submits = true};
}

}  // namespace

const Adapter kKubernetesAdapter{.name = "kubernetes",
                                 .summary = "an MPIJob (v2beta1) by kubectl; never chosen by itself",
                                 .detect = &detect_kubernetes,
                                 .render = &render_kubernetes,
                                 .commands = {.list = {"kubectl", "get", "mpijobs"},
                                              .cancel = {"kubectl", "delete", "mpijob"},
                                              .group_option = "--namespace"}};

}  // namespace tutti
