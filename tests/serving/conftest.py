"""Servers: one of a test's own, or one for a whole file."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import make_settings, running

from models.bundle import Bundle

Serve = Callable[..., contextlib.AbstractContextManager[httpx.Client]]
LIMITS: dict[str, Any] = {
    "max_images": 4,
    "max_image_bytes": 20_000,
    "max_body_bytes": 60_000,
    "max_snapshot_bytes": 50_000,
    "max_snapshots": 2,
}


@pytest.fixture
def serve(tiny_bundle: Bundle, tmp_path: Path) -> Serve:
    """A way to start servers on this test's own store; words go to the fake child, keywords are settings."""

    def start(*mode: str, **more: Any) -> contextlib.AbstractContextManager[httpx.Client]:
        return running(make_settings(tiny_bundle, tmp_path / "store", **more), *mode)

    return start


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one server for a whole file, for tests that leave no trace in others."""
    store = tmp_path_factory.mktemp("store")
    with running(make_settings(tiny_bundle, store, **LIMITS)) as one:
        yield one
