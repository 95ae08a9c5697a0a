"""What this process may use: CPU cores and memory, as machine, affinity and container grant them, the least counts."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container (cgroup v2): microseconds of CPU time in each period, or `max`, and the period."""
MEMORY = Path("/sys/fs/cgroup/memory.max")
"""Of a container (cgroup v2): bytes, or `max`."""


def cores(quota: Path = QUOTA) -> int:
    """Return the number of cores, at least one; a quota of one and a half is two."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        given, period = quota.read_text().split()
        return min(own, max(1, math.ceil(int(given) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no quota, or none that says anything
        return own


def memory(limit: Path = MEMORY) -> int:
    """Return the bytes of memory."""
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(own, int(limit.read_text()))
    except (OSError, ValueError):
        return own
