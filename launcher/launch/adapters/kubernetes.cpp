// Kubernetes with the MPI operator: an MPIJob of kubeflow.org/v2beta1. Its launcher pod runs `tutti launch`,
// which finds the workers in the host file that the operator gives it. Never detected: kubectl is installed
// on many machines that are not used for training.
#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/script.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace {

std::optional<Allocation> detect_kubernetes(const Environment&) {
  return std::nullopt;
}

constexpr size_t kLongestLabel = 63;  // RFC 1123
constexpr int64_t kTries = 4;         // of the launcher's pod with --requeue

/// Time of the job beyond the time limit that the supervisor enforces: the deadline of a job includes the
/// pulls of its images.
constexpr int64_t kRoom_s = 1800;

/// A label of RFC 1123: lower-case letters, digits and '-' within, 63 at most.
bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= kLongestLabel && text.front() != '-' && text.back() != '-' &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos;
}

/// Labels between dots, 253 characters at most.
bool is_subdomain(std::string_view text) {
  constexpr size_t kLongest = 253;
  if (text.size() > kLongest) return false;
  while (true) {
    const size_t dot = text.find('.');
    if (!is_label(text.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

/// The job's name. The operator calls its objects NAME-launcher and NAME-worker-INDEX, and a service NAME,
/// which must begin with a letter (RFC 1035).
std::string object_name(const std::string& name, size_t workers) {
  const size_t suffix =
      std::max(std::string_view("-launcher").size(), fmt::format("-worker-{}", workers - 1).size());
  const size_t most = kLongestLabel - suffix;
  const bool letter = !name.empty() && name.front() >= 'a' && name.front() <= 'z';
  require_usage(
      letter && is_label(name) && name.size() <= most,
      "--name '{}': Kubernetes requires lower-case letters, digits and '-', a letter first and no '-' "
      "at the end, at most {} characters for {} workers",
      name, most, workers);
  return name;
}

/// Throws UsageError for options that pods do not support, and for files that would be lost with them.
void check_pods(const LaunchSpec& spec) {
  require_usage(!spec.image.empty(), "--scheduler kubernetes needs --image: a container that holds tutti");
  require_usage(is_plain_word(spec.image),
                "--image '{}': expected letters, digits and any of . _ + @ / : = , - and no - in front",
                spec.image);
  for (const auto& [option, given] : {std::pair{"--account", !spec.account.empty()},
                                      {"--qos", !spec.qos.empty()},
                                      {"--after", !spec.after.empty() || !spec.after_ok.empty()},
                                      {"--exclude", !spec.exclude.empty()},
                                      {"--directive", !spec.directives.empty()},
                                      {"--sweep", !spec.sweep.empty()}}) {
    require_usage(!given, "{}: not supported by an MPIJob", option);
  }
  require_usage(spec.variables.empty(),
                "--env {}: pods have the variables of their image, not those from here; set it in the image",
                spec.variables.empty() ? "" : spec.variables.front());
  require_usage(spec.kube_namespace.empty() || is_label(spec.kube_namespace),
                "--namespace '{}': expected lower-case letters, digits and '-' within, 63 at most",
                spec.kube_namespace);
  if (spec.command.front() != "train" && spec.volume.empty()) return;
  require_usage(
      is_subdomain(spec.volume),
      "--volume '{}': expected the name of a persistent volume claim, which is mounted at the working "
      "directory; without one, checkpoints end with their pods",
      spec.volume);
  require_usage(
      spec.run_directory.starts_with(spec.working_directory == "/" ? "/" : spec.working_directory + "/"),
      "{}: the run directory is outside of the working directory {}, where --volume is mounted: it would end "
      "with its pods. Choose a run.dir below, or call tutti further up",
      spec.run_directory, spec.working_directory);
}

/// A word of a container's command, in which $(NAME) is a variable.
std::string command_word(const std::string& word) {
  std::string escaped;
  for (const char c : word) escaped.append(c == '$' ? 2 : 1, c);
  return yaml_string(escaped, "the command");
}

/// One container: what launcher and workers share. `indent` begins each line.
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
  check_pods(spec);
  const bool mpich = spec.library.family != MpiLibrary::Family::kOpenMpi;
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const int64_t slots = even_ranks(hosts);
  LaunchSpec inner = with_size(spec, hosts);
  inner.executable = "tutti";  // the image's, on its PATH
  inner.requeue = false;       // backoffLimit is the number of retries
  const std::string name = object_name(spec.name, hosts.size());
  const int64_t tries = spec.requeue ? kTries : 1;
  std::string text = fmt::format(
      "{}. Submitted again, it continues from the last checkpoint: kubectl create "
      "--filename FILE,\n"
      "# where the earlier job was deleted.\n"
      "apiVersion: kubeflow.org/v2beta1\nkind: MPIJob\nmetadata:\n  name: {}\n{}"
      "spec:\n  slotsPerWorker: {}\n  mpiImplementation: {}\n"
      "  launcherCreationPolicy: WaitForWorkersReady\n  runPolicy:\n    cleanPodPolicy: Running\n"
      "    backoffLimit: {}\n",
      kLaunchMark, name, spec.kube_namespace.empty() ? "" : "  namespace: " + spec.kube_namespace + "\n",
      slots, mpich ? "MPICH" : "OpenMPI", tries - 1);
  if (spec.time_limit_s > 0) {
    // The supervisor enforces the limit of each try; the deadline is for hangs and images that do not exist.
    text += fmt::format("    activeDeadlineSeconds: {}\n", tries * (spec.time_limit_s + kRoom_s));
  }
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

constexpr const char* kStateFormat =
    R"(--output=jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type})";

/// The job's name and its conditions that are true.
bool is_active(std::string_view printed) {
  return !printed.empty() && printed.find(" Succeeded") == std::string_view::npos &&
         printed.find(" Failed") == std::string_view::npos;
}

/// NAMESPACE/NAME, or NAME in kubectl's own namespace. A name such as --all would be an option.
bool is_id(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return is_job_word(text);
  const std::string_view name = text.substr(slash + 1);
  return is_plain_word(text.substr(0, slash)) && is_plain_word(name) && !contains(name, "/");
}

std::vector<std::string> id_arguments(const std::string& id) {
  const size_t slash = id.find('/');
  if (slash == std::string::npos) return {id};
  return {"--namespace", id.substr(0, slash), id.substr(slash + 1)};
}

/// The output of the launcher's pod, whose job the operator calls NAME-launcher.
std::vector<std::string> logs(const std::string& id, const LogOptions& options) {
  std::vector<std::string> argv{"kubectl", "logs"};
  if (options.lines >= 0) argv.push_back(fmt::format("--tail={}", options.lines));
  std::vector<std::string> arguments = id_arguments(id);
  arguments.back() = fmt::format("job/{}-launcher", arguments.back());
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  if (options.follow) argv.emplace_back("--follow");
  return argv;
}

}  // namespace

extern const Adapter kKubernetesAdapter{
    .name = "kubernetes",
    .summary = "an MPIJob (v2beta1) by kubectl; must be named",
    .detect = &detect_kubernetes,
    .render = &render_kubernetes,
    .job_ids = {.examples = "NAMESPACE/NAME", .valid = &is_id, .arguments = &id_arguments},
    .commands = {.list = {"kubectl", "get", "mpijobs"},
                 .status = {"kubectl", "get", "mpijob", kStateFormat},
                 .is_active = &is_active,
                 .is_unknown = [](std::string_view message) { return contains(message, "(NotFound)"); },
                 .cancel = {"kubectl", "delete", "mpijob"},
                 .logs = &logs},
    .variables = {.prefixes = {"KUBE"}},
    .mounts_volume = true,
    .requeue_summary = "the launcher's pod is started up to four times, each with its own --time"};

}  // namespace tutti
