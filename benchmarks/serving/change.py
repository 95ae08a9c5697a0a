"""What users feel of a change: predict load while heads are swapped, and while refits run on the same machine.

    python benchmarks/serving/change.py [--model resnet10t] [--concurrency 1 16] [--seconds 20] [--swaps 1000]
        [--repeats 3] [--pause 0] [--device cpu] [--ours "--refit-cpu share"] [--out runs/serving]

Two heads answer in turn: the bundle's, and one that the server's own refit makes of `materials.py`'s snapshot. Every
answer is checked against the head that it names. Memory is that of server and children (PSS), after 100 swaps and at
the end. For the refits each repeat loads the server twice as long as `--seconds`: first alone, then with refits one
after the other. With a pause in milliseconds from an answer to its user's next request, the server is not always busy.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from compare import PORT, TOLERANCE, at, python
from servers import HERE, ROOT, SERVERS, Running, running

from breadcrumbs.models import head as heads
from breadcrumbs.models.head import softmax
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.training.config import RefitSpec

Row = tuple[float, float, str]
SPEC = RefitSpec(activate="never", use_bundle_snapshots=False)


class Load:
    """A closed loop in a process of its own, until it is told to end.

    Args:
        folder: of one model's materials.
        users: requests under way at a time.
        expected: files of probabilities, by version of the head.
        tolerance: of a probability.
        pause: seconds from an answer to its user's next request.
        port: of the server.
        query: parameters of every request, as `name=value&…`.
    """

    def __init__(
        self, folder: Path, users: int, expected: dict[str, str], tolerance: float, pause: float = 0.0,
        port: int = PORT, query: str = "",
    ) -> None:  # fmt: skip
        spec = {
            "form": "ours", "port": port, "folder": str(folder), "expected": expected, "concurrency": users,
            "pause": pause, "tolerance": tolerance, "query": query,
        }  # fmt: skip
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen(
            [sys.executable, HERE / "load.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(spec) + "\n")
        self._process.stdin.flush()

    def end(self) -> list[Row]:
        """Stop asking, and return what became of each request."""
        out, _ = self._process.communicate("")
        return [(finished, took, verdict) for finished, took, verdict in json.loads(out)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.0, help="milliseconds")
    parser.add_argument("--ours", default="", help="more flags for the server")
    parser.add_argument("--device", choices=list(TOLERANCE), default="cpu", help="of predictions and of refits")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "serving")
    given = parser.parse_args()
    folder = given.out / given.model
    if not (folder / "snapshot.safetensors").exists():
        python(HERE / "materials.py", str(given.out), given.model)
    work = folder / "work-change"
    subprocess.run(["rm", "-rf", str(work)], check=True)
    flags = ["--device", given.device, "--refit-device", given.device, *given.ours.split()]
    with (
        running(SERVERS["ours"], folder / "bundle", work, PORT, Path(sys.prefix), flags) as process,
        Client(f"http://127.0.0.1:{PORT}", timeout=600) as client,
    ):
        expected = two_heads(client, folder)
        if given.swaps:
            swaps(client, process, folder, expected, given)
        refits(client, folder, expected, given)


def two_heads(client: Client, folder: Path) -> dict[str, str]:
    """Let the server make a second head; the probabilities of both, in files."""
    sha = client.put_snapshot(folder / "snapshot.safetensors").sha256
    job = client.wait(client.refit([sha], SPEC).id)
    if job.verdict is None:
        raise RuntimeError(f"the refit came to nothing: {job.error}")
    second = heads.from_onnx(client.head_onnx(job.verdict.head))
    path = folder / "probabilities-2.npy"
    np.save(path, softmax(second.logits(np.load(folder / "features.npy"))))
    return {"1": str(folder / "probabilities.npy"), str(job.verdict.head): str(path)}


def swaps(client: Client, process: Running, folder: Path, expected: dict[str, str], given: argparse.Namespace) -> None:
    """Activate the two heads in turn under load."""
    load, versions, memory = Load(folder, 16, expected, TOLERANCE[given.device]), [int(v) for v in expected], 0.0
    for place in range(given.swaps):
        client.activate(versions[(place + 1) % 2], "benchmark")
        if place == 100:
            memory = process.resident()
    after = process.resident()
    rows = load.end()
    took, wrong = right(rows), len(rows) - len(right(rows))
    print(
        f"\n{given.swaps} swaps under 16 users: {len(rows)} answers, {wrong} not right; "
        f"p50 {1000 * at(took, 0.5):.1f}, "
        f"p99 {1000 * at(took, 0.99):.1f} ms; memory {memory:.0f} MiB after 100 swaps, {after:.0f} at the end",
        flush=True,
    )


def refits(client: Client, folder: Path, expected: dict[str, str], given: argparse.Namespace) -> None:
    """Load alone, then beside refits."""
    sha = client.put_snapshot(folder / "snapshot.safetensors").sha256
    print("\n| users | alone: requests/s, p50, p99 ms | beside refits | factor of p99 | refits, s each | not right |")
    print("| --- " * 6 + "|")
    for users in given.concurrency:
        pairs, refits, wrong = [], [], 0
        for _ in range(given.repeats):
            alone, _ = measure(client, folder, users, expected, given, "")
            beside, seconds = measure(client, folder, users, expected, given, sha)
            wrong += len(alone) + len(beside) - len(right(alone)) - len(right(beside))
            pairs.append((told(alone, given.seconds), told(beside, given.seconds)))
            refits += seconds
        middle = [[statistics.median(pair[k][m] for pair in pairs) for m in range(3)] for k in range(2)]
        cells = [f"{rate:.0f}, {p50:.1f}, {p99:.1f}" for rate, p50, p99 in middle]
        factor = statistics.median(beside[2] / alone[2] for alone, beside in pairs)
        each = f"{statistics.median(refits):.1f}" if refits else "none ended"
        print(f"| {users} | {cells[0]} | {cells[1]} | {factor:.2f} | {len(refits)}, {each} | {wrong} |", flush=True)


def measure(
    client: Client, folder: Path, users: int, expected: dict[str, str], given: argparse.Namespace, sha: str
) -> tuple[list[Row], list[float]]:
    """Load for a time, with refits one after the other where a snapshot is named; their seconds."""
    load, over, took = Load(folder, users, expected, TOLERANCE[given.device], given.pause / 1000), threading.Event(), []

    def refit() -> None:
        while not over.is_set():
            job = client.refit([sha], SPEC).id
            for _ in client.events(job):
                if over.is_set():
                    break
            if over.is_set():
                with contextlib.suppress(ServerError):
                    client.cancel(job)
            else:
                took.append(between(list(client.events(job))))

    busy = threading.Thread(target=refit)
    if sha:
        busy.start()
    time.sleep(given.seconds)
    rows = load.end()
    over.set()
    if sha:
        busy.join()
    return rows, took


def between(events: Sequence[dict[str, Any]]) -> float:
    """Seconds from a refit's start to its end."""
    times = [datetime.fromisoformat(event["at"]) for event in events if event["event"] == "state"]
    return (times[-1] - times[-2]).total_seconds()


def right(rows: Sequence[Row]) -> list[float]:
    """Sorted seconds of the right answers."""
    return sorted(took for _, took, verdict in rows if verdict == "right")


def told(rows: Sequence[Row], seconds: float) -> tuple[float, float, float]:
    """Requests a second, p50 and p99 in milliseconds."""
    took = right(rows)
    return len(took) / seconds, 1000 * at(took, 0.5), 1000 * at(took, 0.99)


if __name__ == "__main__":
    main()
