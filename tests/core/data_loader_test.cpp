#include <gtest/gtest.h>
#include <tutti/core/data/loader.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "tests/core/data_helpers.h"

namespace tutti {
namespace {

using test::draw;
using test::expect_error;

TEST(Sampler, TheCursorCountsTheSamplesOfEarlierSteps) {
  for (const auto& [size, batch] : {std::pair<int64_t, int64_t>{23, 7}, {21, 7}, {5, 9}, {1, 1}}) {
    const Sampler sampler(size, batch, SampleOrder::kShuffled, 1);
    int64_t read = 0;
    for (int64_t step = 0; step < 12; ++step) {
      EXPECT_EQ(sampler.next_sample(step), read) << size << " by " << batch << ", step " << step;
      read += sampler.samples(step);
    }
  }
}

TEST(Permutation, HasEachElementOnce) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 99, 1000, 4097, 60000}) {
    const Permutation permutation(size, {.seed = draw(1000), .tensor = 5, .step = draw(10)});
    std::vector<bool> seen(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) {
      const int64_t to = permutation(i);
      ASSERT_GE(to, 0);
      ASSERT_LT(to, size);
      ASSERT_FALSE(seen[static_cast<size_t>(to)]);
      seen[static_cast<size_t>(to)] = true;
    }
  }
  expect_error([] { (void)Permutation(0, {}); }, "of 0");
  expect_error([] { (void)Permutation(5, {})(5); }, "element 5");
}

TEST(Permutation, ReachesEveryOrderEquallyOften) {
  // All 24 orders of 4 elements for 24000 keys: for uniform orders, chi-square with 23 degrees of freedom is
  // above 60 in one of 30000 cases. The keys are fixed, so the result is always the same.
  std::map<std::array<int64_t, 4>, int> counts;
  for (uint64_t key = 0; key < 24000; ++key) {
    const Permutation permutation(4, {.seed = 9, .tensor = 5, .step = key});
    ++counts[{permutation(0), permutation(1), permutation(2), permutation(3)}];
  }
  ASSERT_EQ(counts.size(), 24U);
  double chi = 0;
  for (const auto& [order, count] : counts) chi += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi, 60);
}

TEST(Permutation, NeighboursAreFarApart) {
  // Differences of neighbours in a random order are rarely small.
  const int64_t size = 100000;
  const Permutation permutation(size, {.seed = 3});
  int close = 0;
  double product = 0;
  for (int64_t i = 0; i + 1 < size; ++i) {
    const double a = static_cast<double>(permutation(i)) / size - 0.5;
    const double b = static_cast<double>(permutation(i + 1)) / size - 0.5;
    close += std::abs(a - b) < 0.001;
    product += a * b * 12 / size;
  }
  EXPECT_NEAR(close, 200, 80);
  EXPECT_NEAR(product, 0, 0.02);  // correlation
}

TEST(Sampler, PassesOverAllSamplesEachEpochAndDropsNothing) {
  for (const int64_t size : {1, 5, 12, 13, 100}) {
    for (const int64_t batch : {int64_t{1}, int64_t{4}, int64_t{5}, int64_t{13}, int64_t{200}, INT64_MAX}) {
      for (const SampleOrder order : {SampleOrder::kShuffled, SampleOrder::kSequential}) {
        const Sampler sampler(size, batch, order, draw(100));
        int64_t step = 0;
        for (int64_t epoch = 0; epoch < 3; ++epoch) {
          std::vector<int64_t> ids;
          for (int64_t i = 0; i < sampler.steps_per_epoch(); ++i, ++step) {
            EXPECT_EQ(sampler.epoch_of(step), epoch);
            EXPECT_DOUBLE_EQ(
                sampler.epochs(step),
                static_cast<double>(epoch) + static_cast<double>(ids.size()) / static_cast<double>(size));
            const std::vector<int64_t> some = sampler.ids(step);
            EXPECT_EQ(static_cast<int64_t>(some.size()), sampler.samples(step));
            EXPECT_LE(sampler.samples(step), batch);
            ids.insert(ids.end(), some.begin(), some.end());
          }
          if (order == SampleOrder::kShuffled) std::sort(ids.begin(), ids.end());
          std::vector<int64_t> expected(static_cast<size_t>(size));
          for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<int64_t>(i);
          EXPECT_EQ(ids, expected);
        }
      }
    }
  }
}

