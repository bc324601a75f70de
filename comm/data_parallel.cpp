#include <tutti/comm/data_parallel.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

namespace tutti {
namespace {

bool is_power_of_two(int64_t n) {
  return n > 0 && std::has_single_bit(static_cast<uint64_t>(n));
}

/// A 64-bit hash to compare weights; not cryptographic.
uint64_t hash_bytes(const Tensor& anywhere) {
  const Tensor t = anywhere.on_host();
  const auto* data = static_cast<const std::byte*>(t.raw());
  const int64_t bytes = t.bytes();
  uint64_t h = 0x9E3779B97F4A7C15ULL ^ static_cast<uint64_t>(bytes);
  for (int64_t at = 0; at < bytes; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, data + at, static_cast<size_t>(std::min<int64_t>(8, bytes - at)));
    h = std::rotl((h ^ word) * 0xBF58476D1CE4E5B9ULL, 29);
  }
  return h;
}

/// Sums rows in the tree of Reduce; empties `rows`.
std::vector<double> tree_sum(std::vector<std::vector<double>> rows) {
  for (size_t distance = 1; distance < rows.size(); distance *= 2) {
    for (size_t i = 0; i + distance < rows.size(); i += 2 * distance) {
      for (size_t k = 0; k < rows[i].size(); ++k) rows[i][k] += rows[i + distance][k];
    }
  }
  return std::move(rows.front());
}

}  // namespace

void DataParallelConfig::describe(Fields& f) {
  constexpr double kMostShards = 4096;
  f.choice("mode", mode, {"auto", "ordered", "fast"},
           "ordered: the same bits for 1, 2, 4, ... ranks; fast: one pass per rank, the result depends on "
           "their number; auto: ordered on CPUs, fast on GPUs");
  f.value("logical_shards", logical_shards,
          "ordered mode: parts of the batch, a power of two; at least the number of ranks",
          between(1, kMostShards));
  f.check(is_power_of_two(logical_shards), "logical_shards", "must be a power of two");
  f.value("reduce_dtype", reduce_dtype,
          "fast mode: dtype in which ranks add gradients; null: that of the gradients");
  f.check(!reduce_dtype || mode != "ordered", "reduce_dtype",
          "is for fast mode; ordered mode adds in the gradients' dtype");
  f.check(!reduce_dtype || is_floating(*reduce_dtype), "reduce_dtype", "must be floating");
}

void DataParallelConfig::resolve_mode(DeviceType device) {
  if (mode == "auto") mode = device == DeviceType::kCpu ? "ordered" : "fast";
}

AlgorithmSelection DataParallelConfig::algorithm_selection() const {
  return mode == "ordered" ? AlgorithmSelection::kHeuristic : AlgorithmSelection::kAutotuned;
}

DataParallel::DataParallel(Collective& world, std::span<const std::unique_ptr<ParamGroup>> groups,
                           const DataParallelConfig& config, const Stream& compute,
                           std::unique_ptr<Collective> data)
    : config_(config),
      compute_(compute),
      host_pool_(std::make_unique<ThreadPool>(1)),
      host_(Stream::inline_on(*host_pool_)),
      data_(data != nullptr ? std::move(data) : world.split(0, world.rank())),
      control_(world.split(0, world.rank())),
      peers_(*control_),
      stream_(data_->communication_stream(compute)) {
  check_settings(config_, "parallel");
  require(data_->rank() == world.rank() && data_->size() == world.size(),
          "data parallelism: the gradient collective has {} ranks, the world has {}", data_->size(),
          world.size());
  require(data_->supports(compute.device().type),
          "data parallelism: the gradient collective does not support {}", name(compute.device()));
  const int64_t n = world.size();
  const int64_t v = config_.logical_shards;
  config_.resolve_mode(compute.device().type);
  require(config_.mode == "ordered" || config_.mode == "fast",
          "data parallelism: mode is '{}', not auto, ordered or fast", config_.mode);
  require(compute.device().type == DeviceType::kCpu || config_.mode != "ordered" ||
              compute.algorithm_selection() == AlgorithmSelection::kHeuristic,
          "data parallelism: ordered mode needs a compute stream whose algorithm selection is kHeuristic");
  if (config_.mode == "ordered") {
    require(is_power_of_two(v), "data parallelism: logical_shards is {}, not a power of two", v);
    if (n > v) {  // the same on every rank
      throw AgreedError(
          fmt::format("parallel.logical_shards is {}, but there are {} ranks; set it to {} or more, or "
                      "parallel.mode to fast",
                      v, n, std::bit_ceil(static_cast<uint64_t>(n))));
    }
    require(!config_.reduce_dtype, "data parallelism: reduce_dtype is for fast mode");
    first_shard_ = static_cast<size_t>(world.rank() * v / n);
    local_shards_ = static_cast<size_t>((world.rank() + 1) * v / n) - first_shard_;
  } else {
    first_shard_ = static_cast<size_t>(world.rank());
  }
  for (const auto& group : groups) {
    for (const Parameter* parameter : group->parameters()) bucket_of_[parameter] = buckets_.size();
    buckets_.push_back({.group = group.get(), .total = group->grads()});
  }
  check_equal_weights();
  if (n > 1) place_gradients();
}

