#include "comm/mpi/world.h"
#include <tutti/core/peers.h>
#include "comm/mpi/collective.h"
#include "core/memory/out_of_memory.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <exception>
#include <thread>

namespace tutti {
namespace {

[[noreturn]] void abort_world(MpiSession& session, std::string_view reason,
                              MpiSession::Reason whose = MpiSession::Reason::kOfThisRank) {
  // If all ranks fail for one reason (an invalid file), each would log it. The lowest rank logs first and
  // ends the others while they wait here: longer if all ranks are known to fail.
  if (session.rank() > 0) {
    (void)std::signal(SIGTERM, SIG_DFL);  // sent by launchers to end them; a handler might only record it
    const int delay_ms = whose == MpiSession::Reason::kOfAllRanks ? 10'000 : 1000;
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms + 20 * std::min(session.rank(), 50)));
  }
  session.abort(reason, whose);
  std::terminate();  // not reached: MPI_Abort ends the process
}

}  // namespace

void run_mpi(const MpiOptions& options, const std::function<void(Collective& world)>& body) {
  MpiSession session(options);
  try {
    const std::unique_ptr<Collective> world = make_mpi_world(session);
    body(*world);
  } catch (const AgreedError& error) {
    abort_world(session, error.what(), MpiSession::Reason::kOfAllRanks);
  } catch (const std::exception& error) {
    abort_world(session, error_text(error));
  } catch (...) {
    abort_world(session, "an exception that is not a std::exception");
  }
}

}  // namespace tutti
