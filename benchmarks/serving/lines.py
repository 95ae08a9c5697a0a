"""Lines: what many cost, beside none, in the same run and in turns.

    python benchmarks/serving/lines.py [--bundle BUNDLE] [--lines 100] [--rounds 5] [--seconds 5] [--users 8]

Three stores of one bundle: without lines, with lines that all have one head live, and with lines that have a head each.
A server is started on each in turn: seconds until it is ready, and its memory. Then one server with a head for each
line is asked in turns by requests without a line and by requests that name lines at random: answers a second, and
processor time of the server an answer; and one request that names 16 lines, beside 16 requests. At last heads go live
in the default line and in others, in turns. It prints the medians, their ratios, and nothing else.
"""

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.lines import folder
from breadcrumbs.serving.state.live_head import first
from breadcrumbs.serving.state.store import Store

DEMO = Path(__file__).parents[2] / "models" / "demo"
TOGETHER = 16
"""Lines of one request."""


async def fill(place: Path, bundle: Bundle, lines: int, own: bool) -> None:
    """Make a store with so many lines, each with a head of its own or all with one."""
    store = Store.open(place)
    await first(store, bundle, Log(store))
    base, record = bundle.head(), None
    for number in range(lines):
        if own or record is None:
            noise = np.random.default_rng(number).normal(0, 0.01, base.weight.shape).astype(np.float32)
            head = LinearHead(base.weight + noise, base.bias, base.classes)
            record = await heads.add(store, head, bundle, Lineage(parent=1), {})
        await Log(store, folder(f"line-{number}")).append(record, "api", "", kind="create")


@dataclass(frozen=True)
class Running:
    """A server, and what starting it took."""

    process: "subprocess.Popen[bytes]"
    port: int
    seconds: float

    @property
    def memory(self) -> float:
        """Resident MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(bundle: Path, store: Path) -> Iterator[Running]:
    """Start a server and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(bundle), "--store", str(store)]
    argv += ["--port", str(port), "--device", "cpu", "--access-log", "none", "--log-level", "warning"]
    began = time.perf_counter()
    with subprocess.Popen(argv) as process:
        try:
            while not ready(port):
                if process.poll() is not None:
                    sys.exit("the server ended")
                time.sleep(0.005)
            yield Running(process, port, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


def ready(port: int) -> bool:
    """Whether the server answers."""
    try:
        return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=30), "GET", "/readyz") == 200
    except OSError:
        return False


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", kind: str = "image/png"
) -> int:
    """Send one request, read its answer and return its status."""
    connection.request(method, path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def together(users: int, seconds: float, user: Callable[[int, threading.Event], None]) -> float:
    """Let users, by their numbers, ask in threads of their own until the event; return the seconds it took."""
    over, began = threading.Event(), time.perf_counter()
    threads = [threading.Thread(target=user, args=(place, over), daemon=True) for place in range(users)]
    for one in threads:
        one.start()
    time.sleep(seconds)
    over.set()
    for one in threads:
        one.join()
    return time.perf_counter() - began


def load(server: Running, users: int, seconds: float, image: bytes, path: Callable[[], str]) -> tuple[float, float]:
    """Answers a second, and milliseconds of the server's processor time an answer."""
    counts, wrong = [0] * users, list[str]()

    def user(place: int, over: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not over.is_set():
            asked = path()
            status = ask(connection, "POST", asked, image)
            if status != 200:
                wrong.append(f"{asked}: {status}")
            counts[place] += 1

    before = server.cpu
    took = together(users, seconds, user)
    if wrong:
        sys.exit(f"{len(wrong)} requests failed, such as {wrong[0]}")
    answers = sum(counts)
    return answers / took, 1000 * (server.cpu - before) / answers


def swaps(server: Running, lines: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of an activation in the default line and in others, in turns."""
    found: dict[str, list[float]] = {"default line": [], "a line": []}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for turn in range(rounds):
        number = turn % lines
        for name, query in (("default line", ""), ("a line", f"?line=line-{number}")):
            began = time.perf_counter()
            path = f"/v1/heads/{2 + (number + 1) % lines}/activate{query}"
            status = ask(connection, "POST", path, b"{}", "application/json")
            found[name].append(1000 * (time.perf_counter() - began))
            if status != 200:
                sys.exit(f"{path}: {status}")
    return found


def tell(what: str, unit: str, found: dict[str, list[float]]) -> None:
    """Print the medians, and the median of the ratios of each round to the first case."""
    (name, base), *others = found.items()
    print(f"{what}: {name} {statistics.median(base):.4g} {unit}")
    for name, values in others:
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        spread = f"{min(ratios):.3f} … {max(ratios):.3f}"
        middle = statistics.median(ratios)
        print(f"{what}: {name} {statistics.median(values):.4g} {unit}, ratio {middle:.3f} ({spread})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=DEMO)
    parser.add_argument("--lines", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--users", type=int, default=8)
    asked = parser.parse_args()
    bundle, lines = read_bundle(asked.bundle), asked.lines
    image = next((asked.bundle / "samples").glob("*.png")).read_bytes()
    cases = {"no lines": (0, False), f"{lines} lines, one head": (lines, False), f"{lines} lines": (lines, True)}
    with tempfile.TemporaryDirectory() as scratch:
        stores = {name: Path(scratch) / str(place) for place, name in enumerate(cases)}
        for name, (count, own) in cases.items():
            asyncio.run(fill(stores[name], bundle, count, own))
        starts: dict[str, list[float]] = {name: [] for name in cases}
        memory: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(asked.rounds):
            for name, store in stores.items():
                with serving(asked.bundle, store) as server:
                    starts[name].append(server.seconds)
                    memory[name].append(server.memory)
        tell("start", "s", starts)
        tell("memory", "MiB", memory)
        with serving(asked.bundle, stores[f"{lines} lines"]) as server:
            several = "&".join(f"line=line-{number % lines}" for number in range(min(TOGETHER, lines)))
            one_by_one = itertools.count()
            paths: dict[str, Callable[[], str]] = {
                "default line": lambda: "/v1/predict?top_k=5",
                "one line": lambda: "/v1/predict?line=line-0",
                f"any of {lines} lines": lambda: f"/v1/predict?line=line-{random.randrange(lines)}",
                f"{TOGETHER} lines in a request": lambda: f"/v1/predict?{several}",
                f"the same {TOGETHER} lines in turns": lambda: (
                    f"/v1/predict?line=line-{next(one_by_one) % min(TOGETHER, lines)}"
                ),
            }
            rates: dict[str, list[float]] = {name: [] for name in paths}
            costs: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(asked.rounds + 1):
                for name, path in paths.items():
                    rate, cost = load(server, asked.users, asked.seconds, image, path)
                    rates[name].append(rate)
                    costs[name].append(cost)
            tell(
                "answers", "a second", {name: values[1:] for name, values in rates.items()}
            )  # the first round warms up
            tell("server's processor time", "ms an answer", {name: values[1:] for name, values in costs.items()})
            tell("swap", "ms", swaps(server, lines, 10 * asked.rounds))
    print(json.dumps({"bundle": bundle.manifest.name, "classes": len(bundle.head().classes), "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
