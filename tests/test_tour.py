"""The tour, walked: every command of `docs/tour.md`, in order, with a training of two epochs instead of 36."""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tour.md").read_text()
COMMANDS = re.findall(r"^\$ breadcrumbs (.+)$", PAGE, re.MULTILINE)
EPOCHS = 2


def run(words: list[str], folder: Path) -> str:
    """Run a command of ours and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    line = [sys.executable, "-m", "breadcrumbs", *words]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"breadcrumbs {' '.join(words)}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


@contextlib.contextmanager
def serving(words: list[str], folder: Path, port: int) -> Iterator[None]:
    """Keep the tour's server running."""
    line = [sys.executable, "-m", "breadcrumbs", *words, "--port", str(port), "--access-log", "none"]
    with subprocess.Popen(line, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/readyz").is_success:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.slow
def test_the_tour_can_be_walked(tmp_path: Path) -> None:
    """Every command does what the page says, on the files that the commands before it left."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    printed = {}
    with contextlib.ExitStack() as stack:
        for command in COMMANDS:
            words = shlex.split(
                command.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("epoch-0038", "epoch-0004")
            )
            if words[0] == "train":
                words += ["--epochs", str(EPOCHS)]
            if words[0] == "serve":
                stack.enter_context(serving(words, tmp_path, port))
                continue
            if words[0] == "heads" or (words[0] == "predict" and "--bundle" not in words):
                words += ["--server", f"http://127.0.0.1:{port}"]
            printed[command] = run(words, tmp_path)

    assert len(COMMANDS) == 12
    names = re.compile(r"^(?:ok|--)  (\w+): ", re.MULTILINE)
    assert names.findall(printed["doctor"]) == names.findall(PAGE)
    assert (tmp_path / "runs/tour/report/index.html").exists()
    assert (tmp_path / "runs/tour/refit/report.html").exists()
    assert "●" in printed["heads"]
    assert "head 2 is live (activate" in printed[next(c for c in COMMANDS if c.startswith("heads activate"))]
    assert "head 1 is live (rollback" in printed[next(c for c in COMMANDS if c.startswith("heads rollback"))]