DataParallel::~DataParallel() = default;

void DataParallel::place_gradients() {
  const auto travels_in = [&](const Bucket& b) { return config_.reduce_dtype.value_or(b.total.dtype()); };
  std::vector<DType> dtypes;
  for (const Bucket& b : buckets_) {
    if (std::find(dtypes.begin(), dtypes.end(), travels_in(b)) == dtypes.end())
      dtypes.push_back(travels_in(b));
  }
  for (const DType dtype : dtypes) {
    // One allocation for all groups of a dtype: each allocation is a window of shared memory.
    int64_t total = 0;
    for (const Bucket& b : buckets_) total += travels_in(b) == dtype ? b.group->size() : 0;
    const Tensor flat = data_->allocate({total}, dtype, compute_);
    fill(flat, 0, compute_);
    int64_t at = 0;
    for (Bucket& b : buckets_) {
      if (travels_in(b) != dtype) continue;
      const Tensor part = flat.slice(0, at, at + b.group->size());
      at += b.group->size();
      if (b.total.dtype() != dtype) {
        b.reduced = part;
      } else {
        b.total = part;
        b.group->bind_grads(part);
      }
    }
  }
}

void DataParallel::check_equal_weights() {
  std::string mine;
  for (const Bucket& b : buckets_) {
    mine += fmt::format("{:016x}", hash_bytes(b.group->weights()));
  }
  const std::vector<std::string> all = peers_.all_gather(mine);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    require(all[rank].size() == all[0].size(),
            "data parallelism: rank {} has {} parameter groups, rank 0 has {}: the models differ", rank,
            all[rank].size() / 16, all[0].size() / 16);
  }
  for (size_t g = 0; g < buckets_.size(); ++g) {
    for (size_t rank = 1; rank < all.size(); ++rank) {
      const ParamGroup& group = *buckets_[g].group;
      require(all[rank].compare(16 * g, 16, all[0], 16 * g, 16) == 0,
              "data parallelism: the weights of group '{}' ('{}' to '{}') on rank {} differ from rank 0's",
              group.name(), group.parameters().front()->name, group.parameters().back()->name, rank);
    }
  }
}

bool DataParallel::exact() const noexcept {
  return config_.mode == "ordered" && is_power_of_two(data_->size());
}

std::vector<Parallel::Shard> DataParallel::shards(int64_t samples) const {
  const int64_t count = config_.mode == "ordered" ? config_.logical_shards : data_->size();
  std::vector<Shard> local;
  for (size_t i = first_shard_; i < first_shard_ + local_shards_; ++i) {
    const auto shard = static_cast<int64_t>(i);
    local.push_back({shard * samples / count, (shard + 1) * samples / count});
  }
  return local;
}

void DataParallel::begin_step() {
  unsent_ = buckets_.size();
  for (Bucket& b : buckets_) {
    // Not empty only if the last step ended with an exception that was caught.
    for (Bucket::Partial& partial : b.partials) {
      if (!partial.sum.shares_storage_with(b.total)) b.spare.push_back(std::move(partial.sum));
    }
    b.partials.clear();
  }
}

void DataParallel::begin_shard(size_t index) {
  require(index < local_shards_, "data parallelism: shard {} of {}", index, local_shards_);
  shard_ = index;
  for (Bucket& b : buckets_) {
    b.missing = b.group->parameters().size();
    b.done = false;
    if (b.partials.empty()) {
      b.group->bind_grads(b.total);
    } else {
      if (b.spare.empty()) b.spare.push_back(b.group->new_grads(compute_));
      b.group->bind_grads(b.spare.back());
      b.spare.pop_back();
    }
  }
}

void DataParallel::register_hooks(Tape& tape, bool last_microbatch) {
  if (last_microbatch) tape.on_grad_ready([this](Parameter& parameter) { on_ready(parameter); });
}

void DataParallel::on_ready(Parameter& parameter) {
  const auto found = bucket_of_.find(&parameter);
  if (found == bucket_of_.end()) return;
  Bucket& bucket = buckets_[found->second];
  if (--bucket.missing == 0) finish_bucket(bucket);
}

void DataParallel::end_shard(size_t index) {
  require(index == shard_, "data parallelism: shard {} ends while shard {} is current", index, shard_);
  // Groups with parameters that the last microbatch did not use, and all groups of an empty shard. From last
  // to first, in the order of backward.
  for (auto b = buckets_.rbegin(); b != buckets_.rend(); ++b) {
    if (b->done) continue;
    b->group->zero_missing_grads(compute_);
    finish_bucket(*b);
  }
}

