#include <tutti/core/param_group.h>
#include <tutti/core/tape.h>

#include <gtest/gtest.h>

#include <numeric>

namespace tutti {
namespace {

/// y = a * b elementwise, for tests of the tape.
Var multiply(Tape& tape, const Var& a, const Var& b) {
  const auto product = [&stream = tape.stream()](const Tensor& x, const Tensor& y) {
    Tensor z = Tensor::empty(x.shape(), x.dtype(), stream);
    for (int64_t i = 0; i < x.numel(); ++i) z.data<double>()[i] = x.data<double>()[i] * y.data<double>()[i];
    return z;
  };
  return tape.record("multiply", product(a.value, b.value), {a, b},
                     [product, x = a.value, y = b.value](const Tensor& dy, const Gradients& g) {
                       if (g.needs(0)) g.add(0, product(dy, y));
                       if (g.needs(1)) g.add(1, product(dy, x));
                     });
}

/// y = a + b, whose backward passes one tensor to both inputs.
Var plus(Tape& tape, const Var& a, const Var& b) {
  Tensor y = a.value.clone(tape.stream());
  add_in_place(y, b.value, tape.stream());
  return tape.record("plus", y, {a, b}, [](const Tensor& dy, const Gradients& g) {
    g.add(0, dy);
    g.add(1, dy);
  });
}

class TapeTest : public testing::Test {
 protected:
  Tensor values(std::vector<double> v) {
    const auto n = static_cast<int64_t>(v.size());
    return Tensor::from(v, {n}, stream);
  }
  Parameter parameter(const std::string& name, std::vector<double> v) {
    Parameter p;
    p.name = name;
    p.shape = {static_cast<int64_t>(v.size())};
    p.value = values(std::move(v));
    p.grad = Tensor::full(p.shape, 99, DType::kFloat64, stream);
    return p;
  }
  static std::vector<double> read(const Tensor& t) {
    const auto s = t.span<double>();
    return {s.begin(), s.end()};
  }
  ThreadPool pool{2};
  Stream stream = Stream::inline_on(pool);
};

TEST_F(TapeTest, SharedGradientsAreNotWrittenThrough) {
  Tape tape(stream);
  const Var x = tape.variable(values({2, 3}));
  const Var z = tape.variable(values({5, 7}));
  const Var s = plus(tape, x, z);  // both receive the same dy
  const Var y = plus(tape, s, multiply(tape, x, x));
  tape.backward(y);
  EXPECT_EQ(read(tape.gradient(x)), (std::vector<double>{5, 7}));  // 1 + 2x
  EXPECT_EQ(read(tape.gradient(z)), (std::vector<double>{1, 1}));
}

TEST_F(TapeTest, ParametersOverwriteThenAccumulateAndFireOnce) {
  Parameter w = parameter("w", {2, 3});
  Parameter unused = parameter("unused", {4});
  for (int microbatch = 0; microbatch < 2; ++microbatch) {
    Tape tape(stream);
    std::vector<std::string> ready;
    tape.on_grad_ready([&](Parameter& p) { ready.push_back(p.name); });
    const Var a = tape.leaf(w);
    (void)tape.leaf(unused);
    const Var y = multiply(tape, multiply(tape, a, tape.leaf(w)), a);  // w^3
    tape.backward(y);
    EXPECT_EQ(ready, (std::vector<std::string>{"w", "unused"}));
    EXPECT_EQ(read(w.grad), (std::vector<double>{12.0 * (microbatch + 1), 27.0 * (microbatch + 1)}));
    EXPECT_EQ(read(unused.grad), (std::vector<double>{0}));
  }
}

TEST_F(TapeTest, AParameterIsReadyBeforeEarlierLayersRun) {
  Parameter first = parameter("first", {2});
  Parameter last = parameter("last", {3});
  Tape tape(stream);
  std::vector<std::string> order;
  tape.on_grad_ready([&](Parameter& p) { order.push_back(p.name); });
  Var h = multiply(tape, tape.leaf(first), tape.leaf(first));
  h = tape.on_backward(h, [&] { order.emplace_back("between"); });
  tape.backward(multiply(tape, h, tape.leaf(last)));
  EXPECT_EQ(order, (std::vector<std::string>{"last", "between", "first"}));
}

TEST_F(TapeTest, TheGradientOfAnUnreachedParameterIsZero) {
  Parameter w = parameter("w", {2});
  Tape tape(stream);
  const Var x = tape.variable(values({3}));
  (void)multiply(tape, tape.leaf(w), x);  // a branch without a path to the loss
  tape.backward(multiply(tape, x, x));
  EXPECT_EQ(read(w.grad), (std::vector<double>{0}));
  EXPECT_EQ(read(tape.gradient(x)), (std::vector<double>{6}));
}

TEST_F(TapeTest, RecomputeGivesTheSameGradients) {
  Parameter w = parameter("w", {2, -3, 0.5});
  const auto body = [&](Tape& t, std::span<const Var> in) {
    return multiply(t, multiply(t, in[0], t.leaf(w)), multiply(t, in[0], t.leaf(w)));
  };
  std::vector<double> dx[2];
  std::vector<double> dw[2];
  for (const bool again : {false, true}) {
    w.grad_defined = false;
    Tape tape(stream);
    int ready = 0;
    tape.on_grad_ready([&](Parameter&) { ++ready; });
    const Var x = tape.variable(values({1.5, 2, -4}));
    const Var in[] = {multiply(tape, x, x)};
    Parameter* const used[] = {&w};
    const Var y = again ? recompute(tape, in, used, body) : body(tape, in);
    tape.backward(multiply(tape, y, tape.leaf(w)));
    dx[again] = read(tape.gradient(x));
    dw[again] = read(w.grad);
    EXPECT_EQ(ready, 1);
  }
  EXPECT_EQ(dx[0], dx[1]);
  EXPECT_EQ(dw[0], dw[1]);
}

TEST_F(TapeTest, MisuseIsRefused) {
  Tape tape(stream);
  const Var x = tape.variable(values({1}));
  const Var y = multiply(tape, x, x);
  EXPECT_THROW(tape.backward(Var(values({1}))), Error);
  tape.backward(y);
  EXPECT_THROW(tape.backward(y), Error);
  EXPECT_THROW(multiply(tape, x, x), Error);
  EXPECT_THROW((void)tape.gradient(y), Error);
  Parameter bare;
  bare.name = "bare";
  Tape other(stream);
  EXPECT_THROW((void)other.leaf(bare), Error);
  EXPECT_THROW(multiply(other, x, x), Error);
}

TEST_F(TapeTest, GradientsOfMissingInputsAreRefused) {
  const auto refusal = [&](const Backward& backward, bool constant) -> std::string {
    Tape tape(stream);
    const Var x = constant ? Var(values({1})) : tape.variable(values({1}));
    const Var other = tape.variable(values({1}));
    const Var y = tape.record("twice", values({2}), std::vector<Var>{x, other}, backward);
    try {
      tape.backward(y);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string expected = "twice: backward requests the gradient of input 2, the op has 2 inputs";
  EXPECT_EQ(refusal([](const Tensor& dy, const Gradients& g) { g.add(2, dy); }, false), expected);
  EXPECT_EQ(refusal([](const Tensor&, const Gradients& g) { (void)g.slot(2); }, false), expected);
  EXPECT_EQ(refusal([](const Tensor&, const Gradients& g) { (void)g.needs(2); }, false), expected);
  EXPECT_EQ(refusal([](const Tensor&, const Gradients& g) { (void)g.slot(0); }, true),
            "backward: the gradient of a constant input is not needed; call needs() first");
}

TEST_F(TapeTest, InferenceRecordsNothing) {
  Parameter w = parameter("w", {2});
  Tape tape(stream, {.training = false}, Tape::Mode::kInference);
  EXPECT_FALSE(multiply(tape, tape.leaf(w), tape.leaf(w)).needs_grad());
  EXPECT_EQ(tape.size(), 0U);
}

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(RandomTest, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, EveryPartOfTheKeyMatters) {
  const RandomKey key{.seed = 1, .tensor = 2, .step = 3, .sample = 4};
  for (RandomKey other :
       {RandomKey{2, 2, 3, 4}, RandomKey{1, 3, 3, 4}, RandomKey{1, 2, 4, 4}, RandomKey{1, 2, 3, 5},
        RandomKey{1, 2, 3 + (uint64_t{1} << 32), 4}, RandomKey{1, 2, 3, 4 + (uint64_t{1} << 32)}})
    EXPECT_NE(key.words(7), other.words(7));
  EXPECT_NE(key.words(7), key.words(7 + (uint64_t{1} << 32)));
}

TEST(RandomTest, NormalHasTheRightMoments) {
  double sum = 0;
  double squares = 0;
  constexpr int kPairs = 100000;
  for (uint64_t i = 0; i < kPairs; ++i) {
    const auto w = RandomKey{.seed = 5}.words(i);
    for (const float x : normal_pair(w[0], w[1])) sum += x, squares += double{x} * x;
  }
  EXPECT_NEAR(sum / (2 * kPairs), 0, 0.01);
  EXPECT_NEAR(squares / (2 * kPairs), 1, 0.02);
}

class Layer final : public Module {
 public:
  explicit Layer(int64_t n) : weight{.shape = {n}, .init = Init::normal(0.5)} {
    register_parameter("weight", weight);
  }
  Parameter weight;

 protected:
  Var forward(Tape& tape, const Var& x) override { return multiply(tape, x, tape.leaf(weight)); }
};

class Net final : public Module {
 public:
  Net() : shared{.shape = {5}, .init = Init::constant(2)} {
    register_module("a", a);
    register_module("b", b);
    register_parameter("first", shared);
    register_parameter("second", shared);
  }
  Layer a{3}, b{70};
  Parameter shared;

 protected:
  Var forward(Tape& tape, const Var& x) override { return a(tape, x); }
};

TEST(ModuleTest, NamesPathsAndSharedParameters) {
  Net net;
  net.name_parameters();
  std::vector<std::string> names;
  for (const Parameter* p : net.parameters()) names.push_back(p->name);
  EXPECT_EQ(names, (std::vector<std::string>{"first", "a.weight", "b.weight"}));
  EXPECT_EQ(net.modules().size(), 3U);
  EXPECT_EQ(net.b.path(), "b");
}

TEST(ModuleTest, HooksFireInOrder) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  Net net;
  net.name_parameters();
  const auto groups =
      make_param_groups(net, {.precision = {DType::kFloat64, DType::kFloat64, DType::kFloat64}}, stream);
  std::string log;
  const auto note = [&](char c) { return [&log, c](Module&) { log += c; }; };
  net.a.add_hooks({note('f'), note('g'), note('b'), note('c')});
  Tape tape(stream);
  const Var x = tape.variable(Tensor::full({3}, 1, DType::kFloat64, stream));
  tape.backward(net(tape, x));
  EXPECT_EQ(log, "fgbc");
}

TEST(ParamGroupTest, LayoutAndPrecision) {
  ThreadPool pool(2);
  const Stream stream = Stream::inline_on(pool);
  const auto first_values = [&](const GroupOptions& options) {
    Net net;
    net.name_parameters();
    const auto groups = make_param_groups(net, options, stream);
    std::vector<float> v;
    for (const Parameter* p : net.parameters()) {
      const Tensor t = p->value.to(DType::kFloat32, stream);
      v.insert(v.end(), t.data<float>(), t.data<float>() + t.numel());
    }
    return v;
  };
  const auto one = first_values({.seed = 3});
  EXPECT_EQ(one, first_values({.seed = 3, .bucket_bytes = 1}));  // values do not depend on the grouping
  EXPECT_NE(one, first_values({.seed = 4}));
  EXPECT_EQ(one.size(), 78U);

  Net net;
  net.name_parameters();
  const GroupOptions sharded{.precision = {.compute = DType::kBFloat16},
                             .placement = {.state = Sharding::kSharded},
                             .shard = {1, 3},
                             .seed = 3};
  const auto groups = make_param_groups(net, sharded, stream);
  ASSERT_EQ(groups.size(), 1U);
  const ParamGroup& g = *groups[0];
  EXPECT_EQ(g.size() % (3 * ParamGroup::kAlignment), 0);
  EXPECT_EQ(g.state_end() - g.state_begin(), g.size() / 3);
  EXPECT_EQ(g.master().dtype(), DType::kFloat32);
  EXPECT_EQ(g.weights().dtype(), DType::kBFloat16);
  for (int64_t i = 0; i < g.master().numel(); ++i) {
    EXPECT_EQ(float(g.weights().data<BFloat16>()[g.state_begin() + i]),
              float(BFloat16(g.master().data<float>()[i])));
  }
}

}  // namespace
}  // namespace tutti
