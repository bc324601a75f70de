// Row programs of register-resident rows, without a GPU: against the plain row programs in fp64, with one
// lane and with threads as lanes.
#include "tests/kernels/gradcheck.h"

#include "kernels/row/register_norm.h"
#include "kernels/row/thread_team.h"

namespace tutti::test {
namespace {

constexpr int kPacksPerLane = 3;
constexpr int kLanes = 3;

template <class T>
class RegisterRows : public RandomTest {
 protected:
  // Two packs in each of three lanes, and a third pack in one lane.
  static constexpr int64_t kWidth = 7 * row::kWide<T>;

  Tensor row() { return random.normal({kWidth}, 2).to(dtype_of<T>(), stream()); }
  Tensor wide(const Tensor& x) { return x.to(DType::kFloat64, stream()); }
  static Tensor poisoned(int64_t n = kWidth) {
    return Tensor::full({n}, std::numeric_limits<double>::quiet_NaN(), dtype_of<T>(), stream());
  }
  double tolerance() const {
    return std::is_same_v<T, BFloat16> ? 2e-2 : std::is_same_v<T, float> ? 2e-5 : 1e-12;
  }

  /// Calls program<packs per lane>(run), where run(f) calls f(team): for one lane with the whole row, and for
  /// three threads.
  template <class Program>
  void with_teams(Program program) {
    {
      SCOPED_TRACE("one lane");
      SerialTeam team;
      program.template operator()<7>([&](auto f) { f(team); });
    }
    SCOPED_TRACE("three threads");
    program.template operator()<kPacksPerLane>([&](auto f) { ThreadTeam::run(kLanes, f); });
  }
};

using Types = ::testing::Types<float, BFloat16, double>;
TYPED_TEST_SUITE(RegisterRows, Types);

TYPED_TEST(RegisterRows, Forward) {
  using T = TypeParam;
  using A = Accumulate<T>;
  const int64_t n = this->kWidth;
  const Tensor x = this->row();
  const Tensor residual = this->row();
  const Tensor w = this->row();
  const Tensor b = this->row();
  for (const bool with_residual : {false, true}) {
    Tensor input = x.clone(stream());
    if (with_residual) add_in_place(input, residual, stream());
    const Tensor in = this->wide(input);
    const Tensor weight = this->wide(w);
    const Tensor shift = this->wide(b);
    Tensor layer = Tensor::empty({n}, DType::kFloat64, stream());
    Tensor rms = Tensor::empty({n}, DType::kFloat64, stream());
    SerialTeam serial;
    const auto moments = row::layer_norm(serial, in.data<double>(), weight.data<double>(),
                                         shift.data<double>(), layer.data<double>(), n, 1e-3);
    row::rms_norm(serial, in.data<double>(), weight.data<double>(), rms.data<double>(), n, 1e-3);
    this->with_teams([&]<int kPacks>(auto run) {
      const Tensor y = this->poisoned();
      const Tensor z = this->poisoned();
      const Tensor sum = this->poisoned();
      const T* added = with_residual ? residual.data<T>() : nullptr;
      run([&](auto& team) {
        const auto actual = row::register_norm<true, kPacks>(
            team, x.data<T>(), added, sum.data<T>(), w.data<T>(), b.data<T>(), y.data<T>(), n, A(1e-3));
        EXPECT_NEAR(static_cast<double>(actual.mean), moments.mean, 1e-5);
        EXPECT_NEAR(static_cast<double>(actual.rstd), moments.rstd, 1e-5);
        row::register_norm<false, kPacks>(team, x.data<T>(), added, sum.data<T>(), w.data<T>(),
                                          static_cast<const T*>(nullptr), z.data<T>(), n, A(1e-3));
      });
      expect_close(this->wide(y), layer, this->tolerance(), this->tolerance());
      expect_close(this->wide(z), rms, this->tolerance(), this->tolerance());
      if (with_residual) expect_same_bits(sum, input);
    });
  }
}

TYPED_TEST(RegisterRows, Backward) {
  using T = TypeParam;
  using A = Accumulate<T>;
  const int64_t n = this->kWidth;
  const Tensor x = this->row();
  const Tensor dy = this->row();
  const Tensor w = this->row();
  const Tensor before = this->row();
  const Tensor in = this->wide(x);
  const Tensor d = this->wide(dy);
  const Tensor weight = this->wide(w);
  const row::Moments<double> moments{0.25, 0.5};
  for (const bool accumulate : {false, true}) {
    const Tensor expected = this->wide(before).clone(stream());
    const Tensor dw = Tensor::zeros({n}, DType::kFloat64, stream());
    const Tensor db = Tensor::zeros({n}, DType::kFloat64, stream());
    SerialTeam serial;
    row::norm_backward<true>(serial, d.data<double>(), in.data<double>(), weight.data<double>(), moments,
                             expected.data<double>(), accumulate, dw.data<double>(), db.data<double>(), n);
    this->with_teams([&]<int kPacks>(auto run) {
      const Tensor dx = accumulate ? before.clone(stream()) : this->poisoned();
      const Tensor sums =
          Tensor::full({2, n}, std::numeric_limits<double>::quiet_NaN(), dtype_of<A>(), stream());
      run([&](auto& team) {
        row::RegisterSums<kPacks, T> part;
        row::register_norm_backward<true, kPacks>(team, dy.data<T>(), x.data<T>(), w.data<T>(),
                                                  row::Moments<A>{A(moments.mean), A(moments.rstd)},
                                                  dx.data<T>(), accumulate, part, n);
        row::for_packs<kPacks, T>(team, n, [&](int k, int64_t i) {
          for (int j = 0; j < row::kWide<T>; ++j) {
            sums.data<A>()[i + j] = part.dw[k][j];
            sums.data<A>()[n + i + j] = part.db[k][j];
          }
        });
      });
      expect_close(this->wide(dx), expected, this->tolerance(), this->tolerance());
      expect_close(this->wide(sums.select(0, 0)), dw, 1e-5, 1e-5);
      expect_close(this->wide(sums.select(0, 1)), db, 1e-5, 1e-5);
    });
  }
}

}  // namespace
}  // namespace tutti::test
