#include "launcher/run/verify_inputs.h"

#include <tutti/core/data/verify.h>
#include "launcher/run/identity.h"
#include "launcher/run/stop_signal.h"

#include <utility>

namespace tutti {

SharedWork check_work(std::string name, int threads, std::function<void(const std::string& text)> log) {
  return {.name = std::move(name), .threads = threads, .cancelled = &stop_signalled, .log = std::move(log)};
}

std::optional<std::map<std::string, std::string>> verify_data(const Inputs& inputs, const DataConfig& config,
                                                              Peers& peers, const SharedWork& work) {
  const DataCheck check = data_check_from_name(config.verify);
  if (check == DataCheck::kQuick && peers.rank() == 0 && work.log) {
    work.log("data.verify: quick: contents of the data are not compared with their checksums");
  }
  DataContent content;
  peers.agree([&] { content = inputs.training->content(); });
  const std::optional<DataIdentity> training = identify(content, check, peers, work);
  if (!training) return std::nullopt;
  std::optional<DataIdentity> validation;
  if (inputs.validation) {
    peers.agree([&] { content = inputs.validation->content(); });
    validation = identify(content, check, peers, work);
    if (!validation) return std::nullopt;
  }
  return data_facts(*training, validation, inputs.training->size());
}

}  // namespace tutti
