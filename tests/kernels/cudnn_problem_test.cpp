// Descriptions of convolutions and attention for cuDNN, tested without cuDNN.
#include "kernels/plan/cudnn_problem.h"

#include "tests/kernels/gradcheck.h"

#include <set>

namespace tutti {
namespace {

class CudnnProblemTest : public test::RandomTest {};

TEST_F(CudnnProblemTest, EveryFieldIsInTheKey) {
  std::set<std::string> keys;
  const auto distinct = [&](const CudnnProblem& problem) {
    EXPECT_TRUE(keys.insert(key(problem)).second) << key(problem);
  };
  const ConvProblem conv{
      .shape = {.n = 1, .h = 2, .w = 3, .c = 4, .o = 5, .oh = 6, .ow = 7, .kh = 8, .kw = 9}};
  distinct(conv);
  for (int64_t ConvShape::*field :
       {&ConvShape::n, &ConvShape::h, &ConvShape::w, &ConvShape::c, &ConvShape::o, &ConvShape::oh,
        &ConvShape::ow, &ConvShape::kh, &ConvShape::kw, &ConvShape::groups}) {
    ConvProblem other = conv;
    other.shape.*field = 77;
    distinct(other);
  }
  for (std::array<int64_t, 2> ConvShape::*field :
       {&ConvShape::stride, &ConvShape::padding, &ConvShape::dilation}) {
    for (const size_t i : {0, 1}) {
      ConvProblem other = conv;
      (other.shape.*field)[i] = 77;
      distinct(other);
    }
  }
  ConvProblem other = conv;
  other.shape.dtype = DType::kBFloat16;
  distinct(other);
  other = conv;
  other.weights = DType::kBFloat16;
  distinct(other);
  for (const ConvPass pass : {ConvPass::kData, ConvPass::kWeights}) {
    other = conv;
    other.pass = pass;
    distinct(other);
  }

  const AttentionProblem attention{.batch = 1, .positions = 2, .heads = 3, .kv_heads = 4, .head_dim = 5};
  distinct(attention);
  for (int64_t AttentionProblem::*field :
       {&AttentionProblem::batch, &AttentionProblem::positions, &AttentionProblem::heads,
        &AttentionProblem::kv_heads, &AttentionProblem::head_dim}) {
    AttentionProblem changed = attention;
    changed.*field = 77;
    distinct(changed);
  }
  for (bool AttentionProblem::*field : {&AttentionProblem::causal, &AttentionProblem::backward,
                                        &AttentionProblem::saves, &AttentionProblem::deterministic}) {
    AttentionProblem changed = attention;
    changed.*field = !(changed.*field);
    distinct(changed);
  }
  AttentionProblem changed = attention;
  changed.scale = std::nextafter(1.0, 2.0);
  distinct(changed);
}

// An index of cuDNN's layout addresses the same element as in the op.
TEST_F(CudnnProblemTest, LayoutsAddressTheRightElements) {
  const auto at = [](const CudnnLayout& layout, const std::array<int64_t, 4>& index) {
    int64_t element = 0;
    for (size_t d = 0; d < 4; ++d) element += index[d] * layout.strides[d];
    return element;
  };
  for (int round = 0; round < 50; ++round) {
    const int64_t n = random.integer(1, 5);
    const int64_t h = random.integer(1, 5);
    const int64_t w = random.integer(1, 5);
    const int64_t c = random.integer(1, 5);
    const int64_t i = random.integer(0, n - 1);
    const int64_t y = random.integer(0, h - 1);
    const int64_t x = random.integer(0, w - 1);
    const int64_t channel = random.integer(0, c - 1);
    EXPECT_EQ(at(image_layout(n, h, w, c), {i, channel, y, x}), ((i * h + y) * w + x) * c + channel);
    EXPECT_EQ(image_layout(n, h, w, c).sizes, (std::vector<int64_t>{n, c, h, w}));

    const AttentionProblem p{.batch = n, .positions = h, .heads = w, .kv_heads = 1, .head_dim = c};
    EXPECT_EQ(p.width(), (w + 2) * c);
    EXPECT_EQ(at(head_layout(p, p.heads, p.width()), {i, x, y, channel}),
              (i * h + y) * p.width() + x * c + channel);
    EXPECT_EQ(head_layout(p, p.heads, p.width()).sizes, (std::vector<int64_t>{n, w, h, c}));
  }
}

}  // namespace
}  // namespace tutti
