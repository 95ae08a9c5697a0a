"""Cores and memory are counted as a container grants them."""

import os
from pathlib import Path

import pytest

from serving.machine import cores, memory


@pytest.mark.parametrize(
    ("text", "expected"), [("100000 100000\n", 1), ("20000 100000\n", 1), ("110000 100000\n", 2), ("0 100000", 1)]
)
def test_a_quota_bounds_the_cores(tmp_path: Path, text: str, expected: int) -> None:
    """Rounded up, never none; the machine's own cores are not exceeded."""
    (tmp_path / "cpu.max").write_text(text)

    assert cores(tmp_path / "cpu.max") == min(expected, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("text", [None, "max 100000\n", "", "100000 0", "a b", "1"])
def test_without_a_quota_all_cores_count(tmp_path: Path, text: str | None) -> None:
    """Also where the file is not there or says nothing."""
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)

    assert cores(tmp_path / "cpu.max") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (None, None)])
def test_a_containers_memory_counts(tmp_path: Path, text: str | None, expected: int | None) -> None:
    """Where it grants less than the machine has."""
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert memory(tmp_path / "memory.max") == (expected or machine)
