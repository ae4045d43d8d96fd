"""One process, run to its end and measured.

What must hold: nothing of an earlier process is in the figures of the next,
but for a floor: a child's peak is never less than its parent's (see judge.py).
"""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

# Every library's own way of being told.
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
           "RAYON_NUM_THREADS")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Failed(Exception):
    """A process that did not do what it should; says why in a few words."""


@dataclasses.dataclass
class Process:
    """What a process took, with its children."""

    wall: float
    cpu: float
    peak: int


def run(command, log, threads, limit=None):
    """Runs a command to its end, or to the limit; what it took, and what it printed."""
    environment = dict(os.environ, **{name: str(threads) for name in THREADS})
    printed = log.with_suffix(".out")
    start = time.perf_counter()
    with open(printed, "wb") as out, open(log, "wb") as errors:
        try:
            process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        except OSError as error:
            raise Failed(str(error)) from error
        # Not process.kill: that would reap the child, whose usage we want.
        alarm = threading.Timer(limit or threading.TIMEOUT_MAX, os.kill, (process.pid, signal.SIGKILL))
        alarm.daemon = True
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.kill(process.pid, signal.SIGKILL)
            raise
        finally:
            alarm.cancel()
    wall = time.perf_counter() - start
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code:
        if limit and wall >= limit:
            raise Failed(f"over {limit} s")
        lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Failed(f"killed by signal {-code}" if code < 0 else f"exit code {code}: {lines[-1][:100]}")
    took = Process(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT)
    return took, printed.read_text(errors="replace")
