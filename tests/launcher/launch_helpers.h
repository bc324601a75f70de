#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"
#include "tests/temporary_directory.h"

#include <gtest/gtest.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// A machine that exists only in a test.
struct FakeMachine {
  Variables variables;
  std::vector<std::string> programs;
  std::map<std::string, std::string> files;
  int64_t gpus = 0;
  std::map<std::string, std::string> answers;  ///< of commands that succeed
};

inline Environment environment(const FakeMachine& place) {
  return {
      .variables = place.variables,
      .host = "laptop",
      .cores = 8,
      .gpus = place.gpus,
      .read =
          [files = place.files](const std::string& path) {
            const auto found = files.find(path);
            require(found != files.end(), "{}: no such file", path);
            return found->second;
          },
      .has_program =
          [programs = place.programs](std::string_view name) {
            return std::find(programs.begin(), programs.end(), name) != programs.end();
          },
      .has_file = [files = place.files](const std::string& path) { return files.contains(path); },
      .ask = [answers = place.answers](const std::vector<std::string>& argv) -> std::optional<std::string> {
        const auto found = answers.find(shell_line(argv));
        return found == answers.end() ? std::nullopt : std::optional(found->second);
      }};
}

/// No scheduler.
inline FakeMachine laptop() {
  return {.programs = {"mpirun"}};
}

inline FakeMachine slurm_login() {
  return {.programs = {"mpirun", "sbatch", "srun"}, .files = {{"/etc/slurm/slurm.conf", ""}}};
}

/// The environment of a script of sbatch on two nodes with two tasks and two GPUs each (Slurm 22.05).
inline FakeMachine slurm_job() {
  return {.variables = {{"SLURM_JOB_ID", "4711"},
                        {"SLURM_JOB_NODELIST", "node[1-2]"},
                        {"SLURM_JOB_NUM_NODES", "2"},
                        {"SLURM_NTASKS", "4"},
                        {"SLURM_NTASKS_PER_NODE", "2"},
                        {"SLURM_TASKS_PER_NODE", "2(x2)"},
                        {"SLURM_JOB_CPUS_PER_NODE", "8(x2)"},
                        {"SLURM_GPUS_ON_NODE", "2"},
                        {"SLURM_GPUS_PER_NODE", "2"},
                        {"SLURM_JOB_GPUS", "0,1"},
                        {"CUDA_VISIBLE_DEVICES", "0,1"}},
          .programs = {"srun", "sbatch", "mpirun"}};
}

/// `tutti train run.yaml` with Open MPI 4.1.
inline LaunchSpec train_spec() {
  LaunchSpec spec;
  spec.executable = "/opt/tutti/bin/tutti";
  spec.command = {"train", "run.yaml"};
  spec.working_directory = "/home/ada/gpt";
  spec.run_directory = "/home/ada/gpt/runs/a";
  spec.submission_directory = spec.run_directory;
  spec.forwarded = {"LD_LIBRARY_PATH", "OMPI_MCA_btl", "PATH"};
  spec.library = parse_mpi_library("Open MPI v4.1.4, package: Debian OpenMPI");
  return spec;
}

/// The actions of a launch at `place`, as text.
inline std::string rendered_text(const LaunchSpec& spec, const FakeMachine& place) {
  check(spec);
  const Detected found = detect(environment(place), spec);
  check_dependencies(found.adapter->job_ids, spec);
  const Rendered rendered = found.adapter->render(spec, found.allocation);
  std::string text = std::string(found.adapter->name) + (rendered.submits ? ", submits\n" : ", runs\n");
  for (const LaunchFile& file : rendered.files) text += "--- " + file.path + "\n" + file.text;
  text += "--- command\n";
  for (const auto& [name, value] : rendered.variables) text += name + "=" + value + "\n";
  return text + shell_line(rendered.argv) + "\n";
}

/// The message that refuses a launch; empty if it is accepted.
inline std::string refusal(const LaunchSpec& spec, const FakeMachine& place) {
  try {
    (void)rendered_text(spec, place);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Compares with golden/NAME; TUTTI_UPDATE_GOLDEN=1 writes the file, for review before it is committed.
inline void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(TUTTI_GOLDEN_FOLDER) / name;
  if (std::getenv("TUTTI_UPDATE_GOLDEN") != nullptr) write_all(path, text);
  EXPECT_EQ(text, read_all(path)) << path;
}

}  // namespace tutti
