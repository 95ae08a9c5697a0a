"""The servers that are compared: how each is started on a bundle, and where it says that it is ready.

The peers run in an environment of their own (`peers.txt`), each with its batching on, as its documentation advises;
PyTriton in one more, since not every Python 3.11 fits the one inside of it. It knows nothing of load or of what they
answer.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = HERE / "peers"
WAIT = 90.0
"""Seconds that a server may take to be ready."""


@dataclass(frozen=True)
class Server:
    """One way to serve.

    Attributes:
        form: how it is asked, of `wire.FORMS`.
        argv: its program; `{python}` is that of its environment, `{bin}` its folder, `{work}` a folder of its own.
        ready: the path that answers 200 once it is.
        peer: the environment of the peers that it runs in; none: ours.
    """

    form: str
    argv: tuple[str, ...]
    ready: str
    peer: str = "peers"


OURS = ("{python}", "-m", "breadcrumbs", "serve", "--bundle", "{bundle}", "--store", "{work}/store", "--port", "{port}")
SERVERS = {
    "ours": Server("ours", OURS, "/readyz", peer=""),
    "ours, /v2 pixels": Server("ours-v2", OURS, "/readyz", peer=""),
    "ours, 2 workers": Server("ours", (*OURS, "--workers", "2"), "/readyz", peer=""),
    "plain FastAPI": Server(
        "fastapi", ("{python}", "-m", "uvicorn", "plain:app", "--port", "{port}", "--log-level", "warning"), "/ready"
    ),
    "LitServe": Server("litserve", ("{python}", "lit.py"), "/health"),
    "MLServer": Server("mlserver", ("{bin}/mlserver", "start", "{work}"), "/v2/health/ready"),
    "BentoML": Server("bentoml", ("{bin}/bentoml", "serve", "bento:Classifier", "--port", "{port}"), "/readyz"),
    "PyTriton": Server("pytriton", ("{python}", "triton_peer.py"), "/v2/health/ready", peer="peers-triton"),
}


@dataclass(frozen=True)
class Running:
    """A server that is ready: its process, port, and the seconds from its start."""

    process: "subprocess.Popen[bytes]"
    port: int
    seconds: float

    def resident(self) -> float:
        """MiB of memory of the process and its children, what they share counted once (PSS)."""
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(_pss(pid) for pid in pids) / 1024


@contextlib.contextmanager
def running(
    server: Server, bundle: Path, work: Path, port: int, peers: Path, extra: Sequence[str] = ()
) -> Iterator[Running]:
    """Start a server, wait until it is ready, end it with all its children.

    Args:
        server: which.
        bundle: what it serves.
        work: an empty folder.
        port: to listen on.
        peers: where their environments are.
        extra: more flags.
    """
    work.mkdir(parents=True, exist_ok=True)
    python = peers / server.peer / "bin" / "python" if server.peer else Path(sys.executable)
    words = {
        "python": str(python),
        "bin": str(python.parent),
        "bundle": str(bundle),
        "work": str(work),
        "port": str(port),
    }
    argv = [word.format(**words) for word in server.argv] + list(extra)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {
        "BUNDLE": str(bundle),
        "PORT": str(port),
        "PYTHONPATH": f"{ROOT}:{PEERS}",
        "BENTOML_HOME": str(work),
    }
    _write_mlserver(work, port)
    begun = time.perf_counter()
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=PEERS if server.peer else ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}{server.ready}", process, work / "log")
        yield Running(process, port, time.perf_counter() - begun)
    finally:
        _end(process)


def _write_mlserver(work: Path, port: int) -> None:
    """MLServer reads its settings from files; adaptive batching is on."""
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    (work / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    model = {"name": "model", "implementation": "ml.Runtime", "max_batch_size": 32, "max_batch_time": 0.005}
    (work / "model-settings.json").write_text(json.dumps(model))


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.perf_counter() + WAIT
    while process.poll() is None and time.perf_counter() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no server at {url}: {log.read_text(errors='replace')[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
