"""How many CPU cores this process may use: of the machine, of its affinity, of its container's quota the least."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container (cgroup v2): microseconds of CPU time in each period, or `max`, and the period."""


def cores(quota: Path = QUOTA) -> int:
    """Return the number of cores, at least one; a quota of one and a half is two."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        given, period = quota.read_text().split()
        return min(own, max(1, math.ceil(int(given) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no quota, or none that says anything
        return own
