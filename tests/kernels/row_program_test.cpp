// Row programs with one lane and with several threads as lanes, which detect missing barriers and, under
// ThreadSanitizer, races.
#include "tests/kernels/op_check.h"

#include "kernels/row/batch_norm.h"
#include "kernels/row/dropout.h"
#include "kernels/row/norm.h"
#include "kernels/row/pointwise.h"
#include "kernels/row/pool.h"
#include "kernels/row/softmax.h"
#include "kernels/row/softmax_block.h"
#include "kernels/row/thread_team.h"

#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

class RowProgram : public RandomTest {
 protected:
  std::vector<float> normal(int64_t n, double deviation = 1) {
    const Tensor t = random.normal({n}, deviation, DType::kFloat32);
    return {t.data<float>(), t.data<float>() + n};
  }

  /// Runs `program(team, out)` serially and with 1, 3 and 4 threads, with `out` = `initial`, and expects the
  /// same results.
  template <class Program>
  static void check(const std::vector<float>& initial, const Program& program, double tolerance = 1e-5) {
    std::vector<float> serial = initial;
    SerialTeam one;
    program(one, serial.data());
    for (const int lanes : {1, 3, 4}) {
      std::vector<float> out = initial;
      ThreadTeam::run(lanes, [&](ThreadTeam& team) { program(team, out.data()); });
      for (size_t i = 0; i < out.size(); ++i) {
        if (out[i] == serial[i] || (std::isnan(serial[i]) && std::isnan(out[i]))) continue;
        ASSERT_NEAR(out[i], serial[i], tolerance * (1 + std::abs(serial[i])))
            << lanes << " lanes, element " << i;
      }
    }
  }
};

constexpr int64_t kWidths[] = {1, 2, 5, 64, 1037, 5003};

TEST_F(RowProgram, ReductionsOfTheTeam) {
  for (const int lanes : {1, 3, 4}) {
    std::vector<double> sums(static_cast<size_t>(lanes)), largest(static_cast<size_t>(lanes));
    ThreadTeam::run(lanes, [&](ThreadTeam& team) {
      const auto lane = static_cast<size_t>(team.lane());
      sums[lane] = team.sum(static_cast<double>(lane + 1));
      largest[lane] = team.max(-static_cast<double>(lane));
    });
    for (size_t i = 0; i < sums.size(); ++i) {
      EXPECT_EQ(sums[i], lanes * (lanes + 1) / 2);
      EXPECT_EQ(largest[i], 0);
    }
  }
}

TEST_F(RowProgram, Norms) {
  for (const int64_t n : kWidths) {
    const auto x = normal(n);
    const auto w = normal(n);
    const auto b = normal(n);
    const auto dy = normal(n);
    const std::vector<float> empty(static_cast<size_t>(n), 0);
    check(empty, [&](auto& t, float* y) { row::layer_norm(t, x.data(), w.data(), b.data(), y, n, 1e-2F); });
    check(empty, [&](auto& t, float* y) { row::rms_norm(t, x.data(), w.data(), y, n, 1e-2F); });
    // dx, dw and db are adjacent in `out`; the program adds to dw and db.
    check(normal(3 * n), [&](auto& t, float* out) {
      row::norm_backward<true>(t, dy.data(), x.data(), w.data(), row::Moments<float>{0.1F, 0.7F}, out, true,
                               out + n, out + 2 * n, n);
    });
    check(normal(2 * n), [&](auto& t, float* out) {
      row::norm_backward<false>(t, dy.data(), x.data(), w.data(), row::Moments<float>{0, 0.7F}, out, false,
                                out + n, static_cast<float*>(nullptr), n);
    });
  }
}

TEST_F(RowProgram, Softmax) {
  for (const int64_t n : kWidths) {
    auto x = normal(n, 5);
    if (n > 5) {
      // All elements of some lanes and parts are -infinity.
      for (int64_t i = 0; i < n / 2; ++i) x[static_cast<size_t>(i)] = -std::numeric_limits<float>::infinity();
    }
    const auto dy = normal(n);
    check({0}, [&](auto& t, float* out) {
      const float lse = row::log_sum_exp(t, x.data(), n);
      if (t.lane() == 0) *out = lse;
    });
    check(x, [&](auto& t, float* y) { row::softmax(t, y, y, n, 3.0F); });
    check(x, [&](auto& t, float* y) { row::log_softmax(t, y, y, n, 3.0F); });
    const auto y = normal(n, 0.1);
    check(
        dy, [&](auto& t, float* dx) { row::softmax_backward(t, dx, y.data(), dx, n); }, 1e-4);
    check(
        dy, [&](auto& t, float* dx) { row::log_softmax_backward(t, dx, y.data(), dx, n); }, 1e-3);
    // In place: the target's logit is read by all lanes and overwritten by one.
    check(normal(n), [&](auto& t, float* logits) {
      row::cross_entropy_backward(t, logits, logits, n, n / 2, 4.0F, row::TargetWeights<float>{0.9F, 0.01F},
                                  2.0F);
    });
  }
}

