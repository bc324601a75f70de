// Requirements for every backend, on integer-valued data whose sums are exact, and on random fp32 data whose
// sums must have the bits of the documented tree.
#include "tests/comm/ranks.h"

#include <tutti/comm/peers.h>

#include <bit>
#include <cstring>
#include <random>
#include <vector>

namespace tutti::test {
namespace {

constexpr DType kAllTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64,
                               DType::kInt32,   DType::kInt64,    DType::kUInt8};
constexpr int64_t kSizes[] = {0, 1, 3, 1000, 20011};

/// A small integer that depends on rank and position; a sum of 16 of them is exact in all dtypes.
int64_t value(int rank, int64_t i) {
  return (i * 7 + rank * 3) % 13;
}

template <class T>
T as(int64_t v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(v);
  else
    return T(static_cast<float>(v));
}

Tensor make(DType dtype, int64_t n, const Stream& stream, const std::function<int64_t(int64_t)>& f) {
  ThreadPool one_thread(1);
  const Tensor t = Tensor::empty({n}, dtype, Stream::inline_on(one_thread));
  dispatch_all(dtype, [&]<class T>(TypeTag<T>) {
    T* out = t.data<T>();
    for (int64_t i = 0; i < n; ++i) out[i] = as<T>(f(i));
  });
  return t.to(dtype, stream);
}

void expect(const Tensor& anywhere, const std::function<int64_t(int64_t)>& f, const std::string& what) {
  const Tensor t = anywhere.on_host();
  dispatch_all(t.dtype(), [&]<class T>(TypeTag<T>) {
    const T* got = t.data<T>();
    for (int64_t i = 0; i < t.numel(); ++i) {
      if (static_cast<double>(got[i]) == static_cast<double>(f(i))) continue;
      FAIL() << static_cast<double>(got[i]) << " instead of " << f(i) << " in " << what << " of "
             << name(t.dtype()) << " at " << i << " of " << t.numel();
    }
  });
}

/// The tree of Reduce, directly from its definition.
float tree_sum(const std::vector<float>& v, size_t low, size_t high) {
  if (high - low == 1) return v[low];
  const size_t middle = low + std::bit_floor(high - low - 1);
  return tree_sum(v, low, middle) + tree_sum(v, middle, high);
}

std::vector<float> random_floats(int rank, size_t n, unsigned seed) {
  // Of different magnitudes, so that another order of additions changes the sum.
  std::minstd_rand engine(seed * 16 + static_cast<unsigned>(rank) + 1);
  std::vector<float> v(n);
  for (float& x : v) {
    x = static_cast<float>(engine()) - 1e9F;
    x *= x * x;
  }
  return v;
}

TEST(Conformance, AllReduce) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const int n = world.size();
    for (const DType dtype : kAllTypes) {
      for (const int64_t size : kSizes) {
        for (const Reduce op : {Reduce::kSum, Reduce::kMax, Reduce::kMin}) {
          const Tensor t =
              make(dtype, size, compute.stream, [&](int64_t i) { return value(world.rank(), i); });
          world.all_reduce(t, op, compute.stream);
          expect(
              t,
              [&](int64_t i) {
                int64_t result = value(0, i);
                for (int r = 1; r < n; ++r) {
                  const int64_t v = value(r, i);
                  result = op == Reduce::kSum   ? result + v
                           : op == Reduce::kMax ? std::max(result, v)
                                                : std::min(result, v);
                }
                return result;
              },
              "all_reduce");
        }
      }
    }
  });
}