TEST(Sampler, OrderDependsOnSeedAndEpoch) {
  const Sampler a(1000, 10, SampleOrder::kShuffled, 1);
  const Sampler b(1000, 10, SampleOrder::kShuffled, 2);
  EXPECT_EQ(a.ids(7), Sampler(1000, 10, SampleOrder::kShuffled, 1).ids(7));
  EXPECT_NE(a.ids(7), b.ids(7));
  EXPECT_NE(a.ids(7), a.ids(107));
  // The order of samples does not depend on the batch size.
  std::vector<int64_t> joined = a.ids(0);
  for (const int64_t id : a.ids(1)) joined.push_back(id);
  EXPECT_EQ(joined, Sampler(1000, 20, SampleOrder::kShuffled, 1).ids(0));
  expect_error([&] { (void)a.ids(0, 3, 11); }, "its batch has 10");
  expect_error([&] { (void)a.ids(-1); }, "step -1");
  expect_error([] { (void)Sampler(0, 1, SampleOrder::kSequential, 0); }, "0 samples");
  expect_error([] { (void)Sampler(1, 0, SampleOrder::kSequential, 0); }, "0 samples");
}

/// Sample i is (i, seed, epoch); throws at one id; every third sample has no prediction.
class CountingData final : public Dataset {
 public:
  explicit CountingData(int64_t size, int64_t bad = -1) : size_(size), bad_(bad) {}
  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] Shape sample_shape() const override { return {3}; }
  [[nodiscard]] int64_t classes() const override { return 2; }
  [[nodiscard]] int64_t predictions(int64_t id) const override { return id % 3 == 0 ? 0 : 1; }
  [[nodiscard]] Batch read(std::span<const int64_t> ids, AugmentKey key,
                           const Stream& stream) const override {
    const auto rows = static_cast<int64_t>(ids.size());
    Batch batch{Tensor::empty({rows, 3}, DType::kInt64, stream),
                Tensor::zeros({rows}, DType::kInt32, stream)};
    stream.pool().parallel_for(rows, [&](int64_t row) {
      const int64_t id = ids[static_cast<size_t>(row)];
      require(id != bad_, "sample {} is damaged", id);
      int64_t* to = batch.inputs.data<int64_t>() + row * 3;
      to[0] = id;
      to[1] = static_cast<int64_t>(key.seed);
      to[2] = static_cast<int64_t>(key.epoch);
    });
    reads += 1;
    return batch;
  }
  mutable std::atomic<int> reads{0};

 private:
  int64_t size_, bad_;
};

/// Rank `rank` of `ranks` takes its part of the batch, in microbatches of at most `most`.
LoaderOptions part(int rank, int ranks, int64_t most) {
  LoaderOptions options;
  options.ranges = [=](int64_t, int64_t samples) {
    std::vector<Parallel::Shard> ranges;
    const int64_t begin = samples * rank / ranks;
    const int64_t end = samples * (rank + 1) / ranks;
    for (int64_t at = begin; at < end; at += most) ranges.push_back({at, std::min(at + most, end)});
    return ranges;
  };
  return options;
}

using Rows = std::map<std::pair<int64_t, int64_t>, std::array<int64_t, 3>>;  // (step, position) -> sample

void collect(Loader& loader, int64_t first, int64_t end, Rows& rows) {
  for (int64_t step = first; step < end; ++step) {
    for (const Batch& batch : loader.next()) {
      const auto values = batch.inputs.span<int64_t>();
      for (int64_t i = 0; i < batch.samples(); ++i) {
        const size_t at = static_cast<size_t>(i) * 3;
        ASSERT_TRUE(
            rows.insert({{step, batch.first_sample + i}, {values[at], values[at + 1], values[at + 2]}})
                .second);
      }
    }
  }
}

TEST(Loader, DataDoesNotDependOnRanksThreadsOrTheFirstStep) {
  const auto data = std::make_shared<CountingData>(53);
  const Sampler sampler(53, 12, SampleOrder::kShuffled, 77);
  Rows expected;
  for (int64_t step = 0; step < 14; ++step) {
    const auto ids = sampler.ids(step);
    for (size_t i = 0; i < ids.size(); ++i) {
      expected[{step, static_cast<int64_t>(i)}] = {ids[i], 77, sampler.epoch_of(step)};
    }
  }
  for (int ranks = 1; ranks <= 4; ++ranks) {
    for (const int64_t most : {1, 2, 100}) {
      Rows rows;
      for (int rank = 0; rank < ranks; ++rank) {
        LoaderOptions options = part(rank, ranks, most);
        options.threads = 1 + rank % 3;
        options.ahead = 2 + rank;
        Loader early(data, sampler, options);
        collect(early, 0, 6, rows);
        options.first_step = 6;
        Loader late(data, sampler, options);
        collect(late, 6, 14, rows);
      }
      EXPECT_EQ(rows, expected) << ranks;
    }
  }
}

