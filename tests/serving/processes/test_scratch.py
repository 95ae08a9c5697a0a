"""Temporary folders: gone at a clean end; after `kill -9` the next server removes them, and none that is in use."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from patience import PATIENCE
from refits import finish, until, upload
from running import make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.processes.scratch import scratch, sweep

HOLDER = """
from breadcrumbs.serving.processes.scratch import scratch
with scratch("refit") as path:
    print(path, flush=True)
    input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the system's for one test alone."""
    place = tmp_path / "system"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)  # where it remembers the folder that it found first
    return place


def age(path: Path) -> None:
    """Make a folder an hour old."""
    os.utime(path, (time.time() - 3600,) * 2)


def test_only_what_a_dead_process_left_is_swept(place: Path) -> None:
    """However old: not what is in use, what is not ours by name, or where a link leads."""
    line = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        (held / "input").write_bytes(b"x")
        other = place / "breadcrumbs-of-somebody"
        other.mkdir()
        (place / "breadcrumbs-scratch-link").symlink_to(other)
        for path in (held, other):
            age(path)
        with scratch("upload") as mine:
            age(mine)
            sweep()
            assert held.exists()
            assert mine.exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait(PATIENCE)
    assert held.exists()
    sweep()

    assert not held.exists()
    assert not mine.exists()
    assert other.exists()


def test_a_young_folder_is_not_swept(place: Path) -> None:
    """It may have been made this very moment, and not be locked yet."""
    fresh = place / "breadcrumbs-scratch-refit-fresh"
    fresh.mkdir()
    sweep()

    assert fresh.exists()


def test_a_server_sweeps_at_start_and_leaves_nothing_at_its_end(place: Path, tiny_bundle: Bundle) -> None:
    """Also where a refit was under way."""
    old = place / "breadcrumbs-scratch-upload-old"
    old.mkdir()
    age(old)
    with running(make_settings(tiny_bundle, place / "store"), "hangs", str(place / "pid")) as client:
        assert not old.exists()
        until(client, client.post("/v1/refit", json={"snapshots": [upload(client)]}).json()["id"])
        assert list(place.glob("breadcrumbs-scratch-refit-*"))
    with running(make_settings(tiny_bundle, place / "store")) as client:
        finish(client)

    assert {path.name for path in place.iterdir()} == {"store", "pid"}