TEST(Conformance, SumsFollowTheTree) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  on_ranks([&](Collective& world) {
    const RankStream compute;
    // All ranks must draw the same numbers.
    const Tensor shared_seed = Tensor::from(std::vector{static_cast<int64_t>(seed)}, {1}, compute.stream);
    world.broadcast(shared_seed, 0, compute.stream);
    const auto common = static_cast<unsigned>(shared_seed.item());
    for (const size_t size : {size_t{5}, size_t{4097}, size_t{1000003}}) {
      std::vector<std::vector<float>> all;
      for (int r = 0; r < world.size(); ++r) all.push_back(random_floats(r, size, common));
      std::vector<float> want(size);
      std::vector<float> column(all.size());
      for (size_t i = 0; i < size; ++i) {
        for (size_t r = 0; r < all.size(); ++r) column[r] = all[r][i];
        want[i] = tree_sum(column, 0, column.size());
      }
      const auto& mine = all[static_cast<size_t>(world.rank())];
      const auto shape = Shape{static_cast<int64_t>(size)};
      const auto same = [&](const Tensor& t, size_t offset, const char* what) {
        ASSERT_EQ(std::memcmp(t.on_host().raw(), want.data() + offset, static_cast<size_t>(t.bytes())), 0)
            << what << " " << size;
      };
      const Tensor plain = Tensor::from(mine, shape, compute.stream);
      world.all_reduce(plain, Reduce::kSum, compute.stream);
      same(plain, 0, "all_reduce");

      const Tensor window = world.allocate(shape, DType::kFloat32, compute.stream);
      copy(window, Tensor::from(mine, shape, compute.stream), compute.stream);
      world.all_reduce(window, Reduce::kSum, compute.stream);
      same(window, 0, "all_reduce of allocated memory");

      // In place only on some ranks: all must use the other algorithm.
      copy(window, Tensor::from(mine, shape, compute.stream), compute.stream);
      const Tensor mixed = world.rank() == 0 ? window : window.clone(compute.stream);
      world.all_reduce(mixed, Reduce::kSum, compute.stream);
      same(mixed, 0, "all_reduce of mixed memory");

      const int64_t part = static_cast<int64_t>(size) / world.size();
      const Tensor whole = Tensor::from(mine, shape, compute.stream).slice(0, 0, part * world.size());
      const Tensor out = Tensor::empty({part}, DType::kFloat32, compute.stream);
      world.reduce_scatter(out, whole, Reduce::kSum, compute.stream);
      same(out, static_cast<size_t>(part * world.rank()), "reduce_scatter");
    }
  });
}

TEST(Conformance, BFloat16RoundsEachSum) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    if (world.size() < 3) return;
    // 256 + 1 = 256 in bf16: ranks 0 and 1 give 256, and adding another 1 gives 256 again. In fp32 it is 258.
    const Tensor t =
        make(DType::kBFloat16, 5000, compute.stream, [&](int64_t) { return world.rank() == 0 ? 256 : 1; });
    world.all_reduce(t, Reduce::kSum, compute.stream);
    expect(
        t, [&](int64_t) { return world.size() == 3 ? 256 : 258; }, "all_reduce");
  });
}

TEST(Conformance, NaNPropagatesThroughMaxAndMin) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    for (int where = 0; where < world.size(); ++where) {
      for (const Reduce op : {Reduce::kMax, Reduce::kMin}) {
        const Tensor t = Tensor::full({3}, world.rank() == where ? NAN : 1, DType::kFloat32, compute.stream);
        world.all_reduce(t, op, compute.stream);
        EXPECT_TRUE(std::isnan(t.select(0, 2).item()));
      }
    }
  });
}

TEST(Conformance, Moves) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const int n = world.size();
    const int me = world.rank();
    for (const DType dtype : kAllTypes) {
      for (const int64_t k : kSizes) {
        const Tensor mine = make(dtype, k, compute.stream, [&](int64_t i) { return value(me, i); });
        const Tensor gathered = make(dtype, n * k, compute.stream, [](int64_t) { return 99; });
        world.all_gather(gathered, mine, compute.stream);
        const auto by_rank = [&](int64_t i) { return value(static_cast<int>(i / k), i % k); };
        expect(gathered, by_rank, "all_gather");

        const Tensor in_place = make(dtype, n * k, compute.stream, by_rank);
        for (int r = 0; r < n; ++r) {
          if (r != me) fill(in_place.slice(0, r * k, (r + 1) * k), 77, compute.stream);
        }
        world.all_gather(in_place, in_place.slice(0, me * k, (me + 1) * k), compute.stream);
        expect(in_place, by_rank, "all_gather in place");

        const Tensor all = make(dtype, n * k, compute.stream,
                                [&](int64_t i) { return value(me + 5 * static_cast<int>(i / k), i % k); });
        const Tensor turned = make(dtype, n * k, compute.stream, [](int64_t) { return 99; });
        world.all_to_all(turned, all, compute.stream);
        expect(
            turned, [&](int64_t i) { return value(static_cast<int>(i / k) + 5 * me, i % k); }, "all_to_all");

        for (int root = 0; root < n; ++root) {
          const Tensor t = make(dtype, k, compute.stream, [&](int64_t i) { return value(me, i); });
          world.broadcast(t, root, compute.stream);
          expect(
              t, [&](int64_t i) { return value(root, i); }, "broadcast");
        }
      }
    }
  });
}

