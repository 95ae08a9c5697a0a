"""Starts a program as a server's underling: last in line for the CPU, first to go for memory, gone with the server.

    python -I launch.py PARENT COMMAND …

sets this up and becomes COMMAND. PARENT is the process that must be alive. Where the system has no such thing (it is
Linux's), the program starts without it. It knows nothing of what it starts, and imports nothing that takes time.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

NICE = 10
"""A tenth of the CPU time of a server that is busy; all that is free of one that is not."""
PR_SET_PDEATHSIG = 1


def main(parent: int, *command: str) -> None:
    """Become the command."""
    os.nice(NICE)
    for name, value in (("autogroup", NICE), ("oom_score_adj", 1000)):
        with contextlib.suppress(OSError):
            Path("/proc/self", name).write_text(str(value))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execvp(command[0], command)  # noqa: S606 - the command is the server's own


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
