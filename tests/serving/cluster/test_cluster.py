"""The server on a real Ray cluster of several nodes on this machine: replicas, their loss, and refits elsewhere."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from patience import PATIENCE
from tiny import picture, png, tiny_head, tiny_snapshot, write_bundle

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.cluster.settings import ClusterSettings
from breadcrumbs.serving.processes.child import family
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

pytest.importorskip("ray", reason="Ray, the extra `cluster`, is not installed")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of what it uses of pydantic
    import ray
    from ray.cluster_utils import Cluster

    from breadcrumbs.serving.cluster import application as clusters
    from breadcrumbs.serving.cluster import refits
    from breadcrumbs.serving.cluster.connection import ClusterError, connected
    from breadcrumbs.serving.cluster.refit_task import Resources

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_refit.py"))
IMAGE = {"content-type": "image/png"}
ACTOR = "ray::Refits"
REPLICA = "ray::ServeReplica:breadcrumbs:replicas"
WORKER = "ray::Attempt"


class Machines:
    """A Ray cluster of a head without CPUs and two nodes, and what runs on it."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        memory = {"object_store_memory": 100 * 2**20}
        self.ray = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
        self._memory = memory
        self.nodes = [self.add(), self.add()]
        bundle = write_bundle(folder / "bundle")
        self.store = Store.open(folder / "store")
        self.bundle = bundle
        self.settings = Settings(
            bundle=bundle.folder, store=str(folder / "store"), port=self.port, device="cpu", max_batch=8, follow=0.1,
            max_image_bytes=60_000, receipt=2,
        )  # fmt: skip
        self.cluster = ClusterSettings(
            address=self.ray.address, min_replicas=3, max_replicas=3, cpus=0.5, refit_cpus=0.5
        )

    def add(self) -> Any:
        return self.ray.add_node(num_cpus=2, **self._memory)

    def processes(self, kind: str) -> list[int]:
        """Processes of this cluster, and of no other, whose title begins so."""
        roots = [info.process.pid for node in self.ray.list_all_nodes() for info in node.all_processes["raylet"]]
        return [pid for root in roots for pid in family(root) if title(pid).startswith(kind)]


def all_run() -> bool:
    """Whether Ray says that three replicas run."""
    one = clusters.state("breadcrumbs")
    return one is not None and one.status == "RUNNING" and one.deployments["replicas"].replica_states == {"RUNNING": 3}


def title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def until(true: Callable[[], Any], what: str) -> Any:
    """What `true` returns, as soon as it is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if found := true():
                return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not in {PATIENCE} s")


def ends_without_its_proxy(start: Callable[..., Any]) -> Callable[..., Any]:
    """Ray Serve's start as on a busy machine: it starts, and fails, since the proxy it waited for was replaced."""
    calls = []

    def starts(**options: Any) -> Any:
        calls.append(start(**options))
        if len(calls) == 1:
            raise ray.exceptions.ActorDiedError
        return calls[-1]

    return starts


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """The cluster with three replicas; at its end no process of it is left."""
    made = Machines(tmp_path_factory.mktemp("cluster"))
    everything: list[int] = []
    try:
        with connected(made.ray.address), pytest.MonkeyPatch.context() as patch:
            patch.setattr(clusters.serve, "start", ends_without_its_proxy(clusters.serve.start))
            clusters.up(made.settings, made.cluster, (*FAKE, "waits", str(made.gate)))
            yield made
            roots = [
                one.process.pid
                for node in made.ray.list_all_nodes()
                for all_ in node.all_processes.values()
                for one in all_
            ]
            everything = [pid for root in roots for pid in family(root)]
    finally:
        made.ray.shutdown()
    until(lambda: not any(title(pid).startswith("ray::") for pid in everything), "the end of Ray's processes")


@pytest.fixture
def http(machines: Machines) -> Iterator[httpx.Client]:
    """A client that asks whichever proxy takes the connection."""
    with httpx.Client(base_url=f"http://127.0.0.1:{machines.port}", timeout=PATIENCE) as client:
        yield client


