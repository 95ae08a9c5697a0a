"""Cores and memory are counted as containers and service managers grant them, by version 1 and 2 of control groups."""

import os
from pathlib import Path

import pytest

from breadcrumbs.models.machine import cores, memory

OWN = len(os.sched_getaffinity(0))
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V1 = "12:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n"
V2 = "0::{path}\n"


def place(folder: Path, groups: str, **files: str) -> tuple[Path, Path]:
    """Files of control groups, and the list that names this process's; `__` stands for a folder's slash."""
    (folder / "own").write_text(groups)
    for name, text in files.items():
        file = folder / "mount" / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder / "own", folder / "mount"


@pytest.mark.parametrize(
    ("text", "expected"), [("100000 100000\n", 1), ("20000 100000\n", 1), ("110000 100000\n", 2), ("0 100000", 1)]
)
@pytest.mark.parametrize("path", ["/", "/system.slice/breadcrumbs.service"])
def test_a_quota_bounds_the_cores(tmp_path: Path, text: str, expected: int, path: str) -> None:
    """Rounded up, never none; the machine's own cores are not exceeded; in a container and under systemd."""
    file = f"{path.strip('/')}/cpu_DOT_max".strip("/").replace("/", "__")

    assert cores(*place(tmp_path, V2.format(path=path), **{file: text})) == min(expected, OWN)


@pytest.mark.parametrize("text", ["max 100000\n", "", "100000 0", "a b", "1", "-1 100000"])
def test_without_a_quota_all_cores_count(tmp_path: Path, text: str) -> None:
    """Also where the file says nothing, or nothing is there at all."""
    assert cores(*place(tmp_path, V2.format(path="/"), cpu_DOT_max=text)) == OWN
    assert cores(tmp_path / "nowhere", tmp_path / "nothing") == OWN


@pytest.mark.parametrize(("text", "expected"), [("1000000\n", 1_000_000), ("max\n", MACHINE), ("0", MACHINE)])
def test_a_groups_memory_counts(tmp_path: Path, text: str, expected: int) -> None:
    """Where it grants less than the machine has."""
    assert memory(*place(tmp_path, V2.format(path="/"), memory_DOT_max=text)) == expected


def test_the_least_of_all_parents_counts(tmp_path: Path) -> None:
    """Systemd may limit a slice and a service in it."""
    files = {"a__memory_DOT_max": "3000000", "a__b__memory_DOT_max": "max", "a__b__c__memory_DOT_max": "5000000"}

    assert memory(*place(tmp_path, V2.format(path="/a/b/c"), **files)) == 3_000_000


@pytest.mark.parametrize("path", ["/", "/docker/0123", "/system.slice/breadcrumbs.service"])
@pytest.mark.parametrize("seen", [True, False])
def test_version_1_counts(tmp_path: Path, path: str, seen: bool) -> None:
    """By the path that is written, and at the root where a container cannot see that path."""
    below = f"{path.strip('/')}/" if seen else ""
    files = {
        f"memory/{below}memory_DOT_limit_in_bytes": "4000000",
        f"cpu/{below}cpu_DOT_cfs_quota_us": "100000",
        f"cpu/{below}cpu_DOT_cfs_period_us": "100000",
    }
    where = place(
        tmp_path,
        V1.format(path=path),
        **{name.replace("//", "/").replace("/", "__"): text for name, text in files.items()},
    )

    assert memory(*where) == 4_000_000
    assert cores(*where) == 1


def test_version_1_without_limits(tmp_path: Path) -> None:
    """It writes -1, and the largest number that it has."""
    files = {
        "memory__memory_DOT_limit_in_bytes": "9223372036854771712",
        "cpu__cpu_DOT_cfs_quota_us": "-1",
        "cpu__cpu_DOT_cfs_period_us": "100000",
    }
    where = place(tmp_path, V1.format(path="/"), **files)

    assert (cores(*where), memory(*where)) == (OWN, MACHINE)
