#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/memory/memory_stats.h>
#include <tutti/core/stream.h>

#include <boost/container/static_vector.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

struct MemoryBlock;  // of a caching allocator

inline constexpr int kMaxDims = 8;

/// Sizes or strides, outermost dim first; at most kMaxDims.
using Shape = boost::container::static_vector<int64_t, kMaxDims>;

/// "(2, 3, 4)".
std::string to_string(const Shape& shape);

/// Product of the sizes; 1 for the empty shape. Throws Error on a negative size or overflow.
int64_t numel(const Shape& shape);

/// Row-major strides, in elements.
Shape contiguous_strides(const Shape& shape);

/// The shape that a and b broadcast to, aligned at the last dim. Throws Error naming `op` when they do not.
Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b);

/// A reference-counted block of device memory, from the caching allocator of the stream's device or borrowed
/// from `owner` (a mapped file, a buffer of another library).
class Storage {
 public:
  static std::shared_ptr<Storage> allocate(int64_t bytes, const Stream& stream);
  /// Page-locked host memory for copies from and to the device of a CUDA stream.
  static std::shared_ptr<Storage> allocate_pinned(int64_t bytes, const Stream& stream);
  static std::shared_ptr<Storage> borrow(void* data, int64_t bytes, std::shared_ptr<void> owner);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] int64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const Device& device() const noexcept { return device_; }
  [[nodiscard]] bool pinned() const noexcept { return block_ != nullptr && device_.type == DeviceType::kCpu; }
  /// The CUDA stream that the memory was allocated for; null for host memory that is not pinned.
  [[nodiscard]] const Stream* allocation_stream() const noexcept {
    return streams_.empty() ? nullptr : streams_.data();
  }
  /// Records that work enqueued on `stream` so far uses the memory: it is not reused before that work is
  /// done. Must be called whenever work on it is enqueued on a stream other than allocation_stream(). Has no
  /// effect for host memory that is not pinned.
  void record_use(const Stream& stream);

 private:
  Storage() = default;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  Device device_;
  std::shared_ptr<void> owner_;
  MemoryBlock* block_ = nullptr;  // from the CUDA allocators
  std::vector<Stream> streams_;   // that use it, the allocation stream first: kept until the block is freed
};

/// A strided view of counted storage: dtype, device, sizes and strides, no autograd state. Copies share the
/// storage. Strides count elements and may be 0 (broadcast); they are never negative.
class Tensor {
 public:
  /// An undefined tensor: no storage, `defined()` is false.
  Tensor() = default;