def ask(client: httpx.Client, tries: int = 1, line: str = "default") -> tuple[httpx.Response | None, int]:
    """Predict by the client's rules: a lost connection, 502, 503 and 504 are tried again, after longer and longer."""
    answer = None
    for number in range(tries):
        try:
            answer = client.post("/v1/predict", params={"line": line}, content=png(picture()), headers=IMAGE)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code not in {502, 503, 504}:
            return answer, number
        time.sleep(min(0.1 * 2**number, 5.0))
    return answer, tries


def versions(client: httpx.Client, line: str = "default") -> dict[str, int]:
    """The head of each replica by its newest answer, asked over many connections: a proxy prefers its own node's."""
    found: dict[str, int] = {}
    for _ in range(30):
        with httpx.Client(base_url=client.base_url, timeout=PATIENCE, verify=False) as fresh:
            for _ in range(3):
                answer, _ = ask(fresh, 8, line)
                assert answer is not None
                found[answer.headers["x-replica"]] = answer.json()["head"]["version"]
    return found


def test_replicas_answer_as_one_server(machines: Machines, http: httpx.Client) -> None:
    """Three of them, with one head in the store, one request id an answer, and errors in the one shape."""
    found = until(lambda: len(versions(http)) == 3 and versions(http), "answers of three replicas")
    named = http.post("/v1/predict", content=b"no image", headers={**IMAGE, "x-request-id": "mine"})
    ready = http.get("/readyz").json()
    elsewhere = http.get("/healthz", headers={"host": "evil.example"})

    assert set(found.values()) == {1}
    assert http.get("/v1/heads").json()["live"] == 1
    assert named.headers.get_list("x-request-id") == ["mine"]
    assert (named.status_code, named.json()["error"]["type"]) == (422, "image")
    assert ready["status"] == "ready"
    assert elsewhere.status_code == 403


def test_limits_hold_behind_rays_proxy(machines: Machines, http: httpx.Client) -> None:
    """A body that is too large is refused while it comes, one that comes too slowly after the time for it."""

    def slowly() -> Iterator[bytes]:
        yield b"x"
        time.sleep(4)
        yield b"x"

    large = http.post("/v1/predict", content=io.BytesIO(bytes(10_000_000)), headers=IMAGE)
    slow = http.post("/v1/predict", content=slowly(), headers=IMAGE)

    assert (large.status_code, large.json()["error"]["type"]) == (413, "too_large")
    assert (slow.status_code, slow.json()["error"]["type"]) == (408, "timeout")


def test_an_activation_reaches_every_replica(machines: Machines, http: httpx.Client) -> None:
    """Whichever was asked for it; so does a canary, which it ends; in a line, too, and other lines keep their heads."""
    record = asyncio.run(heads.add(machines.store, tiny_head(7), machines.bundle, Lineage(parent=1), {}))
    tried = asyncio.run(heads.add(machines.store, tiny_head(9), machines.bundle, Lineage(parent=1), {}))
    trial = http.post("/v1/trials", json={"head": tried.version, "mode": "canary", "share": 1}).json()["start"][
        "number"
    ]
    until(lambda: set(versions(http).values()) == {tried.version}, "the canary on every replica")
    done = http.post(f"/v1/heads/{record.version}/activate", json={"reason": "test"})

    until(lambda: set(versions(http).values()) == {record.version}, "the new head on every replica")
    assert done.status_code == 200
    assert len(versions(http)) == 3
    end = until(lambda: http.get(f"/v1/trials/{trial}").json()["end"], "the end of the canary")
    assert end["outcome"] == "overtaken"
    assert http.put("/v1/lines/lab-a", json={"head": 1}).status_code == 201
    assert set(versions(http, "lab-a").values()) == {1}
    assert http.post(f"/v1/heads/{record.version}/activate", params={"line": "lab-a"}).status_code == 200
    until(lambda: set(versions(http, "lab-a").values()) == {record.version}, "the line's head on every replica")
    assert http.post("/v1/heads/rollback", params={"line": "lab-a"}).json()["head"] == 1
    until(lambda: set(versions(http, "lab-a").values()) == {1}, "the line's rollback on every replica")
    assert set(versions(http).values()) == {record.version}


