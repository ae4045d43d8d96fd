"""The command `lowland` of the package: the whole command line, which is inside the native module."""

from __future__ import annotations

import signal
import sys

from ._lowland import run_cli


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    # The command line listens to signals itself; Python would raise KeyboardInterrupt after it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = run_cli(["lowland", *sys.argv[1:]])
    sys.stdout.flush()
    sys.exit(code)
