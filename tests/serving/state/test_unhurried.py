"""Work that lets requests pass: all of it is done, with pauses."""

import time

import pytest

from breadcrumbs.serving.state import unhurried


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_nothing_is_left_out(count: int) -> None:
    """In order, each once."""
    assert list(unhurried.unhurried(range(count))) == list(range(count))


def test_a_pause_comes_after_some_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which other threads run."""
    monkeypatch.setattr(unhurried, "WORK", 0.0)
    began = time.monotonic()
    list(unhurried.unhurried(range(10), 0.01))

    assert time.monotonic() - began >= 10 * 0.01
