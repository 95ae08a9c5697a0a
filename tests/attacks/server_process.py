"""A server in a process of its own, as an operator starts it."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from patience import PATIENCE

from breadcrumbs.models.bundle import Bundle

ROOT = Path(__file__).parents[2]
BLOCKER = Path(__file__).parent / "blocker"


@dataclass(frozen=True)
class Server:
    """A running server: its process, its folder (also its working folder), and a client."""

    process: "subprocess.Popen[str]"
    folder: Path
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.client.base_url.host, int(self.client.base_url.port or 0)

    def forget_peak(self) -> int:
        """Let `peak` begin anew; return the bytes of memory that the server's process has now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Bytes of memory that the server's process had at most, also for a moment."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return 1024 * int(found[1])


@contextlib.contextmanager
def serving(bundle: Bundle, folder: Path, *flags: str, port: int = 0, blocked: Path | None = None) -> Iterator[Server]:
    """Start `breadcrumbs serve`, on a free port unless one is given, and end it.

    With `blocked`, it can open no connection: what it tries is written to that file.
    """
    line = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(bundle.folder), "--store", "store"]
    line += ["--port", str(port), "--device", "cpu", "--threads", "1", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    if blocked is not None:
        environment |= {"PYTHONPATH": f"{BLOCKER}{os.pathsep}{ROOT}", "BLOCKER_LOG": str(blocked)}
    with subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{_port(process)}", timeout=PATIENCE) as client:
                yield Server(process, folder, client)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def _port(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that its log never fills the pipe
            return int(found[1])
    raise AssertionError("the server ended before it listened")