def test_no_request_fails_when_a_replica_and_then_a_node_is_lost(machines: Machines, http: httpx.Client) -> None:
    """By the client's rules; there are three replicas again, the trial that ran goes on, and a line keeps its head."""
    over, counts = threading.Event(), Counter[str]()
    tried = asyncio.run(heads.add(machines.store, tiny_head(11), machines.bundle, Lineage(parent=1), {}))
    body = {"head": tried.version, "mode": "canary", "share": 0.5}
    assert http.put("/v1/lines/lab-b", json={"head": 1}).status_code == 201
    trial = http.post("/v1/trials", json=body).json()["start"]["number"]

    def user() -> None:
        while not over.is_set():
            with httpx.Client(base_url=http.base_url, timeout=PATIENCE, verify=False) as client:
                for line in ("default", "lab-b") * 10:
                    answer, again = ask(client, 12, line)
                    counts["tried again"] += again
                    if answer is None or answer.status_code != 200:
                        counts["failed"] += 1
                        continue
                    counts["answered"] += 1
                    counts["of another head"] += line == "lab-b" and answer.json()["head"]["version"] != 1

    users = [threading.Thread(target=user) for _ in range(4)]
    for one in users:
        one.start()
    try:
        until(lambda: counts["answered"] > 20, "load")
        victim = machines.processes(REPLICA)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(machines.processes(REPLICA)) == 3 and all_run(), "a new replica")
        machines.ray.remove_node(machines.nodes.pop(), allow_graceful=False)
        before = counts["answered"]
        until(lambda: len(machines.processes(REPLICA)) == 3 and all_run(), "replicas elsewhere")
        until(lambda: counts["answered"] > before + 20, "load after the loss")
    finally:
        over.set()
        for one in users:
            one.join()

    assert (counts["failed"], counts["of another head"]) == (0, 0)
    assert counts["answered"] > 40
    assert http.delete(f"/v1/trials/{trial}").json()["end"]["outcome"] == "ended"
    assert len(until(lambda: len(versions(http)) == 3 and versions(http), "answers of three replicas")) == 3


@pytest.fixture
def gate(machines: Machines) -> Iterator[Path]:
    """Refits wait until this file is there."""
    machines.gate.unlink(missing_ok=True)
    yield machines.gate
    machines.gate.unlink(missing_ok=True)


def started(machines: Machines, client: httpx.Client, **spec: Any) -> str:
    """Start a refit; it is at its gate when this returns."""
    answer = client.post("/v1/refit", json={"spec": {"use_bundle_snapshots": True} | spec})
    assert answer.status_code == 202, answer.text
    job = str(answer.json()["id"])
    until(lambda: children(machines), "the refit's program")
    return job


def children(machines: Machines) -> list[int]:
    """The programs of refits that run."""
    return [pid for worker in machines.processes(WORKER) for pid in family(worker)[1:] if FAKE[1] in title(pid)]


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """A refit, once it has ended."""

    def look() -> Any:
        found = client.get(f"/v1/refit/{job}").json()
        return found if found["state"] not in {"queued", "running"} else None

    found: dict[str, Any] = until(look, "the refit's end")
    return found


