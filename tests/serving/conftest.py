"""Servers: one of a test's own, or one for a whole file."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import LIMITS, Serve, make_settings, running

from breadcrumbs.models.bundle import Bundle


@pytest.fixture
def serve(tiny_bundle: Bundle, tmp_path: Path) -> Serve:
    """A way to start servers on this test's own store; words go to the fake child, keywords are settings."""

    def start(*mode: str, **more: Any) -> contextlib.AbstractContextManager[httpx.Client]:
        return running(make_settings(tiny_bundle, tmp_path / "store", **more), *mode)

    return start


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Logging as it was, after a test in whose process a server configures it."""
    root = logging.root
    kept = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    yield
    logging.captureWarnings(False)
    root.handlers[:], level, sys.excepthook, threading.excepthook, sys.unraisablehook = kept
    root.setLevel(level)


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one server for a whole file, for tests that leave no trace in others."""
    store = tmp_path_factory.mktemp("store")
    with running(make_settings(tiny_bundle, store, **LIMITS)) as one:
        yield one
