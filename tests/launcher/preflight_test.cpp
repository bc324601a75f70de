#include "launcher/launch/preflight_hosts.h"
#include "launcher/preflight/cpu_quota.h"
#include "launcher/preflight/gpu.h"
#include "launcher/preflight/measure.h"
#include "launcher/preflight/network.h"
#include "tests/comm/ranks.h"
#include "tests/launcher/launch_helpers.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

namespace tutti {
namespace {

/// Four good hosts of two ranks each.
std::vector<RankReport> good_reports() {
  std::vector<RankReport> reports;
  for (int r = 0; r < 8; ++r) {
    RankReport report{.rank = r,
                      .host = "node" + std::to_string(r / 2 + 1),
                      .threads = 4,
                      .gemm_flops_per_s = 100e9 + 1e9 * r,
                      .memory_bytes_per_s = 20e9,
                      .binary = std::string(64, 'a'),
                      .run_file = std::string(64, 'b'),
                      .libraries = "MPI 1",
                      .speaks_for_host = r % 2 == 0,
                      .memory_bytes = int64_t{64} << 30,
                      .available_bytes = int64_t{60} << 30,
                      .shm_bytes = int64_t{32} << 30,
                      .disk_free_bytes = int64_t{500} << 30,
                      .disk_write_bytes_per_s = 1e9,
                      .disk_read_bytes_per_s = 2e9};
    report.gpus = {
        {.name = "H100", .uuid = "GPU-" + std::to_string(r), .clock_mhz = 1900, .most_clock_mhz = 1980}};
    for (int other = r + 2; r % 2 == 0 && other < 8; other += 2) {
      report.pairs.push_back({.rank = r, .other = other, .latency_s = 10e-6, .bytes_per_s = 12e9});
    }
    if (r > 0 && r % 2 == 0)
      reports[0].clocks.push_back({.rank = r, .offset_s = 0.01, .uncertainty_s = 1e-4});
    reports.push_back(report);
  }
  return reports;
}

/// "slow node2 GEMM" of each finding.
std::vector<std::string> found(const Verdict& verdict) {
  std::vector<std::string> all;
  all.reserve(verdict.findings.size());
  for (const Finding& f : verdict.findings) {
    all.push_back(std::string(name(f.severity)) + " " + f.host + " " + f.check);
  }
  return all;
}

using Words = std::vector<std::string>;

TEST(PreflightTest, GoodHostsHaveNoFindings) {
  const Verdict verdict = evaluate(good_reports());
  EXPECT_EQ(found(verdict), Words{});
  EXPECT_TRUE(verdict.good());
  ASSERT_EQ(verdict.hosts.size(), 4U);
  EXPECT_EQ(verdict.hosts[1].host, "node2");
  EXPECT_EQ(verdict.hosts[1].ranks, 2);
  EXPECT_EQ(verdict.hosts[1].gemm_flops_per_s, 102e9);
  EXPECT_EQ(verdict.hosts[1].network_bytes_per_s, 12e9);
  EXPECT_EQ(verdict.hosts[3].clock_offset_s, 0.01);
}

TEST(PreflightTest, AHostThatDiffersIsExcluded) {
  const std::map<std::string, std::function<void(std::vector<RankReport>&)>> faults{
      {"slow node3 GEMM", [](auto& r) { r[4].gemm_flops_per_s = r[5].gemm_flops_per_s = 70e9; }},
      {"slow node3 memory bandwidth", [](auto& r) { r[5].memory_bytes_per_s = 11e9; }},
      {"bad node3 disk", [](auto& r) { r[4].disk_error = "runs: Read-only file system"; }},
      {"bad node3 program", [](auto& r) { r[5].binary = std::string(64, 'c'); }},
      {"bad node3 run file", [](auto& r) { r[4].run_file = r[5].run_file = "run.yaml: No such file"; }},
      {"bad node3 libraries", [](auto& r) { r[4].libraries = r[5].libraries = "MPI 2"; }},
      {"slow node3 network",
       [](auto& r) {
         for (RankReport& report : r) {
           for (PairReport& pair : report.pairs) {
             if (pair.rank == 4 || pair.other == 4) pair.bytes_per_s = 5e9;
           }
         }
       }},
      {"slow node3 network ",
       [](auto& r) {
         for (RankReport& report : r) {
           for (PairReport& pair : report.pairs) {
             if (pair.rank == 4 || pair.other == 4) pair.latency_s = 80e-6;
           }
         }
       }},
      {"bad node3 GPU", [](auto& r) { r[4].gpus.clear(); }},
      {"bad node3 GPU ", [](auto& r) { r[4].gpus[0].uncorrected_errors = 1; }},
      {"bad node3 GPU  ", [](auto& r) { r[4].gpu_error = "nvmlInit_v2: Driver/library version mismatch"; }},
      {"slow node3 GPU", [](auto& r) {
         r[4].gpus[0].slowed_by = "heat";
         r[4].gpus[0].clock_mhz = 900;
       }}};
  for (const auto& [expected, fault] : faults) {
    std::vector<RankReport> reports = good_reports();
    fault(reports);
    const Verdict verdict = evaluate(reports);
    EXPECT_EQ(verdict.exclude, Words{"node3"}) << expected;
    EXPECT_FALSE(verdict.good());
    ASSERT_FALSE(verdict.findings.empty()) << expected;
    EXPECT_EQ(found(verdict).front(), expected.substr(0, expected.find_last_not_of(' ') + 1));
  }
}

TEST(PreflightTest, ThresholdsAreExact) {
  std::vector<RankReport> reports = good_reports();  // of 100, 102, 104, 106 GFLOP/s
  reports[4].gemm_flops_per_s = 0.701 * 106e9;
  EXPECT_TRUE(evaluate(reports).exclude.empty());
  reports[4].gemm_flops_per_s = 0.69 * 102e9;
  EXPECT_EQ(evaluate(reports).exclude, Words{"node3"});
  EXPECT_TRUE(evaluate(reports, {.least_gemm = 0.5}).exclude.empty());
  EXPECT_EQ(upper_median({}), 0);
  EXPECT_EQ(upper_median({3, 1}), 3);
  EXPECT_EQ(upper_median({3, 1, 2}), 2);
}

TEST(PreflightTest, SomeFindingsAreWarnings) {
  std::vector<RankReport> reports = good_reports();
  reports[2].available_bytes = int64_t{20} << 30;
  reports[2].shm_bytes = int64_t{64} << 20;
  reports[2].disk_free_bytes = int64_t{100} << 20;
  reports[2].disk_write_bytes_per_s = 0.1e9;
  reports[0].clocks[0].offset_s = -3;
  reports[2].gpus[0].slowed_by = "heat";
  const Verdict verdict = evaluate(reports);
  EXPECT_EQ(found(verdict),
            (Words{"warning node2 memory", "warning node2 shared memory", "warning node2 disk",
                   "warning node2 disk", "warning node2 clock", "warning node2 GPU"}));
  EXPECT_TRUE(verdict.good());
}

TEST(PreflightTest, ProblemsOfAllHostsAreFatal) {
  std::vector<RankReport> halves = good_reports();
  for (int r = 0; r < 4; ++r) halves[static_cast<size_t>(r)].binary = std::string(64, 'c');
  EXPECT_EQ(found(evaluate(halves)), Words{"fatal  program"});
  EXPECT_TRUE(evaluate(halves).exclude.empty());

  std::vector<RankReport> twice = good_reports();
  twice[6].gpus[0].uuid = twice[0].gpus[0].uuid;
  EXPECT_EQ(found(evaluate(twice)), Words{"fatal  GPU"});
  EXPECT_NE(evaluate(twice).findings[0].text.find("node1 and node4 show the same GPU GPU-0"),
            std::string::npos);

  std::vector<RankReport> full = good_reports();
  for (RankReport& report : full) report.disk_error = "No space left on device";
  EXPECT_TRUE(evaluate(full).fatal());
  EXPECT_TRUE(evaluate(full).exclude.empty());
}

TEST(PreflightTest, SlowHostsDoNotEndAJob) {
  // Each host is slow in a different measure.
  std::vector<RankReport> reports = good_reports();
  reports[0].gemm_flops_per_s = 50e9;
  reports[2].memory_bytes_per_s = 5e9;
  reports[4].gpus[0].slowed_by = "heat";
  reports[4].gpus[0].clock_mhz = 300;
  for (RankReport& report : reports) {
    for (PairReport& pair : report.pairs) {
      if (pair.other == 6) pair.bytes_per_s = 1e9;
    }
  }
  const Verdict slow = evaluate(reports);
  EXPECT_EQ(found(slow), (Words{"slow node1 GEMM", "slow node2 memory bandwidth", "slow node4 network",
                                "slow node3 GPU", "warning node1 GEMM"}));
  EXPECT_TRUE(slow.good());
  EXPECT_TRUE(slow.exclude.empty());
  std::ostringstream table;
  print_table({.reports = reports, .verdict = slow}, table);
  EXPECT_NE(table.str().find("every host is slow in some measure"), std::string::npos) << table.str();
  // If one of them is bad, only that one is excluded.
  reports[2].disk_error = "Read-only file system";
  EXPECT_EQ(evaluate(reports).exclude, Words{"node2"});
  EXPECT_FALSE(evaluate(reports).fatal());
}

TEST(PreflightTest, ACpuQuotaIsReported) {
  std::vector<RankReport> reports = good_reports();  // two ranks of four threads per host
  reports[2].cpu_quota = 7.5;
  EXPECT_EQ(found(evaluate(reports)), Words{"warning node2 CPU quota"});
  EXPECT_NE(evaluate(reports).findings[0].text.find("7.50 CPUs, and its ranks have 8 threads"),
            std::string::npos);
  reports[2].cpu_quota = 8;
  EXPECT_EQ(found(evaluate(reports)), Words{});
}

TEST(PreflightMeasureTest, QuotasOfControlGroups) {
  const TemporaryDirectory folder;
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories((folder / path).parent_path());
    write_all(folder / path, text);
  };
  const std::string two = "0::/slurm/job_7/step_0\n";
  EXPECT_EQ(cpu_quota(two, folder.path()), 0);
  write("slurm/job_7/step_0/cpu.max", "max 100000\n");
  EXPECT_EQ(cpu_quota(two, folder.path()), 0);
  write("slurm/job_7/cpu.max", "150000 100000\n");
  EXPECT_EQ(cpu_quota(two, folder.path()), 1.5);
  write("slurm/cpu.max", "400000 100000\n");
  EXPECT_EQ(cpu_quota(two, folder.path()), 1.5) << "not the lowest quota";
  write("slurm/job_7/step_0/cpu.max", "25000 50000\n");
  EXPECT_EQ(cpu_quota(two, folder.path()), 0.5);

