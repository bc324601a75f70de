#include <tutti/core/tensor.h>

#include <gtest/gtest.h>

#include <numeric>

namespace tutti {
namespace {

class TensorTest : public testing::Test {
 protected:
  Tensor iota(const Shape& shape) {
    std::vector<float> v(static_cast<size_t>(numel(shape)));
    std::iota(v.begin(), v.end(), 0.0F);
    return Tensor::from(v, shape, stream);
  }
  ThreadPool pool{3};
  Stream stream = Stream::inline_on(pool);
};

float at(const Tensor& t, std::initializer_list<int64_t> index) {
  Tensor x = t;
  for (const int64_t i : index) x = x.select(0, i);
  return static_cast<float>(x.item());
}

TEST_F(TensorTest, ViewsShareStorageAndIndexRight) {
  const Tensor t = iota({3, 5, 7});
  EXPECT_EQ(at(t.transpose(0, 2), {6, 4, 1}), 1 * 35 + 4 * 7 + 6);
  EXPECT_EQ(at(t.permute({1, 2, 0}), {4, 6, 2}), 2 * 35 + 4 * 7 + 6);
  EXPECT_EQ(at(t.slice(1, 1, 5, 3), {2, 1, 3}), 2 * 35 + 4 * 7 + 3);
  EXPECT_EQ(at(t.view({-1, 7}), {14, 6}), 104);
  EXPECT_EQ(at(t.select(1, 2).unsqueeze(1).expand({3, 4, 7}), {2, 3, 5}), 2 * 35 + 2 * 7 + 5);
  EXPECT_TRUE(t.transpose(0, 2).shares_storage_with(t));
}

TEST_F(TensorTest, ViewOfStridedTensors) {
  const Tensor t = iota({4, 6, 5});
  const Tensor merged = t.slice(2, 1, 4).view({24, 3});  // dims 0 and 1 are still contiguous
  EXPECT_EQ(at(merged, {23, 2}), 23 * 5 + 3);
  EXPECT_EQ(at(t.transpose(1, 2).view({4, 5, 2, 3}), {3, 4, 1, 2}), 3 * 30 + 5 * 5 + 4);
  EXPECT_THROW((void)t.transpose(0, 1).view({24, 5}), Error);
  EXPECT_THROW((void)t.view({7, -1}), Error);
  EXPECT_THROW((void)t.view({-1, -1}), Error);
}

TEST_F(TensorTest, CopyConvertsAndFollowsStrides) {
  const Tensor t = iota({5, 37});
  const Tensor u = t.transpose(0, 1).clone(stream);
  EXPECT_TRUE(u.contiguous());
  EXPECT_EQ(at(u, {36, 4}), 4 * 37 + 36);
  for (const DType d :
       {DType::kBFloat16, DType::kFloat16, DType::kFloat64, DType::kInt32, DType::kInt64, DType::kUInt8})
    EXPECT_EQ(t.to(d, stream).select(0, 4).select(0, 36).item(), 184) << name(d);
}

TEST_F(TensorTest, AddInPlaceAcrossDtypes) {
  const Tensor a = iota({3, 1000});
  const Tensor b = a.to(DType::kFloat64, stream);
  add_in_place(a, b, stream);
  EXPECT_EQ(at(a, {2, 999}), 2 * 2999);
  EXPECT_THROW(add_in_place(a, iota({1000, 3}), stream), Error);
}

TEST_F(TensorTest, BFloat16RoundsToNearestEven) {
  EXPECT_EQ(float(BFloat16(1.0F + 0x1p-8F)), 1.0F);
  EXPECT_EQ(float(BFloat16(1.0F + 0x1.8p-7F)), 1.0F + 0x1p-6F);
  EXPECT_TRUE(std::isnan(float(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(float(BFloat16(std::numeric_limits<float>::max()))));
}

TEST_F(TensorTest, MisuseIsRefused) {
  const Tensor t = iota({2, 3});
  EXPECT_THROW((void)t.data<double>(), Error);
  EXPECT_THROW((void)t.size(2), Error);
  EXPECT_THROW((void)t.slice(0, 1, 3), Error);
  EXPECT_THROW((void)t.item(), Error);
  EXPECT_THROW((void)Tensor::empty({-1}, DType::kFloat32, stream), Error);
  EXPECT_THROW((void)Tensor::empty({int64_t{1} << 40, int64_t{1} << 40}, DType::kFloat32, stream), Error);
}

TEST_F(TensorTest, AllocatorReusesBlocks) {
  const auto live = cpu_memory_stats().live_bytes;
  const void* first = Tensor::empty({12345}, DType::kFloat32, stream).raw();
  EXPECT_EQ(cpu_memory_stats().live_bytes, live);
  EXPECT_EQ(Tensor::empty({12345}, DType::kFloat32, stream).raw(), first);
}

TEST(ThreadPoolTest, RunsEachTaskOnceAndRethrows) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(round));
      pool.parallel_for(round, [&](int64_t i) { hits[static_cast<size_t>(i)]++; });
      for (auto& h : hits) ASSERT_EQ(h, 1);
    }
    EXPECT_THROW(pool.parallel_for(9, [](int64_t i) { require(i != 7, "task {}", i); }), Error);
    int64_t sum = 0;
    std::mutex m;
    pool.parallel_ranges(1001, 10, [&](int64_t b, int64_t e) {
      const std::scoped_lock l(m);
      sum += e - b;
    });
    EXPECT_EQ(sum, 1001);
  }
}

TEST(StreamTest, QueuedRunsInOrderAndReportsTheFirstError) {
  const Stream s = Stream::queued("test");
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) s.run([&order, i] { order.push_back(i); });
  s.synchronize();
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  s.run([] { fail("first"); });
  s.run([&] { order.clear(); });
  EXPECT_THROW(s.synchronize(), Error);
  EXPECT_EQ(order.size(), 100U);
  s.synchronize();
}

}  // namespace
}  // namespace tutti