  /// Uninitialised memory, row-major.
  static Tensor empty(const Shape& shape, DType dtype, const Stream& stream);
  static Tensor zeros(const Shape& shape, DType dtype, const Stream& stream);
  static Tensor full(const Shape& shape, double value, DType dtype, const Stream& stream);
  /// Uninitialised page-locked host memory: copies between it and the device of the CUDA stream do not block
  /// the host.
  static Tensor empty_pinned(const Shape& shape, DType dtype, const Stream& stream);
  /// Copies `values` (row-major, as many as the shape has elements).
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, const Stream& stream) {
    require(static_cast<int64_t>(values.size()) == tutti::numel(shape),
            "Tensor::from: {} values for shape {}", values.size(), to_string(shape));
    Tensor result = empty(shape, dtype_of<T>(), stream);
    result.upload(values.data(), stream);
    return result;
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, const Stream& stream) {
    return from(std::span<const T>(values), shape, stream);
  }
  /// A row-major view of memory that `owner` keeps alive.
  static Tensor borrow(void* data, const Shape& shape, DType dtype, std::shared_ptr<void> owner);

  [[nodiscard]] bool defined() const noexcept { return storage_ != nullptr; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] const Shape& strides() const noexcept { return strides_; }
  [[nodiscard]] int dims() const noexcept { return static_cast<int>(shape_.size()); }
  /// Size of a dim; negative counts from the last.
  [[nodiscard]] int64_t size(int dim) const;
  [[nodiscard]] int64_t stride(int dim) const;
  [[nodiscard]] int64_t numel() const noexcept { return numel_; }
  [[nodiscard]] int64_t bytes() const noexcept { return numel_ * size_of(dtype_); }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const Device& device() const { return storage_->device(); }
  [[nodiscard]] bool contiguous() const noexcept;
  /// True if no other tensor shares the storage.
  [[nodiscard]] bool unique() const noexcept { return storage_.use_count() == 1; }
  /// Storage::record_use.
  void record_use(const Stream& stream) const { storage_->record_use(stream); }
  [[nodiscard]] const Storage& storage() const noexcept { return *storage_; }
  [[nodiscard]] bool shares_storage_with(const Tensor& other) const noexcept {
    return storage_ == other.storage_;
  }

  /// First element; throws Error if T is not this tensor's dtype.
  template <class T>
  [[nodiscard]] T* data() const {
    require(dtype_of<T>() == dtype_, "Tensor::data: {} requested of a tensor of {}", name(dtype_of<T>()),
            name(dtype_));
    return static_cast<T*>(raw());
  }
  [[nodiscard]] void* raw() const noexcept {
    return storage_ ? static_cast<void*>(storage_->data() + offset_ * size_of(dtype_)) : nullptr;
  }
  /// The elements of a contiguous tensor.
  template <class T>
  [[nodiscard]] std::span<T> span() const {
    require(contiguous(), "Tensor::span: the tensor of shape {} is not contiguous", to_string(shape_));
    require(device().type == DeviceType::kCpu, "Tensor::span: the tensor is on {}", name(device()));
    return {data<T>(), static_cast<size_t>(numel_)};
  }
  /// The value of a one-element tensor as double. On CUDA it waits for the work on the stream that the tensor
  /// was allocated for.
  [[nodiscard]] double item() const;

  // Views: share storage, no copy. One size of `view` may be -1. Throw Error when no view exists.
  [[nodiscard]] Tensor view(const Shape& shape) const;
  [[nodiscard]] Tensor transpose(int a, int b) const;
  [[nodiscard]] Tensor permute(const Shape& order) const;
  /// Elements [begin, end) of a dim with a step >= 1.
  [[nodiscard]] Tensor slice(int dim, int64_t begin, int64_t end, int64_t step = 1) const;
  /// Removes `dim`, fixed at `index`.
  [[nodiscard]] Tensor select(int dim, int64_t index) const;
  [[nodiscard]] Tensor unsqueeze(int dim) const;
  [[nodiscard]] Tensor squeeze(int dim) const;
  /// Broadcasts to `shape` with strides of 0.
  [[nodiscard]] Tensor expand(const Shape& shape) const;

  // Copies.
  [[nodiscard]] Tensor clone(const Stream& stream) const;
  /// This tensor if it is contiguous, else a row-major copy.
  [[nodiscard]] Tensor to_contiguous(const Stream& stream) const;
  /// This tensor if it has the dtype and is on the stream's device, else a converted row-major copy there.
  [[nodiscard]] Tensor to(DType dtype, const Stream& stream) const;
  /// This tensor if it is on the CPU, else a row-major copy there, complete on return.
  [[nodiscard]] Tensor on_host() const;

 private:
  void upload(const void* values, const Stream& stream) const;
  Tensor as_strided(const Shape& shape, const Shape& strides, int64_t offset) const;
  [[nodiscard]] int normalise_dim(int dim, std::string_view op) const;

  std::shared_ptr<Storage> storage_;
  Shape shape_, strides_;
  int64_t offset_ = 0;  // elements
  int64_t numel_ = 0;
  DType dtype_ = DType::kFloat32;
};

// The elementwise operations that storage, tape and parameters need; the others are in kernels.

/// Sets every element; the value is converted to the dtype.
void fill(const Tensor& destination, double value, const Stream& stream);
/// Copies with conversion of dtype; shapes must be equal, strides may be any. Between the CPU and a CUDA
/// device the copy is asynchronous if the host memory is pinned, and blocks if it reads from the device into
/// other memory. With a stream of the CPU, the work is enqueued on the stream that the device tensor was
/// allocated for.
void copy(const Tensor& destination, const Tensor& source, const Stream& stream);
/// destination += source, summed in fp32 (fp64 for fp64), for floating dtypes that may differ. Shapes must be
/// equal.
void add_in_place(const Tensor& destination, const Tensor& source, const Stream& stream);

/// Statistics of the CPU allocator of this process.
MemoryStats cpu_memory_stats();
/// Statistics of the allocator of a device.
MemoryStats memory_stats(const Device& device);
/// Returns cached blocks to the system.
void release_cached_cpu_memory();

}  // namespace tutti
