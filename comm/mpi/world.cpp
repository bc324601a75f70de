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

[[noreturn]] void end_world(MpiSession& session, std::string_view reason,
                            MpiSession::Reason whose = MpiSession::Reason::kOfThisRank) {
  // When all ranks fail for one reason (a bad file), each would log it. The lowest one speaks first and ends
  // the others while they wait here: longer where they know that it will.
  if (session.rank() > 0) {
    (void)std::signal(SIGTERM, SIG_DFL);  // by which launchers end them; a handler might only take note of it
    const int patience_ms = whose == MpiSession::Reason::kOfAllRanks ? 10'000 : 1000;
    std::this_thread::sleep_for(std::chrono::milliseconds(patience_ms + 20 * std::min(session.rank(), 50)));
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
    end_world(session, error.what(), MpiSession::Reason::kOfAllRanks);
  } catch (const std::exception& error) {
    end_world(session, error_text(error));
  } catch (...) {
    end_world(session, "an exception that is not a std::exception");
  }
}

}  // namespace tutti
