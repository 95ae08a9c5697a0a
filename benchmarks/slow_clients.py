"""What 500 clients that send next to nothing do to the others: predict latency alone and beside them.

    python benchmarks/slow_clients.py [--sockets 500] [--seconds 10] [--repeats 3]

The server is `breadcrumbs serve` on the embedded bundle. Each slow client opens a connection and sends a byte of a
request a second; when the server closes it, it opens another.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from breadcrumbs import models

PORT = 8951
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
PHOTO = Path(models.__file__).parent / "demo" / "samples" / "9-0.png"


def trickle(count: int, over: threading.Event) -> None:
    """Keep slow connections open until it is over."""
    places = [0] * count
    sockets = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(count)]
    while not over.wait(1.0):
        for index, one in enumerate(sockets):
            try:
                one.sendall(HEAD[places[index] : places[index] + 1] or b"x")
                places[index] += 1
            except OSError:
                with contextlib.suppress(OSError):
                    sockets[index], places[index] = socket.create_connection(("127.0.0.1", PORT)), 0
    for one in sockets:
        one.close()


def ask(seconds: float) -> list[float]:
    """Sorted milliseconds of predictions, one after the other; each must be right."""
    took, until, photo = [], time.monotonic() + seconds, PHOTO.read_bytes()
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}") as client:
        while time.monotonic() < until:
            began = time.perf_counter()
            answer = client.post("/v1/predict", content=photo, headers={"content-type": "image/png"})
            took.append(1000 * (time.perf_counter() - began))
            assert answer.status_code == 200, answer.text
    return sorted(took)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        line = [
            sys.executable,
            "-m",
            "breadcrumbs",
            "serve",
            "--store",
            store,
            "--port",
            str(PORT),
            "--access-log",
            "none",
        ]
        server = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        while not _ready():
            time.sleep(0.1)
        found: dict[str, list[list[float]]] = {"alone": [], "beside": []}
        for _ in range(given.repeats):
            found["alone"].append(ask(given.seconds))
            over = threading.Event()
            slow = threading.Thread(target=trickle, args=(given.sockets, over))
            slow.start()
            time.sleep(2)
            found["beside"].append(ask(given.seconds))
            over.set()
            slow.join()
        server.terminate()
        server.wait(60)
    for name, runs in found.items():
        p50, p99 = (statistics.median(run[int(share * len(run))] for run in runs) for share in (0.5, 0.99))
        print(f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {sum(map(len, runs))} answers, all right")


def _ready() -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{PORT}/readyz").is_success
    return False


if __name__ == "__main__":
    main()
