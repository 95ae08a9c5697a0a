"""What learning from use costs a prediction: the same load on a server that remembers answers and one that does not.

    python benchmarks/serving/remember.py [--model resnet10t] [--concurrency 1 16] [--seconds 10] [--rounds 5]
        [--on "--remember 100000"] [--off ""] [--query "classes=class 1,class 2"] [--out runs/serving]

Both servers run all the time, on ports and stores of their own; they are asked in turns (off on, on off, …), one at a
time, by the load of `load.py`, which checks every answer. Printed are the medians over the rounds, and the median ratio
of the two in a round. The server's CPU time for a request, writing included, is what can be compared on a busy machine,
too. With `--query`, the requests to the one that is "on" have these parameters: `--on "" --query …`
measures the options of a request alone; its answers may then be others, and only their status is looked at.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from change import Load, right, told
from compare import PORT, TOLERANCE, python
from servers import HERE, ROOT, SERVERS, Running, running

SIDES = ("off", "on")
WRITTEN = 1.5
"""Seconds after the load, in which the last answers are written."""
ANSWERED = {"right", "wrong", "unreadable"}
"""Verdicts of a request with status 200; options of a request change what is answered."""


Values = tuple[float, float, float, float]


def measure(given: argparse.Namespace, folder: Path, users: int, side: str, server: Running) -> tuple[Values, int]:
    """Load one of the two servers for a time; requests/s, p50, p99, CPU ms, and how many answers were not right."""
    query = given.query if side == "on" else ""
    expected = {"1": str(folder / "probabilities.npy")}
    load = Load(folder, users, expected, TOLERANCE["cpu"], port=PORT + SIDES.index(side), query=query)
    before = cpu_seconds(server)
    time.sleep(given.seconds)
    rows = load.end()
    time.sleep(WRITTEN)
    spent = cpu_seconds(server) - before
    if query:
        rows = [(at, took, "right" if verdict in ANSWERED else verdict) for at, took, verdict in rows]
    return (*told(rows, given.seconds), spent / len(rows) * 1000), len(rows) - len(right(rows))


def cpu_seconds(server: Running) -> float:
    """User and system time that a server has taken so far."""
    user, system = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def cells(values: Sequence[Values]) -> str:
    """Medians of requests/s, p50, p99 and CPU time."""
    rate, p50, p99, cpu = (statistics.median(one[k] for one in values) for k in range(4))
    return f"{rate:.0f}, {p50:.2f}, {p99:.2f}, {cpu:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--on", default="--remember 100000", help="flags of one server")
    parser.add_argument("--off", default="", help="flags of the other one")
    parser.add_argument("--query", default="", help="parameters of the requests to the first")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "serving")
    given = parser.parse_args()
    folder = given.out / given.model
    if not (folder / "snapshot.safetensors").exists():
        python(HERE / "materials.py", str(given.out), given.model)
    works = {side: folder / f"work-remember-{side}" for side in SIDES}
    subprocess.run(["rm", "-rf", *map(str, works.values())], check=True)
    ours, peers = SERVERS["ours"], Path(sys.prefix)
    with (
        running(ours, folder / "bundle", works["off"], PORT, peers, given.off.split()) as off,
        running(ours, folder / "bundle", works["on"], PORT + 1, peers, given.on.split()) as on,
    ):
        servers = {"off": off, "on": on}
        print(f"on: {given.on!r} {given.query!r}; off: {given.off!r}\n")
        names = ["off: requests/s, p50, p99, CPU ms", "on", "ratio of requests/s, p50, p99, CPU", "not right"]
        print(f"| users | {' | '.join(names)} |\n{'| --- ' * 5}|")
        for users in given.concurrency:
            found: dict[str, list[Values]] = {side: [] for side in SIDES}
            wrong = 0
            for turn in range(given.rounds):
                for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                    values, missed = measure(given, folder, users, side, servers[side])
                    found[side].append(values)
                    wrong += missed
            pairs = list(zip(found["on"], found["off"], strict=True))
            ratios = [statistics.median(one[k] / other[k] for one, other in pairs) for k in range(4)]
            told_ratios = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            print(f"| {users} | {cells(found['off'])} | {cells(found['on'])} | {told_ratios} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
