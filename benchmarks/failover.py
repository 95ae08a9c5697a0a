"""What users feel when replicas and machines go: a real Ray cluster on this machine under load, parts of it killed.

    python benchmarks/failover.py [--nodes 3] [--replicas 4] [--users 4] [--seconds 30] [--activations 100]

Each node is a raylet of its own with its own proxy and workers. First the time from an activation until all replicas
answer from the new head. Then load while one replica is killed, then a whole node, then `up` again: requests that
failed before a client asks again by the rules (a lost connection, 502, 503, 504; waits 0.1, 0.2, 0.4 … s), after it,
and the seconds until 90 % of the rate before. Exit status 1 if a request failed for good.
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import json
import math
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from ray.cluster_utils import Cluster

from breadcrumbs.models import bundle as bundles
from breadcrumbs.serving.cluster import application as clusters
from breadcrumbs.serving.cluster.connection import connected
from breadcrumbs.serving.cluster.settings import ClusterSettings
from breadcrumbs.serving.processes.child import family
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

TRIES = 12
AGAIN = {502, 503, 504}
REPLICA = b"ray::ServeReplica:breadcrumbs:replicas"


class Row(NamedTuple):
    """One request: when it ended, how often it was asked again, how it ended at last."""

    at: float
    again: int
    status: int


def predict(port: int, image: bytes, connection: http.client.HTTPConnection | None = None) -> tuple[int, str, int]:
    """Ask once; returns status, replica and head, 0 where no answer came."""
    one = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        one.request("POST", "/v1/predict", image, {"content-type": "image/png"})
        answer = one.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        one.close()
        return 0, "", 0
    if connection is None:
        one.close()
    if answer.status != 200:
        return answer.status, "", 0
    return 200, answer.headers["x-replica"], json.loads(body)["head"]["version"]


def use(port: int, image: bytes, over: threading.Event, rows: list[Row]) -> None:
    """One user: a request at a time, each asked again by the rules; a fresh connection after 50."""
    while not over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(50):
            again = 0
            while (status := predict(port, image, connection)[0]) in AGAIN | {0} and again < TRIES:
                time.sleep(min(0.1 * 2**again, 5.0))
                again += 1
            rows.append(Row(time.monotonic(), again, status))
        connection.close()


def activations(taken: list[float], count: int, nodes: int) -> str:
    """The sorted seconds until all answered from a new head, as a table."""
    p99 = taken[math.ceil(0.99 * len(taken)) - 1]
    return (
        "| replicas, nodes | activations | until all answer from it: p50, p99, most |\n| --- | --- | --- |\n"
        f"| {count}, {nodes} | {len(taken)} | {statistics.median(taken):.2f}, {p99:.2f}, {taken[-1]:.2f} s |\n"
    )


def replicas(cluster: Cluster) -> list[int]:
    """Processes of replicas, of this cluster alone."""
    found = []
    for node in cluster.list_all_nodes():
        for raylet in node.all_processes["raylet"]:
            for pid in family(raylet.process.pid):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(REPLICA):
                        found.append(pid)
    return found


def propagate(port: int, image: bytes, count: int, times: int) -> list[float]:
    """Seconds from the answer to an activation until every replica has answered from the new head."""
    taken = []
    for number in range(times):
        version = 1 + (number + 1) % 2
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        one.request("POST", f"/v1/heads/{version}/activate", b"{}", {"content-type": "application/json"})
        answer = one.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read())
        began, seen = time.monotonic(), set[str]()
        one.close()
        until = began + 60
        while len(seen) < count:
            _, replica, head = predict(port, image)
            if head == version:
                seen.add(replica)
            if time.monotonic() > until:
                raise RuntimeError(f"{len(seen)} of {count} replicas answer from head {version} after 60 s")
        taken.append(time.monotonic() - began)
    return taken


def recovery(name: str, rows: list[Row], at: float, until: float) -> str:
    """What rows say of an event, as a row: failures before and after asking again, and when the rate was back."""
    before = sum(at - 5 <= row.at < at for row in rows) / 5
    later = [row for row in rows if at <= row.at < until]
    retried = sum(row.again > 0 for row in later)
    failed = sum(row.status != 200 for row in later)
    back = next((second for second in range(int(until - at)) if rate(later, at + second) >= 0.9 * before), None)
    seconds = "not within the time" if back is None else f"{back} s"
    return f"| {name} | {len(later)} | {retried} | {failed} | {before:.0f} | {seconds} |"


def rate(rows: list[Row], second: float) -> float:
    """Answers a second in the two seconds from `second` on."""
    return sum(second <= row.at < second + 2 and row.status == 200 for row in rows) / 2


def settle(count: int) -> None:
    """Wait until Ray says that all replicas run."""
    while True:
        one = clusters.state("breadcrumbs")
        if one is not None and one.deployments["replicas"].replica_states == {"RUNNING": count}:
            return
        time.sleep(0.2)


def main() -> None:
    """Kill, count, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--activations", type=int, default=100)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    memory: dict[str, Any] = {"object_store_memory": 100 * 2**20}
    ray = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    nodes = [ray.add_node(num_cpus=given.replicas, **memory) for _ in range(given.nodes)]
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)).save(file, "PNG")
    image, rows, over = file.getvalue(), list[Row](), threading.Event()
    with tempfile.TemporaryDirectory(prefix="breadcrumbs-failover-") as store, connected(ray.address):
        settings = Settings(store=store, port=port, device="cpu", access_log="none", refit="off")
        wanted = ClusterSettings(address=ray.address, min_replicas=given.replicas, max_replicas=given.replicas, cpus=1)
        clusters.up(settings, wanted)
        bundle = bundles.read(settings.bundle)
        asyncio.run(heads.add(Store.open(store), bundle.head(), bundle, Lineage(parent=1), {}))
        taken = sorted(propagate(port, image, given.replicas, given.activations))
        print(activations(taken, given.replicas, given.nodes), flush=True)
        users = [threading.Thread(target=use, args=(port, image, over, rows)) for _ in range(given.users)]
        for user in users:
            user.start()
        events: list[tuple[str, Callable[[], object]]] = [
            ("a replica killed", lambda: os.kill(replicas(ray)[0], signal.SIGKILL)),
            ("a node killed", lambda: ray.remove_node(nodes.pop(), allow_graceful=False)),
            ("up again", lambda: clusters.up(settings, wanted)),
        ]
        print("| event | requests | failed at first | failed for good | requests/s before | 90 % of it after |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        try:
            time.sleep(5)
            for name, act in events:
                began = time.monotonic()
                act()
                time.sleep(given.seconds)
                ended = time.monotonic()
                print(recovery(name, rows, began, ended), flush=True)
                settle(given.replicas)
        finally:
            over.set()
            for user in users:
                user.join()
        clusters.down("breadcrumbs")
    ray.shutdown()
    sys.exit(any(row.status != 200 for row in rows))


if __name__ == "__main__":
    main()
