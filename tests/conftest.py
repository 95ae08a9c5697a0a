"""What every test may use, and how tests are run: one thread a process where several run side by side."""

import os

import pytest
from hypothesis import HealthCheck, settings
from tiny import write_bundle

from models.bundle import Bundle

# How long an example takes depends on what else the machine does. A failure prints how to reproduce it.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("tests")

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything loads torch; child processes inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")


LONGEST = ("test_processes", "test_cluster", "test_machines", "test_tour", "test_crashes", "test_epoch", "test_fit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that at the end no process waits for another's long one."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; nobody may change it."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
