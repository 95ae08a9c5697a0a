"""How long tests wait for what must happen: far longer than a busy machine needs, so that only a fault gets there."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0
"""Seconds."""


def soon(true: Callable[[], Any], what: str) -> Any:
    """Return what `true` returns as soon as it is something; fail with `what` was waited for if it never is."""
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.01)
    return found
