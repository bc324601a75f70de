#include <tutti/comm/peers.h>

#include <algorithm>
#include <cstring>

namespace tutti {

std::vector<std::string> CollectivePeers::all_gather(const std::string& mine) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const int64_t n = size();
  const Tensor lengths = Tensor::empty({n}, DType::kInt64, stream);
  collective_.all_gather(lengths, Tensor::from(std::vector{static_cast<int64_t>(mine.size())}, {1}, stream),
                         stream);
  const int64_t longest = *std::max_element(lengths.data<int64_t>(), lengths.data<int64_t>() + n);
  const Tensor padded = Tensor::zeros({longest}, DType::kUInt8, stream);
  if (!mine.empty()) std::memcpy(padded.raw(), mine.data(), mine.size());
  const Tensor all = Tensor::empty({n, longest}, DType::kUInt8, stream);
  collective_.all_gather(all, padded, stream);
  std::vector<std::string> texts;
  texts.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    texts.emplace_back(reinterpret_cast<const char*>(all.data<uint8_t>()) + i * longest,
                       static_cast<size_t>(lengths.data<int64_t>()[i]));
  }
  return texts;
}

}  // namespace tutti
