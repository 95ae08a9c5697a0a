"""How long until a head that one server made live answers from all: several servers on one store, under predictions.

    python benchmarks/propagation.py [--servers 4] [--activations 100] [--follow 0.5]

Each server is a `breadcrumbs serve` of its own. Two heads go live in turn, through one server after the other, at
random times; every server is asked to predict without pause, and says which head answered. The limit is `--follow`,
which is how often a server looks: the time of a perfect follower is evenly spread between 0 and it.
"""

import argparse
import contextlib
import math
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from breadcrumbs import models
from breadcrumbs.serving.client.client import Client, ServerError

PHOTO = Path(models.__file__).parent / "demo" / "samples" / "9-0.png"
WAIT = 0.02
"""Seconds between two questions to a server."""


@contextlib.contextmanager
def serving(count: int, store: str, follow: float) -> Iterator[list[Client]]:
    """Start servers on a store, one after the other, and give a client of each."""
    line = [sys.executable, "-m", "breadcrumbs", "serve", "--store", store, "--follow", str(follow)]
    line += ["--access-log", "none", "--threads", "1"]
    processes, clients = [], []
    try:
        for index in range(count):
            port = free_port()
            flags = ["--port", str(port), *(["--refit", "elsewhere"] if index else [])]
            processes.append(subprocess.Popen([*line, *flags], stderr=subprocess.DEVNULL))
            clients.append(Client(f"http://127.0.0.1:{port}"))
            wait(clients[-1], processes[-1])
        yield clients
    finally:
        for client in clients:
            client.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait(client: Client, process: "subprocess.Popen[bytes]") -> None:
    """Return once a server is ready; an error where it has ended, or needs more than a minute."""
    for _ in range(600):
        with contextlib.suppress(ServerError):
            client.ready()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"no server at {client.url}; exit status {process.poll()}")


class Watch:
    """Asks one server again and again which head answers, and writes down when that changed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.seen: list[tuple[float, int]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()

    def _ask(self) -> None:
        photo = PHOTO.read_bytes()
        while not self.over.wait(WAIT):
            head = self._client.predict([photo]).head.version
            if not self.seen or self.seen[-1][1] != head:
                self.seen.append((time.monotonic(), head))


def changes(clients: Sequence[Client], count: int) -> list[tuple[float, int]]:
    """Make two heads live in turn, through one server after the other; when each was acknowledged."""
    made = []
    for number in range(count):
        version = 2 - number % 2
        clients[number % len(clients)].activate(version)
        made.append((time.monotonic(), version))
        time.sleep(1.2 + random.random() / 2)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--activations", type=int, default=100)
    parser.add_argument("--follow", type=float, default=0.5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as store, serving(given.servers, store, given.follow) as clients:
        job = clients[0].wait(clients[0].refit().id)
        assert job.verdict is not None and job.verdict.head == 2, job  # noqa: PT018 - two heads are needed
        clients[0].activate(1)
        time.sleep(2 * given.follow)
        watches = [Watch(client) for client in clients]
        time.sleep(1)
        made = changes(clients, given.activations)
        for watch in watches:
            watch.over.set()
            watch.thread.join()
    print(table(made, watches, given.follow))


def table(made: list[tuple[float, int]], watches: Sequence[Watch], follow: float) -> str:
    """The seconds from each acknowledgement until the last server answered with that head, as a row."""
    last = []
    for at, version in made:
        waits = [next(seen - at for seen, head in watch.seen if head == version and seen > at - 1) for watch in watches]
        last.append(max(0.0, *waits))
    last.sort()
    p99 = last[math.ceil(0.99 * len(last)) - 1]
    spread = f"{statistics.median(last):.2f}, {p99:.2f}, {last[-1]:.2f} s"
    return (
        "| servers | activations | follow, s | until all: p50, p99, most | p99 over follow |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| {len(watches)} | {len(made)} | {follow} | {spread} | {p99 / follow:.2f} |"
    )


if __name__ == "__main__":
    main()
