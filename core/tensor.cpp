#include <tutti/core/tensor.h>

#include <cstring>
#include <limits>

namespace tutti {

std::string to_string(const Shape& shape) {
  return fmt::format("({}{})", fmt::join(shape.begin(), shape.end(), ", "), shape.size() == 1 ? "," : "");
}

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) {
    require(size >= 0, "shape {} has a negative size", to_string(shape));
    require(!__builtin_mul_overflow(n, size, &n), "shape {} has more than 2^63 elements", to_string(shape));
  }
  return n;
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b) {
  const size_t dims = std::max(a.size(), b.size());
  Shape result(dims);
  for (size_t i = 0; i < dims; ++i) {
    const int64_t x = i < dims - a.size() ? 1 : a[i - (dims - a.size())];
    const int64_t y = i < dims - b.size() ? 1 : b[i - (dims - b.size())];
    require(x == y || x == 1 || y == 1, "{}: shapes {} and {} do not broadcast", op, to_string(a),
            to_string(b));
    result[i] = x == 1 ? y : x;
  }
  return result;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, const Stream& stream) {
  Tensor t;
  t.numel_ = tutti::numel(shape);
  require(t.numel_ <= std::numeric_limits<int64_t>::max() / size_of(dtype), "shape {} is too large",
          to_string(shape));
  t.storage_ = Storage::allocate(t.numel_ * size_of(dtype), stream);
  t.shape_ = shape;
  t.strides_ = contiguous_strides(shape);
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::empty_pinned(const Shape& shape, DType dtype, const Stream& stream) {
  Tensor t;
  t.numel_ = tutti::numel(shape);
  t.storage_ = Storage::allocate_pinned(t.numel_ * size_of(dtype), stream);
  t.shape_ = shape;
  t.strides_ = contiguous_strides(shape);
  t.dtype_ = dtype;
  return t;
}

void Tensor::upload(const void* values, const Stream& stream) const {
  if (device().type == DeviceType::kCpu) {
    if (numel_ > 0) std::memcpy(raw(), values, static_cast<size_t>(bytes()));
  } else {
    // Any owner is sufficient: a copy from memory that is not pinned is complete on return.
    copy(*this, borrow(const_cast<void*>(values), shape_, dtype_, std::make_shared<int>(0)), stream);
  }
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, const Stream& stream) {
  return full(shape, 0, dtype, stream);
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, const Stream& stream) {
  Tensor t = empty(shape, dtype, stream);
  fill(t, value, stream);
  return t;
}

Tensor Tensor::borrow(void* data, const Shape& shape, DType dtype, std::shared_ptr<void> owner) {
  Tensor t;
  t.numel_ = tutti::numel(shape);
  t.storage_ = Storage::borrow(data, t.numel_ * size_of(dtype), std::move(owner));
  t.shape_ = shape;
  t.strides_ = contiguous_strides(shape);
  t.dtype_ = dtype;
  return t;
}

int Tensor::normalise_dim(int dim, std::string_view op) const {
  const int d = dim < 0 ? dim + dims() : dim;
  require(d >= 0 && d < dims(), "{}: dim {} of a tensor of shape {}", op, dim, to_string(shape_));
  return d;
}

int64_t Tensor::size(int dim) const {
  return shape_[static_cast<size_t>(normalise_dim(dim, "Tensor::size"))];
}

int64_t Tensor::stride(int dim) const {
  return strides_[static_cast<size_t>(normalise_dim(dim, "Tensor::stride"))];
}

bool Tensor::contiguous() const noexcept {
  int64_t expected = 1;
  for (size_t i = shape_.size(); i-- > 0;) {
    if (shape_[i] != 1 && strides_[i] != expected) return numel_ == 0;
    expected *= shape_[i];
  }
  return true;
}

double Tensor::item() const {
  require(numel_ == 1, "Tensor::item: shape {} has {} elements", to_string(shape_), numel_);
  if (device().type == DeviceType::kCuda) {
    const Stream& stream = *storage_->allocation_stream();
    const Tensor host = empty_pinned(shape_, dtype_, stream);
    copy(host, *this, stream);
    stream.synchronize();
    return host.item();
  }
  return dispatch_all(dtype_, [&]<class T>(TypeTag<T>) { return static_cast<double>(*data<T>()); });
}

Tensor Tensor::as_strided(const Shape& shape, const Shape& strides, int64_t offset) const {
  Tensor t = *this;
  t.shape_ = shape;
  t.strides_ = strides;
  t.offset_ = offset;
  t.numel_ = tutti::numel(shape);
  return t;
}

Tensor Tensor::view(const Shape& wanted) const {
  Shape shape = wanted;
  int64_t known = 1;
  int free = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1) {
      require(free < 0, "Tensor::view: more than one -1 in {}", to_string(wanted));
      free = static_cast<int>(i);
    } else {
      known *= shape[i];
    }
  }
  if (free >= 0) {
    require(known > 0 && numel_ % known == 0, "Tensor::view: {} does not fit {} elements", to_string(wanted),
            numel_);
    shape[static_cast<size_t>(free)] = numel_ / known;
  }
  require(tutti::numel(shape) == numel_, "Tensor::view: {} does not fit a tensor of shape {}",
          to_string(wanted), to_string(shape_));
  if (numel_ == 0 || contiguous()) return as_strided(shape, contiguous_strides(shape), offset_);

  // Each run of old dims that is contiguous in memory may be split again; walk both shapes from the last dim.
  Shape strides(shape.size());
  size_t to = shape.size();
  size_t from = shape_.size();
  while (from > 0) {
    int64_t chunk = shape_[from - 1];
    const int64_t base = strides_[from - 1];
    --from;
    while (from > 0 && (shape_[from - 1] == 1 || strides_[from - 1] == base * chunk)) chunk *= shape_[--from];
    int64_t made = 1;
    while (to > 0 && (made < chunk || shape[to - 1] == 1)) {
      strides[to - 1] = base * made;
      made *= shape[--to];
    }
    require(made == chunk, "Tensor::view: shape {} with strides {} cannot be viewed as {} without a copy",
            to_string(shape_), to_string(strides_), to_string(wanted));
  }
  while (to > 0) strides[--to] = 1;
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::transpose(int a, int b) const {
  Shape shape = shape_;
  Shape strides = strides_;
  const auto i = static_cast<size_t>(normalise_dim(a, "Tensor::transpose"));
  const auto j = static_cast<size_t>(normalise_dim(b, "Tensor::transpose"));
  std::swap(shape[i], shape[j]);
  std::swap(strides[i], strides[j]);
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::permute(const Shape& order) const {
  require(order.size() == shape_.size(), "Tensor::permute: order {} for shape {}", to_string(order),
          to_string(shape_));
  Shape shape;
  Shape strides;
  unsigned seen = 0;
  for (const int64_t dim : order) {
    const int d = normalise_dim(static_cast<int>(dim), "Tensor::permute");
    require((seen & (1U << d)) == 0, "Tensor::permute: duplicate dim {} in {}", d, to_string(order));
    seen |= 1U << d;
    shape.push_back(shape_[static_cast<size_t>(d)]);
    strides.push_back(strides_[static_cast<size_t>(d)]);
  }
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::slice(int dim, int64_t begin, int64_t end, int64_t step) const {
  const auto d = static_cast<size_t>(normalise_dim(dim, "Tensor::slice"));
  require(step >= 1 && 0 <= begin && begin <= end && end <= shape_[d],
          "Tensor::slice: [{}, {}) step {} of dim {} in shape {}", begin, end, step, dim, to_string(shape_));
  Shape shape = shape_;
  Shape strides = strides_;
  shape[d] = (end - begin + step - 1) / step;
  strides[d] *= step;
  return as_strided(shape, strides, offset_ + begin * strides_[d]);
}

Tensor Tensor::select(int dim, int64_t index) const {
  const int d = normalise_dim(dim, "Tensor::select");
  return slice(d, index, index + 1).squeeze(d);
}

Tensor Tensor::unsqueeze(int dim) const {
  const int d = dim < 0 ? dim + dims() + 1 : dim;
  require(d >= 0 && d <= dims() && dims() < kMaxDims, "Tensor::unsqueeze: dim {} of shape {}", dim,
          to_string(shape_));
  Shape shape = shape_;
  Shape strides = strides_;
  const int64_t stride = d < dims() ? shape_[static_cast<size_t>(d)] * strides_[static_cast<size_t>(d)] : 1;
  shape.insert(shape.begin() + d, 1);
  strides.insert(strides.begin() + d, stride);
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::squeeze(int dim) const {
  const int d = normalise_dim(dim, "Tensor::squeeze");
  require(shape_[static_cast<size_t>(d)] == 1, "Tensor::squeeze: dim {} of shape {} is not 1", dim,
          to_string(shape_));
  Shape shape = shape_;
  Shape strides = strides_;
  shape.erase(shape.begin() + d);
  strides.erase(strides.begin() + d);
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::expand(const Shape& shape) const {
  const Shape target = broadcast_shape("Tensor::expand", shape_, shape);
  require(target == shape, "Tensor::expand: shape {} does not expand to {}", to_string(shape_),
          to_string(shape));
  Shape strides(shape.size(), 0);
  const size_t lead = shape.size() - shape_.size();
  for (size_t i = 0; i < shape_.size(); ++i) strides[lead + i] = shape_[i] == 1 ? 0 : strides_[i];
  return as_strided(shape, strides, offset_);
}

Tensor Tensor::clone(const Stream& stream) const {
  Tensor t = empty(shape_, dtype_, stream);
  copy(t, *this, stream);
  return t;
}

Tensor Tensor::to_contiguous(const Stream& stream) const {
  return contiguous() ? *this : clone(stream);
}

Tensor Tensor::to(DType dtype, const Stream& stream) const {
  if (dtype == dtype_ && device() == stream.device()) return *this;
  Tensor t = empty(shape_, dtype, stream);
  copy(t, *this, stream);
  return t;
}

Tensor Tensor::on_host() const {
  if (device().type == DeviceType::kCpu) return *this;
  ThreadPool one_thread(1);
  const Stream host = Stream::inline_on(one_thread);
  return to(dtype_, host);
}

}  // namespace tutti
