"""What every test may use, and how tests are run: in which order, with how many threads, and which are slow."""

import gc
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tiny import write_bundle

from breadcrumbs.models.bundle import Bundle

# How long an example takes depends on what else the machine does. A failure prints how to reproduce it.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("tests")

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything loads torch; child processes inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background deaf to Ctrl-C, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
STARTERS = ("running", "serving", "started", "command")
"""Functions that start servers or programs."""
LONGEST = (
    "serving/state/test_crashes", "test_examples", "test_end_to_end", "training/test_processes",
    "serving/cluster/test_cluster", "training/run/test_machines", "models/test_families", "test_command_examples",
    "test_tour", "training/run/test_small_sets", "training/data/test_objects", "attacks/test_chaos", "test_wheel",
    "serving/processes/test_child", "training/run/test_fit", "attacks/test_fuzz", "serving/test_workers",
    "attacks/test_attacks", "training/run/test_epoch", "training/run/test_finetune",
)  # fmt: skip
"""Files that take longest. The first three wait for real refits, which leave the cores to whoever else works; they are
run side by side, so that the cores are theirs."""


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what is slow, and begin with the files that take longest: at the end no process waits for another's.

    Of tests with one id xdist runs one, and says nothing of the others.
    """
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    assert twice == [], "these tests have the id of another one"
    for item in items:
        names = vars(item.module)
        starts = names.get("subprocess") is subprocess or any(callable(names.get(n)) for n in STARTERS)
        if starts or {"serve", "client", "run"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """The place of a test's file in LONGEST; behind all of them for another."""
    name = item.path.with_suffix("").relative_to(TESTS).as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_finish() -> None:
    """Let Python look for garbage only among what the tests make: torch and the tests are most of a million objects."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: they may hold the time, and every process must collect the same names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; nobody may change it."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