TEST_F(RowProgram, Pointwise) {
  for (const int64_t n : kWidths) {
    const auto saved = normal(n);
    const auto dy = normal(n);
    check(normal(n), [&](auto& t, float* x) { row::map(t, x, x, n, row::Gelu{}); });
    check(normal(n), [&](auto& t, float* d) { row::map_backward(t, d, saved.data(), d, n, row::Silu{}); });
    check(normal(3 * n), [&](auto& t, float* p) { row::swiglu(t, p, p + n, p + 2 * n, n); });
    check(normal(2 * n),
          [&](auto& t, float* p) { row::swiglu_backward(t, dy.data(), p, p + n, p, p + n, n); });
    check(normal(3 * n), [&](auto& t, float* p) { row::gated(t, p, p + n, p + 2 * n, n, row::GeluTanh{}); });
    check(normal(2 * n), [&](auto& t, float* p) {
      row::gated_backward(t, dy.data(), p, p + n, p, p + n, n, row::GeluTanh{});
    });
    check(normal(n), [&](auto& t, float* s) { row::cap_scores(t, s, n, 0.5F, 2.0F); });
    check(normal(2 * n), [&](auto& t, float* s) {
      row::capped_row_backward(t, s, s + n, s, s + n, n / 2 + 1, n, 0.5F, 2.0F, 1.0F, 0.1F);
    });
    const RandomKey key{1, 2, 3, 4};
    check(
        normal(n),
        [&](auto& t, float* x) {
          row::dropout(t, x, x, n, 10, key, row::DropoutRule{.threshold = 1U << 23, .scale = 2});
        },
        0);
  }
}

TEST_F(RowProgram, BatchNorm) {
  for (const int64_t n : kWidths) {
    const auto x = normal(n);
    const auto p = normal(4 * n);
    const auto add = normal(n);
    const row::ChannelParameters<float> parameters{p.data(), p.data() + n, p.data() + 2 * n,
                                                   p.data() + 3 * n};
    const std::vector<float> empty(static_cast<size_t>(n), 0);
    check(empty,
          [&](auto& t, float* y) { row::batch_norm<true>(t, x.data(), add.data(), y, n, parameters, 0.0F); });
    check(empty, [&](auto& t, float* y) {
      row::batch_norm<false>(t, x.data(), static_cast<const float*>(nullptr), y, n, parameters,
                             -std::numeric_limits<float>::infinity());
    });
    check(normal(n), [&](auto& t, float* g) {
      row::batch_norm_backward<true>(t, g, x.data(), g, false, n, parameters);
    });
    check(normal(n), [&](auto& t, float* dx) {
      row::batch_norm_backward<false>(t, add.data(), x.data(), dx, true, n, parameters);
    });
    check(normal(2 * n), [&](auto& t, float* sums) {
      row::batch_norm_sums<true>(t, add.data(), x.data(), n, p.data(), sums, sums + n);
    });
    check(
        normal(2),
        [&](auto& t, float* sums) {
          row::batch_norm_sums<false>(t, add.data(), x.data(), n, p.data(), sums, sums + 1);
        },
        1e-3);
    check({0, 0, 0}, [&](auto& t, float* out) {
      const auto variance = row::row_variance(t, x.data(), n);
      if (t.lane() == 0) {
        out[0] = variance.count;
        out[1] = variance.mean;
        out[2] = variance.squares;
      }
    });
    const auto rows = normal(7 * n);
    check(normal(4 * n), [&](auto& t, float* out) {
      row::merge_column_spread(t, rows.data(), 7, n, 5, out, out + n, out + 2 * n);
    });
  }
}

TEST_F(RowProgram, Pooling) {
  row::PoolGeometry g;
  g.images = 1;
  g.channels = 261;
  g.in = {5, 6};
  g.out = {3, 3};
  g.kernel = {3, 3};
  g.stride = {2, 2};
  g.padding = {1, 1};
  const auto x = normal(g.in_image());
  const auto dy = normal(g.out_image());
  std::vector<uint16_t> winners(static_cast<size_t>(g.out_image()));
  for (auto& w : winners) w = static_cast<uint16_t>(random.integer(0, 8));
  check(std::vector<float>(static_cast<size_t>(g.out_line())), [&](auto& t, float* y) {
    std::vector<uint16_t> own(static_cast<size_t>(g.out_line()));
    row::max_pool_line(t, g, x.data(), 1, y, own.data());
  });
  check(std::vector<float>(static_cast<size_t>(g.out_line())),
        [&](auto& t, float* y) { row::avg_pool_line(t, g, x.data(), 0, y); });
  check(normal(g.in_line()), [&](auto& t, float* dx) {
    row::max_pool_line_backward(t, g, dy.data(), winners.data(), 2, dx, true);
  });
  check(normal(g.in_line()),
        [&](auto& t, float* dx) { row::avg_pool_line_backward(t, g, dy.data(), 3, dx, false); });
}

}  // namespace
}  // namespace tutti::test