TEST(Conformance, SendAndReceiveInARing) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const int n = world.size();
    const int me = world.rank();
    if (n == 1) return;
    for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{1000003}}) {
      const Tensor out = make(DType::kInt32, size, compute.stream, [&](int64_t i) { return value(me, i); });
      const Tensor in = make(DType::kInt32, size, compute.stream, [](int64_t) { return 99; });
      const auto send = [&] { world.send(out, (me + 1) % n, compute.stream); };
      const auto recv = [&] { world.recv(in, (me + n - 1) % n, compute.stream); };
      // A send may wait for its receiver: one rank of the ring receives first.
      if (me == 0) {
        recv();
        send();
      } else {
        send();
        recv();
      }
      expect(
          in, [&](int64_t i) { return value((me + n - 1) % n, i); }, "recv");
    }
    // Messages keep their order.
    for (int64_t i = 0; i < 20; ++i) {
      if (me == 0)
        world.send(make(DType::kInt64, 1, compute.stream, [&](int64_t) { return i; }), n - 1, compute.stream);
      if (me == n - 1) {
        const Tensor in = make(DType::kInt64, 1, compute.stream, [](int64_t) { return 99; });
        world.recv(in, 0, compute.stream);
        expect(
            in, [&](int64_t) { return i; }, "recv");
      }
    }
  });
}

TEST(Conformance, LongMessages) {
  // Longer than one MPI call.
  constexpr int64_t kLong = (int64_t{1} << 23) + 5;
  on_ranks([](Collective& world) {
    if (world.size() == 1) return;
    const RankStream compute;
    const auto pattern = [&](int rank) {
      ThreadPool one_thread(1);
      const Tensor t = Tensor::empty({kLong}, DType::kUInt8, Stream::inline_on(one_thread));
      uint8_t* out = t.data<uint8_t>();
      for (int64_t i = 0; i < kLong; ++i) out[i] = static_cast<uint8_t>(i + (i >> 16) + rank);
      return t;
    };
    const Tensor t = pattern(world.rank()).to(DType::kUInt8, compute.stream);
    if (world.rank() == 0) world.send(t, 1, compute.stream);
    if (world.rank() == 1) world.recv(t, 0, compute.stream);
    world.broadcast(t, 1, compute.stream);
    EXPECT_EQ(std::memcmp(t.on_host().raw(), pattern(0).raw(), static_cast<size_t>(kLong)), 0);
  });
}

TEST(Conformance, Split) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const int me = world.rank();
    for (int round = 0; round < 3; ++round) {
      // Odd and even ranks, in reverse order.
      const auto half = world.split(me % 2, -me);
      const int members = (world.size() + (me % 2 == 0 ? 1 : 0)) / 2;
      ASSERT_EQ(half->size(), members);
      EXPECT_EQ(half->rank(), members - 1 - me / 2);
      const Tensor t = make(DType::kInt64, 20001, compute.stream, [&](int64_t i) { return me + i; });
      half->all_reduce(t, Reduce::kSum, compute.stream);
      expect(
          t,
          [&](int64_t i) {
            int64_t sum = 0;
            for (int r = me % 2; r < world.size(); r += 2) sum += r + i;
            return sum;
          },
          "all_reduce of a part");
      const Tensor window = half->allocate({20001}, DType::kInt64, compute.stream);
      fill(window, 1, compute.stream);
      half->all_reduce(window, Reduce::kSum, compute.stream);
      expect(
          window, [&](int64_t) { return members; }, "all_reduce of a part");
      // Rank 0 alone; the others are in no group.
      const auto alone = world.split(me == 0 ? 4 : -1, 0);
      ASSERT_EQ(alone != nullptr, me == 0);
      if (alone) {
        EXPECT_EQ(alone->size(), 1);
        alone->barrier(compute.stream);
      }
      const auto nested = half->split(0, 0);
      EXPECT_EQ(nested->rank(), half->rank());
    }
  });
}

