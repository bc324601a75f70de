#include "comm/mpi/point_to_point.h"

#include <algorithm>
#include <bit>
#include <deque>

namespace tutti {
namespace {

constexpr int64_t kSmallBytes = 8192;              // below it latency dominates, not bandwidth
constexpr int64_t kPieceBytes = int64_t{1} << 20;  // added while the next piece is transferred

}  // namespace

PointToPointGroup::PointToPointGroup(MpiSession& session, std::vector<int> ranks, int me, int tag)
    : session_(session), ranks_(std::move(ranks)), me_(me), tag_(tag) {}

PointToPointGroup::Message PointToPointGroup::to(int rank, const Elements& elements) const {
  return {Message::Direction::kSend, ranks_[static_cast<size_t>(rank)], tag_, elements.memory()};
}

PointToPointGroup::Message PointToPointGroup::from(int rank, const Elements& elements) const {
  return {Message::Direction::kReceive, ranks_[static_cast<size_t>(rank)], tag_, elements.memory()};
}

Elements PointToPointGroup::scratch(int64_t count, DType dtype) {
  const int64_t bytes = count * size_of(dtype);
  if (bytes > scratch_bytes_) {
    scratch_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes));
    scratch_bytes_ = bytes;
  }
  return {scratch_.get(), count, dtype};
}

void PointToPointGroup::all_reduce(const Elements& inout, Reduce op, ThreadPool& pool) {
  if (size() == 1 || inout.count == 0) return;
  if (!std::has_single_bit(ranks_.size()))
    all_reduce_by_parts(inout, op, pool);
  else if (inout.bytes() <= kSmallBytes)
    all_reduce_by_doubling(inout, op);
  else
    all_reduce_by_halving(inout, op);
}

/// All elements are sent in each of log2(size) rounds.
void PointToPointGroup::all_reduce_by_doubling(const Elements& inout, Reduce op) {
  const Elements other = scratch(inout.count, inout.dtype);
  for (int distance = 1; distance < size(); distance *= 2) {
    const int partner = me_ ^ distance;
    session_.exchange(std::vector{from(partner, other), to(partner, inout)});
    if (me_ < partner)
      combine(inout, inout, other, op);
    else
      combine(inout, other, inout, op);
  }
}

/// Halves of halves are reduced in log2(size) rounds and gathered in as many. Source: Rabenseifner 2004,
/// "Optimization of collective reduction operations", with the nearest partner first so that sums follow the
/// tree.
void PointToPointGroup::all_reduce_by_halving(const Elements& inout, Reduce op) {
  std::vector<Range> given;
  Range mine{0, inout.count};
  for (int distance = 1; distance < size(); distance *= 2) {
    const int64_t middle = mine.begin + part_begin(mine.end - mine.begin, 1, 2);
    const Range low{mine.begin, middle};
    const Range high{middle, mine.end};
    const bool keep_low = (me_ & distance) == 0;
    mine = keep_low ? low : high;
    given.push_back(keep_low ? high : low);
    exchange_and_combine(inout.part(mine.begin, mine.end), inout.part(given.back().begin, given.back().end),
                         me_ ^ distance, op);
  }
  for (int distance = size() / 2; distance >= 1; distance /= 2) {
    const Range theirs = given.back();
    given.pop_back();
    const int partner = me_ ^ distance;
    session_.exchange(std::vector{from(partner, inout.part(theirs.begin, theirs.end)),
                                  to(partner, inout.part(mine.begin, mine.end))});
    mine = {std::min(mine.begin, theirs.begin), std::max(mine.end, theirs.end)};
  }
}

void PointToPointGroup::exchange_and_combine(const Elements& keep, const Elements& give, int partner,
                                             Reduce op) {
  const Elements arriving = scratch(keep.count, keep.dtype);
  const int64_t piece = kPieceBytes / size_of(keep.dtype);
  std::deque<MpiSession::Transfer> transfers;
  for (int64_t at = 0; at < std::max(keep.count, give.count); at += piece) {
    std::vector<Message> messages;
    if (at < keep.count)
      messages.push_back(from(partner, arriving.part(at, std::min(keep.count, at + piece))));
    if (at < give.count) messages.push_back(to(partner, give.part(at, std::min(give.count, at + piece))));
    transfers.push_back(session_.start(messages));
  }
  for (int64_t at = 0; at < std::max(keep.count, give.count); at += piece) {
    transfers.front().wait();
    transfers.pop_front();
    const int64_t end = std::min(keep.count, at + piece);
    if (at >= end) continue;
    const Elements mine = keep.part(at, end);
    if (me_ < partner)
      combine(mine, mine, arriving.part(at, end), op);
    else
      combine(mine, arriving.part(at, end), mine, op);
  }
}

