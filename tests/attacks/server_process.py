"""A server in a process of its own, with the flags that an operator gives it."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from forked import MAIN, started
from patience import PATIENCE

from breadcrumbs.models.bundle import Bundle

ROOT = Path(__file__).parents[2]
BLOCKER = Path(__file__).parent / "blocker"


@dataclass(frozen=True)
class Server:
    """A running server: its process's id, its folder (also its working folder), and a client."""

    pid: int
    folder: Path
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.client.base_url.host, int(self.client.base_url.port or 0)

    def forget_peak(self) -> int:
        """Let `peak` begin anew; return the bytes of memory that the server's process has now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Bytes of memory that the server's process had at most, also for a moment."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return 1024 * int(found[1])


@contextlib.contextmanager
def serving(bundle: Bundle, folder: Path, *flags: str, port: int = 0, blocked: Path | None = None) -> Iterator[Server]:
    """Start `breadcrumbs serve`, on a free port unless one is given, and end it.

    With `blocked`, it can open no connection: what it tries is written to that file.
    """
    line = ["serve", "--bundle", str(bundle.folder), "--store", "store", "--port", str(port)]
    line += ["--device", "cpu", "--threads", "1", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    if blocked is not None:
        environment |= {"PYTHONPATH": f"{BLOCKER}{os.pathsep}{ROOT}", "BLOCKER_LOG": str(blocked)}
    code = MAIN if blocked is None else f"import runpy; runpy.run_path({str(BLOCKER / 'sitecustomize.py')!r}); {MAIN}"
    with started(*line, folder=folder, environment=environment, code=code) as program:
        found = program.tells(lambda told: re.search(r"running on (http://127\.0\.0\.1:\d+)", told))
        with httpx.Client(base_url=found[1], timeout=PATIENCE) as client:
            yield Server(program.pid, folder, client)
        program.send(signal.SIGTERM)
        program.wait()
