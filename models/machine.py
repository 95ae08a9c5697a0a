"""What this process may use: CPU cores and memory, as the machine, its affinity and its control groups grant them.

The least counts. Control groups are those of a container and of a service manager (systemd's CPUQuota and MemoryMax),
version 1 or 2; a limit of any parent holds too.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/proc/self/cgroup")
"""The control groups of this process: a line `number:controllers:path` for each hierarchy."""
MOUNT = Path("/sys/fs/cgroup")
UNLIMITED = 2**60
"""A limit of at least this many bytes means no limit: version 1 writes its largest number."""


def cores(cgroups: Path = CGROUPS, mount: Path = MOUNT) -> int:
    """Return the number of cores, at least one; a quota of one and a half is two."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    for folder in _folders("cpu", cgroups, mount):
        pair = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(pair) == 2 and pair[0].isdigit() and pair[1].isdigit() and int(pair[1]):  # `max` and -1: no quota
            quotas.append(max(1, math.ceil(int(pair[0]) / int(pair[1]))))
    return min([own, *quotas])


def memory(cgroups: Path = CGROUPS, mount: Path = MOUNT) -> int:
    """Return the bytes of memory."""
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = []
    for folder in _folders("memory", cgroups, mount):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(folder / name) if word.isdigit() and 0 < int(word) < UNLIMITED]
    return min([own, *limits])


def _folders(controller: str, cgroups: Path, mount: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of all their parents.

    A container sees its own group at the root of the mount, whatever path is written there.
    """
    roots = {mount: "/"}
    for line in _lines(cgroups):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots[mount] = path
        elif controller in controllers.split(","):
            for name in (controller, controllers):
                roots[mount / name] = path
    for root, path in roots.items():
        folder = Path(os.path.normpath(f"{root}/{path}"))
        yield root
        while folder.is_relative_to(root) and folder != root:
            yield folder
            folder = folder.parent


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.count(":") >= 2]
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
