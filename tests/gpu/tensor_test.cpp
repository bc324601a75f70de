#include "tests/gpu/on_both.h"

#include <tutti/core/memory/owner.h>

namespace tutti::test {
namespace {

class GpuTensor : public GpuTest {};

constexpr DType kAll[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64,
                          DType::kInt32,   DType::kInt64,    DType::kUInt8};

TEST_F(GpuTensor, RoundTripInEveryDtype) {
  for (const DType dtype : kAll) {
    for (const Shape& shape : {Shape{}, Shape{0, 3}, Shape{7, 1001}, Shape{3, extent(1 << 20, 5000)}}) {
      const Tensor x = random.integers(shape, 0, 100, dtype);
      poison(x.bytes());
      expect_same_bits(x.to(dtype, gpu()).to(dtype, stream()), x, fmt::format("{}", name(dtype)));
    }
  }
}

TEST_F(GpuTensor, StridesAndConversions) {
  const Tensor x = random.integers({6, 5, 4, 3}, 0, 100, DType::kFloat32);
  const Tensor on_device = x.to(DType::kFloat32, gpu());
  for (const DType dtype : kAll) {
    const Tensor wanted = x.permute({2, 0, 3, 1}).slice(1, 1, 6, 2).to(dtype, stream());
    expect_same_bits(on_device.permute({2, 0, 3, 1}).slice(1, 1, 6, 2).to(dtype, gpu()).to(dtype, stream()),
                     wanted);
    // Into a strided destination, from the same device and from the CPU.
    Tensor out = Tensor::zeros({4, 6, 3, 10}, dtype, gpu());
    copy(out.slice(3, 1, 10, 2).slice(1, 0, 6, 2), on_device.permute({2, 0, 3, 1}).slice(1, 1, 6, 2), gpu());
    Tensor across = Tensor::zeros({4, 6, 3, 10}, dtype, gpu());
    copy(across.slice(3, 1, 10, 2).slice(1, 0, 6, 2), x.permute({2, 0, 3, 1}).slice(1, 1, 6, 2), gpu());
    Tensor expected = Tensor::zeros({4, 6, 3, 10}, dtype, stream());
    copy(expected.slice(3, 1, 10, 2).slice(1, 0, 6, 2), wanted, stream());
    expect_same_bits(out.to(dtype, stream()), expected);
    expect_same_bits(across.to(dtype, stream()), expected);
  }
}

TEST_F(GpuTensor, FillAddAndItem) {
  for (const DType dtype : kAll) {
    const Tensor x = Tensor::full({5, 9}, 3, dtype, gpu());
    fill(x.slice(1, 1, 9, 2), 0, gpu());
    fill(x.slice(1, 0, 9, 4), 7, gpu());
    EXPECT_EQ(to_doubles(x.select(0, 4).to(dtype, stream())),
              (std::vector<double>{7, 0, 3, 0, 7, 0, 3, 0, 7}));
    EXPECT_EQ(x.select(0, 2).select(0, 8).item(), 7);
  }
  for (const DType to : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
    for (const DType from : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
      for (const Shape& shape : {Shape{1003}, Shape{33, 12}}) {
        const Tensor a = random.normal(shape).to(to, stream());
        const Tensor b = random.normal(shape).to(from, stream());
        const Tensor on_device = a.to(to, gpu());
        add_in_place(on_device, b.to(from, gpu()), gpu());
        add_in_place(a, b, stream());
        expect_same_bits(on_device.to(to, stream()), a);
      }
    }
  }
}

TEST_F(GpuTensor, PinnedCopiesAreAsynchronous) {
  const Tensor host = Tensor::empty_pinned({1 << 16}, DType::kFloat32, gpu());
  for (float& v : host.span<float>()) v = 3;
  const Tensor on_device = Tensor::empty({1 << 16}, DType::kFloat32, gpu());
  copy(on_device, host, gpu());
  const Tensor back = Tensor::empty_pinned({1 << 16}, DType::kFloat32, gpu());
  copy(back, on_device, gpu());
  gpu().synchronize();
  for (const float v : back.span<float>()) ASSERT_EQ(v, 3);
}

TEST_F(GpuTensor, BlocksInUseByAnotherStreamAreNotReused) {
  const Stream other = Stream::cuda(0, Stream::Priority::kHigh);
  const int64_t n = extent(1 << 22, 1 << 14);
  const Tensor kept = Tensor::empty({n}, DType::kFloat32, other);
  for (int round = 0; round < 20; ++round) {
    Tensor x = Tensor::full({n}, round, DType::kFloat32, gpu());
    other.wait(gpu().record());
    for (int i = 0; i < 4; ++i) copy(kept, x, other);
    x = Tensor();  // gpu() may reuse its memory only after the copies of `other`
    const Tensor next = Tensor::full({n}, -1, DType::kFloat32, gpu());
    other.synchronize();
    const Tensor seen = kept.to(DType::kFloat32, stream());
    for (const float v : seen.span<float>()) ASSERT_EQ(v, static_cast<float>(round));
  }
}

TEST_F(GpuTensor, OutOfMemoryNamesTheOwner) {
  const MemoryOwner owner("a tensor that is too large");
  const auto elements = cuda::device_info(0).memory_bytes;
  try {
    const Tensor x = Tensor::empty({elements}, DType::kFloat32, gpu());
    FAIL() << "allocated four times the memory of the device";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("requested by 'a tensor that is too large'"), std::string::npos)
        << e.what();
  }
  EXPECT_EQ(Tensor::full({3}, 2, DType::kFloat32, gpu()).select(0, 1).item(), 2);
}

}  // namespace
}  // namespace tutti::test
