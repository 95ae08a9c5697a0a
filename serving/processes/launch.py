"""Starts a program as a server's underling: last in line for the CPU, first to go for memory, gone with the server.

    python -I launch.py PARENT CPU COMMAND …

sets this up and becomes COMMAND, in a process group of its own. PARENT is the process that must be alive; CPU is `idle`
or `share`, see `Cpu`. Where the system has no such thing (it is Linux's), the program starts without it. It knows
nothing of what it starts, and imports nothing that takes time.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Literal

Cpu = Literal["idle", "share"]
"""CPU time of the program: what is idle; or a share of a busy server's too, and all that is idle."""
NICE = 10
"""Niceness of a share: a tenth."""
LAST = 19
"""Niceness where the system knows no idle policy."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
"""What the program starts stays its descendant, also when what started it in between has ended."""


def main(parent: int, cpu: str, *command: str) -> None:
    """Become the command."""
    if cpu == "idle":
        _idle()
    else:
        _share()
    os.putenv("OMP_WAIT_POLICY", "PASSIVE")  # a thread that spins for one without a core keeps it from having one
    _tell("oom_score_adj", 1000)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() == parent:
        os.execvp(command[0], command)  # noqa: S606 - the command is the server's own


def _idle() -> None:
    """In the server's own session: the kernel weighs sessions against each other before what is in them."""
    os.setpgid(0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (OSError, AttributeError):
        os.nice(LAST)


def _share() -> None:
    os.setsid()
    os.nice(NICE)
    _tell("autogroup", NICE)


def _tell(name: str, value: int) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self", name).write_text(str(value))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