  const std::string one = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n";
  EXPECT_EQ(cpu_quota(one, folder.path()), 0);
  write("cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
  write("cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota(one, folder.path()), 0);
  write("cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(cpu_quota(one, folder.path()), 3);
  // In a container, its group is the root, and the path is that on the host.
  write("cpu/cpu.cfs_quota_us", "200000\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota("4:cpu:/docker/elsewhere\n", folder.path()), 2);
  for (const char* const none : {"", "x", "::", "0:", "7:cpuset:/a\n"})
    EXPECT_EQ(cpu_quota(none, folder.path()), 0) << none;
}

TEST(PreflightMeasureTest, RatesAreSustained) {
  // As with a quota: two of three calls are fast, then there is a pause.
  int calls = 0;
  const auto work = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(++calls % 3 == 0 ? 60 : 1));
  };
  EXPECT_GT(sustained_s(0.4, work), 0.015);
  calls = 0;
  (void)sustained_s(0, [&] { ++calls; });
  EXPECT_EQ(calls, 3);
}

TEST(PreflightTest, OfTwoHostsTheSlowerOneIsNamed) {
  std::vector<RankReport> reports = good_reports();
  reports.resize(4);
  for (RankReport& report : reports) report.pairs.clear(), report.clocks.clear();
  reports[0].pairs = {{.rank = 0, .other = 2, .latency_s = 1e-3, .bytes_per_s = 1e6}};
  EXPECT_TRUE(evaluate(reports).good()) << "a slow connection of two hosts is attributed to one of them";
  reports[1].gemm_flops_per_s = 50e9;
  EXPECT_EQ(evaluate(reports).exclude, Words{"node1"});
}

TEST(PreflightTest, ReportsReadBack) {
  RankReport report = good_reports()[0];
  report.gpus[0].slowed_by = "he\"at\n";
  report.disk_error = "\xFF";  // not valid UTF-8: replaced
  const RankReport back = report_from_text(to_text(report));
  EXPECT_EQ(back.host, report.host);
  EXPECT_EQ(back.pairs.size(), report.pairs.size());
  EXPECT_EQ(back.pairs[2].bytes_per_s, report.pairs[2].bytes_per_s);
  EXPECT_EQ(back.gpus[0].slowed_by, report.gpus[0].slowed_by);
  EXPECT_EQ(back.clocks[1].offset_s, report.clocks[1].offset_s);
  EXPECT_EQ(back.available_bytes, report.available_bytes);
  for (const char* const bad : {"", "{}", "[]", R"({"rank": "x"})"})
    EXPECT_THROW(report_from_text(bad), Error);
}

TEST(PreflightTest, TheLauncherReadsTheOutput) {
  std::vector<RankReport> reports = good_reports();
  reports[4].disk_error = "Read-only file system";
  const PreflightResult result{.reports = reports, .verdict = evaluate(reports), .wall_s = 2};
  const PreflightAnswer answer =
      read_preflight_json("a line of mpirun {\n" + to_json(result) + "}\nanother\n");
  ASSERT_EQ(answer.findings.size(), 1U);
  EXPECT_FALSE(answer.fatal);
  EXPECT_EQ(answer.findings[0].severity, Finding::Severity::kBad);
  EXPECT_EQ(answer.findings[0].host, "node3");
  for (const std::string& bad : {std::string(), std::string("{}\n}"), to_json(result).substr(0, 200)}) {
    EXPECT_THROW(read_preflight_json(bad), Error);
  }
  std::ostringstream table;
  print_table(result, table);
  EXPECT_NE(table.str().find("bad: node3: disk: Read-only file system\n"), std::string::npos) << table.str();
  EXPECT_NE(table.str().find("4 hosts, 8 ranks, 2.0 s: exclude node3\n"), std::string::npos);
}

Allocation four_hosts() {
  return {.place = Allocation::Place::kInside,
          .hosts = {{.name = "node1"}, {.name = "node2"}, {.name = "node3"}, {.name = "node4"}}};
}

TEST(TryHostsTest, ExcludesBadHostsAndReplaceableSlowHosts) {
  using Severity = Finding::Severity;
  const auto excluded = [](int64_t nodes, const std::map<std::string, Severity>& hosts, int64_t nodes_left) {
    PreflightAnswer answer;
    for (const auto& [host, severity] : hosts)
      answer.findings.push_back({.severity = severity, .host = host});
    LaunchSpec spec = train_spec();
    spec.nodes = nodes;
    std::ostringstream err;
    const LaunchSpec kept = without_bad_hosts(spec, four_hosts(), answer, err);
    EXPECT_EQ(kept.nodes, nodes_left) << err.str();
    return kept.exclude;
  };
  EXPECT_EQ(excluded(4, {{"node2", Severity::kWarning}}, 4), Words{});
  EXPECT_EQ(excluded(4, {{"node2", Severity::kBad}}, 3), Words{"node2"});
  EXPECT_EQ(excluded(0, {{"node2", Severity::kBad}}, 0), Words{"node2"});
  EXPECT_EQ(excluded(3, {{"node2", Severity::kSlow}}, 3), Words{"node2"});
  EXPECT_EQ(excluded(4, {{"node2", Severity::kSlow}}, 4), Words{}) << "there is no replacement";
  EXPECT_EQ(excluded(0, {{"node2", Severity::kSlow}}, 0), Words{}) << "all hosts are requested";
  EXPECT_EQ(excluded(3, {{"node2", Severity::kSlow}, {"node3", Severity::kBad}}, 3), Words{"node3"});
  EXPECT_EQ(excluded(3, {{"node2.cluster.org", Severity::kBad}}, 3), Words{"node2"}) << "by its full name";
  EXPECT_EQ(excluded(2, {{"node9", Severity::kBad}}, 2), Words{}) << "not of this allocation";
  EXPECT_EQ(excluded(4,
                     {{"node1", Severity::kBad},
                      {"node2", Severity::kBad},
                      {"node3", Severity::kBad},
                      {"node4", Severity::kBad}},
                     1)
                .size(),
            3U);
  PreflightAnswer fatal;
  fatal.findings.push_back({.severity = Severity::kFatal, .check = "program", .text = "hosts differ"});
  std::ostringstream err;
  EXPECT_THROW(without_bad_hosts(train_spec(), four_hosts(), fatal, err), Error);
}

TEST(TryHostsTest, AllFindingsAreReportedBeforeTheLaunchEnds) {
  using Severity = Finding::Severity;
  PreflightAnswer answer;
  answer.findings = {
      {.severity = Severity::kFatal, .check = "hosts", .text = "none is left that is good"},
      {.severity = Severity::kBad, .host = "node1", .check = "disk", .text = "Read-only file system"},
      {.severity = Severity::kSlow, .host = "node2", .check = "GEMM", .text = "1 GFLOP/s"}};
  std::ostringstream err;
  EXPECT_THROW(without_bad_hosts(train_spec(), four_hosts(), answer, err), Error);
  for (const char* const text :
       {"fatal: hosts: none is left", "bad: node1: disk: Read-only", "slow: node2: GEMM: 1 GFLOP/s"}) {
    EXPECT_NE(err.str().find(text), std::string::npos) << err.str();
  }
}

TEST(TryHostsTest, ASlowHostEndsTheLaunchOnlyInStrictMode) {
  PreflightAnswer answer;
  for (const char* const host : {"node1", "node2", "node3", "node4"}) {
    answer.findings.push_back({.severity = Finding::Severity::kSlow, .host = host, .check = "GEMM"});
  }
  LaunchSpec spec = train_spec();
  std::ostringstream err;
  EXPECT_TRUE(without_bad_hosts(spec, four_hosts(), answer, err).exclude.empty());
  EXPECT_NE(err.str().find("node4 is used"), std::string::npos) << err.str();
  spec.preflight = "strict";
  EXPECT_THROW(without_bad_hosts(spec, four_hosts(), answer, err), Error);
  spec.nodes = 3;
  answer.findings.resize(1);
  EXPECT_EQ(without_bad_hosts(spec, four_hosts(), answer, err).exclude, Words{"node1"});
}

TEST(TournamentTest, EachPairMeetsOnceWithOneMatchPerRound) {
  for (int n = 0; n <= 33; ++n) {
    std::set<std::pair<int, int>> met;
    const auto rounds = tournament(n);
    EXPECT_LE(rounds.size(), static_cast<size_t>(n));
    for (const auto& pairs : rounds) {
      std::set<int> busy;
      for (const auto& [a, b] : pairs) {
        EXPECT_TRUE(0 <= a && a < b && b < n);
        EXPECT_TRUE(met.emplace(a, b).second);
        EXPECT_TRUE(busy.insert(a).second && busy.insert(b).second);
      }
    }
    EXPECT_EQ(met.size(), static_cast<size_t>(n * (n - 1) / 2)) << n;
  }
}

TEST(PreflightNetworkTest, MeasuresAllPairsOfSomeRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    std::mutex mutex;
    std::set<std::pair<int, int>> measured;
    std::vector<ClockReport> clocks;
    run_ranks(ranks, [&](Collective& world) {
      ThreadPool pool(1);
      const Stream stream = Stream::inline_on(pool);
      std::vector<int> players;
      for (int r = 0; r < ranks; r += 2) players.push_back(r);
      const auto pairs =
          measure_pairs(world, players, {.bytes = 1000, .small_messages = 2, .large_messages = 2}, stream);
      const auto offsets = measure_clocks(world, players, stream);
      const std::scoped_lock lock(mutex);
      for (const PairReport& pair : pairs) {
        EXPECT_EQ(pair.rank, world.rank());
        EXPECT_GT(pair.latency_s, 0);
        EXPECT_GT(pair.bytes_per_s, 0);
        measured.emplace(pair.rank, pair.other);
      }
      clocks.insert(clocks.end(), offsets.begin(), offsets.end());
    });
    const auto players = static_cast<size_t>((ranks + 1) / 2);
    EXPECT_EQ(measured.size(), players * (players - 1) / 2);
    ASSERT_EQ(clocks.size(), players - 1);
    // Threads of one process have the same clock.
    for (const ClockReport& clock : clocks) EXPECT_LE(std::abs(clock.offset_s), clock.uncertainty_s + 0.05);
  }
}

TEST(PreflightNetworkTest, NoRoundBeginsAfterTheTimeLimit) {
  run_ranks(3, [&](Collective& world) {
    ThreadPool pool(1);
    EXPECT_TRUE(
        measure_pairs(world, std::vector{0, 1, 2}, {.bytes = 1000, .most_s = 0}, Stream::inline_on(pool))
            .empty());
  });
}

TEST(PreflightMeasureTest, MeasuresSpeedsAndRemovesItsFiles) {
  ThreadPool pool(2);
  const Stream stream = Stream::inline_on(pool);
  EXPECT_GT(measure_gemm(stream, 65, 0), 0);
  EXPECT_GT(measure_memory(stream, 100'000, 0), 0);
  const TemporaryDirectory folder;
  const DiskSpeed speed = measure_disk(folder / "new", 3 << 20);
  EXPECT_EQ(speed.error, "");
  EXPECT_GT(speed.write_bytes_per_s, 0);
  EXPECT_GT(speed.read_bytes_per_s, 0);
  EXPECT_GT(speed.free_bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  write_all(folder / "file", "");
  EXPECT_NE(measure_disk(folder / "file" / "below", 1 << 20).error.find("cannot be created"),
            std::string::npos);
  EXPECT_NE(measure_disk("/proc/self", 1 << 20).error, "");
}

TEST(PreflightGpuTest, QueriesTheDriver) {
  EXPECT_TRUE(list_gpus("/nowhere/libnvidia-ml.so.1").gpus.empty());
  const GpuList list = list_gpus(TUTTI_FAKE_NVML);
  EXPECT_EQ(list.error, "");
  ASSERT_EQ(list.gpus.size(), 2U);
  EXPECT_EQ(list.gpus[0].name, "Fake 0");
  EXPECT_EQ(list.gpus[1].uuid, "GPU-0001");
  EXPECT_EQ(list.gpus[0].memory_bytes, int64_t{80} << 30);
  EXPECT_EQ(list.gpus[0].uncorrected_errors, 0);
  EXPECT_EQ(list.gpus[1].uncorrected_errors, 7);
  EXPECT_EQ(list.gpus[0].clock_mhz, 1200);
  EXPECT_EQ(list.gpus[0].most_clock_mhz, 1980);
  EXPECT_EQ(list.gpus[0].slowed_by, "");
  EXPECT_EQ(list.gpus[1].slowed_by, "heat");
  ASSERT_EQ(setenv("FAKE_NVML_FAILS", "1", 1), 0);
  EXPECT_EQ(list_gpus(TUTTI_FAKE_NVML).error, "nvmlInit_v2: Driver/library version mismatch (code 18)");
  ASSERT_EQ(unsetenv("FAKE_NVML_FAILS"), 0);
}

}  // namespace
}  // namespace tutti