void DataParallel::finish_bucket(Bucket& bucket) {
  bucket.done = true;
  if (in_last_shard())
    send_complete_buckets();
  else
    add_leaf(bucket);
}

/// Like a binary counter: two blocks of equal size become one of twice the size.
void DataParallel::add_leaf(Bucket& bucket) {
  Bucket::Partial block{bucket.group->grads(), 1};
  while (!bucket.partials.empty() && bucket.partials.back().leaves == block.leaves) {
    Bucket::Partial lower = std::move(bucket.partials.back());
    bucket.partials.pop_back();
    add_in_place(lower.sum, block.sum, compute_);
    bucket.spare.push_back(std::move(block.sum));
    block = {std::move(lower.sum), lower.leaves * 2};
  }
  bucket.partials.push_back(std::move(block));
}

void DataParallel::send_complete_buckets() {
  for (; unsent_ > 0 && buckets_[unsent_ - 1].done; --unsent_) send(buckets_[unsent_ - 1]);
}

void DataParallel::send(Bucket& bucket) {
  const bool on_device = compute_.device().type != DeviceType::kCpu;
  // The last leaf completes the local tree: blocks are added from the smallest to the largest.
  Tensor sum = bucket.group->grads();
  while (!bucket.partials.empty()) {
    const Tensor lower = std::move(bucket.partials.back().sum);
    bucket.partials.pop_back();
    if (on_device)
      add_in_place(lower, sum, compute_);
    else
      stream_.run(
          [lower, sum, &pool = stream_.pool()] { add_in_place(lower, sum, Stream::inline_on(pool)); });
    // Not written again before the next step, which waits for the stream.
    bucket.spare.push_back(std::move(sum));
    sum = lower;
  }
  const bool reduced = bucket.reduced.defined();
  if (on_device) {
    // The memory of gradients outlives the step: its use by another stream need not be recorded.
    if (reduced) copy(bucket.reduced, bucket.total, compute_);
    stream_.wait(compute_.record());
    data_->all_reduce(reduced ? bucket.reduced : bucket.total, Reduce::kSum, stream_);
    return;
  }
  const auto convert = [&](const Tensor& to, const Tensor& from) {
    stream_.run([to, from, &pool = stream_.pool()] { copy(to, from, Stream::inline_on(pool)); });
  };
  if (reduced) convert(bucket.reduced, bucket.total);
  data_->all_reduce(reduced ? bucket.reduced : bucket.total, Reduce::kSum, stream_);
  if (reduced) convert(bucket.total, bucket.reduced);
}

double DataParallel::finish_step() {
  require(unsent_ == 0, "data parallelism: the step ends with {} of {} groups unsent", unsent_,
          buckets_.size());
  const auto begin = std::chrono::steady_clock::now();
  if (compute_.device().type == DeviceType::kCpu) {
    stream_.synchronize();
  } else {
    // Two CUDA streams wait for each other on the device; a queued stream of the host is waited for here.
    compute_.wait(stream_.record());
    for (const Bucket& b : buckets_) {
      if (b.reduced.defined()) copy(b.total, b.reduced, compute_);
    }
  }
  const double waited_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (Bucket& b : buckets_) {
    b.group->bind_grads(b.total);
    for (Parameter* parameter : b.group->parameters()) parameter->grad_defined = true;
  }
  return waited_s;
}

std::string DataParallel::why_no_capture() const {
  return stream_.device() == compute_.device() ? "" : "gradients are copied through the host";
}

void DataParallel::after_update() {
  if (data_->size() == 1) return;
  const bool on_device = compute_.device().type != DeviceType::kCpu;
  if (on_device) stream_.wait(compute_.record());
  for (Bucket& b : buckets_) {
    const ParamGroup& g = *b.group;
    if (g.placement().state != Sharding::kSharded) continue;
    data_->all_gather(g.weights(), g.weights().slice(0, g.state_begin(), g.state_end()),
                      on_device ? stream_ : compute_);
  }
  if (on_device) compute_.wait(stream_.record());
}

std::vector<double> DataParallel::sum(std::span<const std::vector<double>> leaves) {
  require(leaves.size() == local_shards_, "data parallelism: {} rows to sum for {} shards", leaves.size(),
          local_shards_);
  for (const auto& leaf : leaves) {
    require(leaf.size() == leaves.front().size(), "data parallelism: rows of {} and {} values to sum",
            leaf.size(), leaves.front().size());
  }
  std::vector<double> total = tree_sum({leaves.begin(), leaves.end()});
  const Tensor all = Tensor::from(total, {static_cast<int64_t>(total.size())}, host_);
  control_->all_reduce(all, Reduce::kSum, host_);
  std::copy_n(all.data<double>(), total.size(), total.begin());
  return total;
}

}  // namespace tutti