void PointToPointGroup::all_reduce_by_parts(const Elements& inout, Reduce op, ThreadPool& pool) {
  const bool small = inout.bytes() <= kSmallBytes;
  const auto part = [&](int rank) {
    if (small) return inout;
    return inout.part(part_begin(inout.count, rank, size()), part_begin(inout.count, rank + 1, size()));
  };
  std::vector<Message> outgoing;
  for (int i = 0; i < size(); ++i) {
    if (i != me_) outgoing.push_back(to(i, part(i)));
  }
  reduce_from_all(part(me_), part(me_), op, pool, std::move(outgoing));
  if (small) return;
  std::vector<Message> messages;
  for (int i = 0; i < size(); ++i) {
    if (i == me_) continue;
    messages.push_back(from(i, part(i)));
    messages.push_back(to(i, part(me_)));
  }
  session_.exchange(messages);
}

/// output = the reduction of all ranks' copies of `mine`.
void PointToPointGroup::reduce_from_all(const Elements& output, const Elements& mine, Reduce op,
                                        ThreadPool& pool, std::vector<Message> outgoing) {
  const Elements arriving = scratch(mine.count * (size() - 1), mine.dtype);
  std::vector<Elements> inputs;
  std::vector<Message> messages;
  for (int i = 0; i < size(); ++i) {
    const int slot = i < me_ ? i : i - 1;
    inputs.push_back(i == me_ ? mine : arriving.part(mine.count * slot, mine.count * (slot + 1)));
    if (i != me_) messages.push_back(from(i, inputs.back()));
  }
  messages.insert(messages.end(), outgoing.begin(), outgoing.end());
  session_.exchange(messages);
  reduce_tree({&output, 1}, inputs, op, pool);
}

void PointToPointGroup::reduce_scatter(const Elements& output, const Elements& input, Reduce op,
                                       ThreadPool& pool) {
  std::vector<Message> outgoing;
  for (int i = 0; i < size(); ++i) {
    if (i != me_) outgoing.push_back(to(i, input.equal_part(i, size())));
  }
  reduce_from_all(output, input.equal_part(me_, size()), op, pool, std::move(outgoing));
}

void PointToPointGroup::all_gather(const Elements& output, const Elements& input) {
  std::vector<Message> messages;
  for (int i = 0; i < size(); ++i) {
    if (i == me_) continue;
    messages.push_back(from(i, output.equal_part(i, size())));
    messages.push_back(to(i, input));
  }
  MpiSession::Transfer transfer = session_.start(messages);
  copy_elements(output.equal_part(me_, size()), input);
  transfer.wait();
}

void PointToPointGroup::all_to_all(const Elements& output, const Elements& input) {
  std::vector<Message> messages;
  for (int i = 0; i < size(); ++i) {
    if (i == me_) continue;
    messages.push_back(from(i, output.equal_part(i, size())));
    messages.push_back(to(i, input.equal_part(i, size())));
  }
  MpiSession::Transfer transfer = session_.start(messages);
  copy_elements(output.equal_part(me_, size()), input.equal_part(me_, size()));
  transfer.wait();
}

/// A binomial tree rooted at `root`.
void PointToPointGroup::broadcast(const Elements& inout, int root) {
  const int place = (me_ - root + size()) % size();
  const auto rank_at = [&](int p) { return (p + root) % size(); };
  int reach = static_cast<int>(std::bit_ceil(static_cast<unsigned>(size())));
  if (place != 0) {
    reach = place & -place;
    session_.exchange(std::vector{from(rank_at(place - reach), inout)});
  }
  std::vector<Message> messages;
  for (int distance = reach / 2; distance >= 1; distance /= 2) {
    if (place + distance < size()) messages.push_back(to(rank_at(place + distance), inout));
  }
  session_.exchange(messages);
}

/// Source: Hensgen, Finkel & Manber 1988, "Two algorithms for barrier synchronization" (dissemination).
void PointToPointGroup::barrier() {
  std::byte out{};
  std::byte in{};
  for (int distance = 1; distance < size(); distance *= 2) {
    session_.exchange(std::vector{from((me_ - distance + size()) % size(), {&in, 1, DType::kUInt8}),
                                  to((me_ + distance) % size(), {&out, 1, DType::kUInt8})});
  }
}

void PointToPointGroup::send(const Elements& elements, int to, int tag) {
  session_.exchange(std::vector{
      Message{Message::Direction::kSend, ranks_[static_cast<size_t>(to)], tag, elements.memory()}});
}

void PointToPointGroup::recv(const Elements& elements, int from, int tag) {
  session_.exchange(std::vector{
      Message{Message::Direction::kReceive, ranks_[static_cast<size_t>(from)], tag, elements.memory()}});
}

}  // namespace tutti
