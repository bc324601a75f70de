"""Runs a training on a separate terminal, which is closed after some steps. Usage: RUN_DIR CODE COMMAND..."""
import os
import pty
import sys
import time

run, code, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
os.set_blocking(terminal, False)
metrics = os.path.join(run, "metrics.jsonl")
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        os.read(terminal, 65536)
    except (BlockingIOError, OSError):
        pass
    if os.path.exists(metrics) and '"kind":"checkpoint"' in open(metrics).read():
        break
    time.sleep(0.01)
os.close(terminal)
while time.monotonic() < deadline:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        ended = os.waitstatus_to_exitcode(status)
        # The training may have ended before the terminal was closed.
        sys.exit(f"ended with {ended}, not {code}" if ended not in (code, 0) else 0)
    time.sleep(0.05)
os.kill(pid, 9)
sys.exit("it hangs")