TEST(Conformance, QueuedStreamsWithTwoGroups) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const auto second = world.split(0, world.rank());
    const bool on_cpu = test_device().type == DeviceType::kCpu;
    const Stream queue = on_cpu ? Stream::queued("test-comm") : world.communication_stream(compute.stream);
    std::vector<Tensor> slow;
    for (int64_t i = 0; i < 8; ++i) {
      slow.push_back(make(DType::kFloat32, 100003, compute.stream, [&](int64_t) { return i; }));
      queue.wait(compute.stream.record());
      world.all_reduce(slow.back(), Reduce::kSum, queue);
      const Tensor quick = make(DType::kFloat64, 2, compute.stream, [&](int64_t) { return 10 + i; });
      second->all_reduce(quick, Reduce::kSum, compute.stream);
      expect(
          quick, [&](int64_t) { return (10 + i) * world.size(); }, "all_reduce on a second group");
    }
    queue.synchronize();
    // Errors of waiting are thrown here, too.
    compute.stream.wait(queue.record());
    for (int64_t i = 0; i < 8; ++i)
      expect(
          slow[static_cast<size_t>(i)], [&](int64_t) { return i * world.size(); }, "queued all_reduce");
  });
}

TEST(Conformance, Misuse) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const Tensor t = Tensor::zeros({4, 6}, DType::kFloat32, compute.stream);
    const Tensor one = Tensor::zeros({1}, DType::kFloat64, compute.stream);
    EXPECT_THROW(world.all_reduce(t.transpose(0, 1), Reduce::kSum, compute.stream), Error);
    EXPECT_THROW(world.all_reduce(Tensor(), Reduce::kSum, compute.stream), Error);
    EXPECT_THROW(world.all_gather(t, one, compute.stream), Error);
    EXPECT_THROW(world.reduce_scatter(one, t, Reduce::kSum, compute.stream), Error);
    EXPECT_THROW(world.broadcast(t, world.size(), compute.stream), Error);
    EXPECT_THROW(world.send(t, world.rank(), compute.stream), Error);
    EXPECT_THROW(world.recv(t, -1, compute.stream), Error);
    // NCCL does not detect that operations do not match: its kernels wait until the deadline.
    if (world.size() != 2 || !world.supports(DeviceType::kCpu)) return;
    // If operations of ranks of one process or node do not match, all ranks throw Error and can continue.
    for (const int64_t size : {int64_t{10}, int64_t{100000}}) {
      const Tensor odd = Tensor::zeros({size + (world.rank() == 0 ? 1 : 0)}, DType::kFloat32, compute.stream);
      EXPECT_THROW(world.all_reduce(odd, Reduce::kSum, compute.stream), Error);
    }
  });
}

TEST(Conformance, Peers) {
  on_ranks([](Collective& world) {
    if (!world.supports(DeviceType::kCpu)) return;  // tested with the control plane
    CollectivePeers peers(world);
    const auto text = [](int r) {
      return std::string(static_cast<size_t>(r) * 1000, static_cast<char>('a' + r));
    };
    const auto all = peers.all_gather(text(world.rank()));
    ASSERT_EQ(all.size(), static_cast<size_t>(world.size()));
    for (int r = 0; r < world.size(); ++r) EXPECT_EQ(all[static_cast<size_t>(r)], text(r));
    EXPECT_EQ(peers.broadcast(fmt::format("from {}", world.rank())), "from 0");
    peers.barrier();
    try {
      peers.agree([&] { require(world.rank() != world.size() - 1, "no such file"); });
      FAIL() << "agree must throw on all ranks";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), world.size() == 1
                                     ? "no such file"
                                     : fmt::format("rank {}: no such file", world.size() - 1).c_str());
    }
  });
}

}  // namespace
}  // namespace tutti::test