def events(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    """What was told of a refit."""
    lines = client.get(f"/v1/refit/{job}/events").text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_a_head_is_live_on_every_replica_before_its_report(machines: Machines, http: httpx.Client, gate: Path) -> None:
    """The files that decide come back from the worker while its program goes on."""
    hold = gate.with_suffix(".hold")
    hold.touch()
    job = started(machines, http, activate="always")
    gate.touch()
    until(lambda: http.get(f"/v1/refit/{job}").json()["verdict"], "a verdict")
    during = http.get(f"/v1/refit/{job}").json()
    until(lambda: set(versions(http).values()) == {during["verdict"]["head"]}, "the new head on every replica")
    hold.unlink()
    done = ended(http, job)

    assert (during["state"], during["report"], during["verdict"]["activated"]) == ("running", None, True)
    assert (done["state"], done["verdict"]) == ("succeeded", during["verdict"])
    assert done["report"] is not None


def test_a_refit_survives_the_loss_of_its_worker(machines: Machines, http: httpx.Client, gate: Path) -> None:
    """It is started again, says so, and its head goes live on every replica. On a machine under load Ray may lose the
    next worker too; that is one more try.
    """
    job = started(machines, http, activate="always")
    (child,) = children(machines)
    (worker,) = machines.processes(WORKER)
    os.kill(worker, signal.SIGKILL)
    until(lambda: not title(child), "the end of the lost worker's program")
    gate.touch()
    done = ended(http, job)

    assert done["state"] == "succeeded", done
    stages = [one["stage"] for one in events(http, job) if one["event"] == "stage"]
    assert (stages[0], stages[-1]) == ("waiting", "read")
    assert 1 <= stages.count("restarted") <= Resources().retries
    assert done["verdict"]["activated"]
    until(lambda: set(versions(http).values()) == {done["verdict"]["head"]}, "the new head on every replica")


def test_a_refit_survives_the_loss_of_who_runs_refits(machines: Machines, http: httpx.Client, gate: Path) -> None:
    """The same job is queued again and done by the next one."""
    job = started(machines, http)
    (owner,) = machines.processes(ACTOR)
    os.kill(owner, signal.SIGKILL)
    until(lambda: machines.processes(ACTOR) not in ([], [owner]) and children(machines), "the next one")
    gate.touch()
    done = ended(http, job)

    assert done["state"] == "succeeded", done
    states = [one["state"] for one in events(http, job) if one["event"] == "state"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]


def test_a_refit_is_cancelled_through_any_replica(machines: Machines, http: httpx.Client, gate: Path) -> None:
    """Its program is gone, and the worker's reservation with it: the next refit runs."""
    job = started(machines, http)
    (child,) = children(machines)
    cancelled = http.delete(f"/v1/refit/{job}")
    until(lambda: not title(child), "the end of the program")
    gate.touch()
    later = http.post("/v1/refit", json={}).json()["id"]

    assert cancelled.json()["state"] == "cancelled"
    assert ended(http, later)["state"] == "succeeded"


def test_the_program_that_users_have_refits_on_a_worker(machines: Machines, http: httpx.Client) -> None:
    """Another program takes the place of the tests' own; the refit is real, with torch, and so is its report."""
    (before,) = machines.processes(ACTOR)
    each = machines.cluster.of_replica(machines.settings)
    for _ in range(2):  # the second time it is there
        refits.place("breadcrumbs", each, REFIT, Resources(cpus=0.5))
    (after,) = machines.processes(ACTOR)
    look = snapshots.to_bytes(tiny_snapshot(machines.bundle.backbone_digest, epoch=3, rows=90))
    kept = http.put("/v1/snapshots", content=look).json()["sha256"]
    spec = {"activate": "never", "use_bundle_snapshots": False}
    done = ended(http, http.post("/v1/refit", json={"snapshots": [kept], "spec": spec}).json()["id"])

    assert before != after
    assert done["state"] == "succeeded", done
    assert done["report"]["format"] == "breadcrumbs.refit/2"


def test_down_takes_everything_away(machines: Machines, http: httpx.Client) -> None:
    """The last test of the file: nobody answers, and status says so in one sentence."""
    clusters.down("breadcrumbs")

    until(lambda: not machines.processes(REPLICA) + machines.processes(ACTOR), "the end of the replicas")
    with pytest.raises(ClusterError, match="there is no application 'breadcrumbs' on this cluster"):
        clusters.status("breadcrumbs")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{http.base_url}/healthz")