TEST(Loader, RanksOfOneProcessReadAtTheSameTime) {
  const auto data = std::make_shared<CountingData>(53);
  const Sampler sampler(53, 12, SampleOrder::kShuffled, 77);
  std::vector<Rows> rows(3);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      LoaderOptions options = part(rank, 3, 2);
      options.threads = 2;
      Loader loader(data, sampler, options);
      collect(loader, 0, 40, rows[static_cast<size_t>(rank)]);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  int64_t total = 0;
  for (int64_t step = 0; step < 40; ++step) total += sampler.samples(step);
  EXPECT_EQ(static_cast<int64_t>(rows[0].size() + rows[1].size() + rows[2].size()), total);
}

TEST(Loader, CountsPredictionsOfTheGlobalBatch) {
  const auto data = std::make_shared<CountingData>(10);
  const Sampler sampler(10, 4, SampleOrder::kSequential, 0);
  const Loader loader(data, sampler, part(0, 2, 100));
  EXPECT_EQ(loader.samples(0), 4);
  EXPECT_EQ(loader.samples(2), 2);
  EXPECT_EQ(loader.predictions(0), 2);  // of 0 1 2 3
  EXPECT_EQ(loader.predictions(2), 1);  // of 8 9
  EXPECT_DOUBLE_EQ(loader.epoch(1), 0.4);
  EXPECT_DOUBLE_EQ(loader.epoch(3), 1.0);
}

TEST(Loader, ErrorsAreThrownAtTheirStep) {
  const Sampler sampler(20, 4, SampleOrder::kSequential, 0);
  for (const int threads : {1, 3}) {
    LoaderOptions options = part(0, 1, 2);
    options.threads = threads;
    Loader loader(std::make_shared<CountingData>(20, 13), sampler, options);
    for (int64_t step = 0; step < 3; ++step) EXPECT_EQ(loader.next().size(), 2U);
    expect_error([&] { (void)loader.next(); }, "sample 13 is damaged");
    expect_error([&] { (void)loader.next(); }, "sample 13 is damaged");
  }
  LoaderOptions options = part(0, 1, 4);
  options.ranges = [](int64_t, int64_t) -> std::vector<Parallel::Shard> { fail("no ranges"); };
  Loader loader(std::make_shared<CountingData>(20), sampler, options);
  expect_error([&] { (void)loader.next(); }, "no ranges");
}

TEST(Loader, EndsAtItsEndStep) {
  LoaderOptions options = part(0, 1, 4);
  options.end_step = 3;
  const auto data = std::make_shared<CountingData>(20);
  Loader loader(data, Sampler(20, 4, SampleOrder::kSequential, 0), options);
  for (int step = 0; step < 3; ++step) EXPECT_EQ(loader.next().size(), 1U);
  expect_error([&] { (void)loader.next(); }, "from 3 on");
  EXPECT_EQ(data->reads, 3);
}

TEST(Loader, PrefetchesTheGivenNumberOfSteps) {
  const auto data = std::make_shared<CountingData>(1000);
  LoaderOptions options = part(0, 1, 4);
  options.ahead = 3;
  Loader loader(data, Sampler(1000, 4, SampleOrder::kSequential, 0), options);
  for (int i = 0; i < 2000 && data->reads < 3; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(data->reads, 3);
  (void)loader.next();
  for (int i = 0; i < 2000 && data->reads < 4; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(data->reads, 4);
}

TEST(Loader, CanBeDestroyedAtAnyTime) {
  const auto data = std::make_shared<CountingData>(100000);
  for (int round = 0; round < 60; ++round) {
    LoaderOptions options = part(0, 1, 1 + static_cast<int64_t>(draw(4)));
    options.threads = 1 + static_cast<int>(draw(3));
    Loader loader(data, Sampler(100000, 16, SampleOrder::kShuffled, 1), options);
    for (size_t n = draw(4); n > 0; --n) (void)loader.next();
  }
}

TEST(Loader, RefusesInvalidOptions) {
  const auto data = std::make_shared<CountingData>(20);
  const Sampler sampler(20, 4, SampleOrder::kSequential, 0);
  expect_error([&] { Loader(nullptr, sampler, part(0, 1, 4)); }, "data set of 0");
  expect_error([&] { Loader(data, Sampler(19, 4, SampleOrder::kSequential, 0), part(0, 1, 4)); },
               "data set of 20");
  expect_error([&] { Loader(data, sampler, {}); }, "ranges");
  LoaderOptions options = part(0, 1, 4);
  options.ahead = 1;
  expect_error([&] { Loader(data, sampler, options); }, "2 steps ahead");
  options.ahead = 2;
  options.ranges = [](int64_t, int64_t) { return std::vector<Parallel::Shard>{{2, 9}}; };
  Loader loader(data, sampler, options);
  expect_error([&] { (void)loader.next(); }, "its batch has 4");
}

}  // namespace
}  // namespace tutti
