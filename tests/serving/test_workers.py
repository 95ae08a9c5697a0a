"""`breadcrumbs serve --workers N`: several processes on one port, as an operator starts them."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from forked import Program, started
from patience import PATIENCE, soon
from refits import events, finish, upload
from running import make_settings, running
from tiny import picture, png, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.http.listening import AddressError, shared
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.workers import WorkersError, run, share

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}
RUN = """
import sys
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving import workers
workers.PATIENCE = float(sys.argv[2])
workers.run(Settings.model_validate_json(sys.argv[1]))
"""


class Several:
    """A running server of several processes."""

    def __init__(self, process: Program) -> None:
        self.process = process
        self.url = "http://" + self.wait(r"processes serve on (\S+)")[1]

    def wait(self, pattern: str) -> re.Match[str]:
        """Return the first line of the log that matches, once it is there."""
        found: re.Match[str] = self.process.tells(lambda told: re.search(pattern, told))
        return found

    def workers(self) -> list[int]:
        """The process ids of the children."""
        return [
            int(word) for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def client(self) -> httpx.Client:
        """A client that makes a connection of its own for each request, so that the kernel chooses a process."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE, verify=False, headers={"connection": "close"})


@contextlib.contextmanager
def several(bundle: Bundle, store: Path, patience: float = 60, **more: object) -> Iterator[Several]:
    """Start `run` in a process of its own and end it in order."""
    given = {
        "bundle": str(bundle.folder),
        "store": str(store),
        "port": 0,
        "device": "cpu",
        "workers": 2,
        "follow": 0.05,
    }
    with started(json.dumps(given | more), str(patience), code=RUN) as process:
        yield Several(process)
        process.send(signal.SIGTERM)
        process.wait()


def heads_of(client: httpx.Client, tries: int = 40, line: str = "") -> set[int]:
    """The versions that answer, over many connections."""
    path = f"/v1/predict?line={line}" if line else "/v1/predict"
    answers = [client.post(path, content=png(picture()), headers=PNG) for _ in range(tries)]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.json()["head"]["version"] for answer in answers}


def test_several_processes_are_one_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """One port, one /metrics; all know heads, lines and refits; a killed one is replaced; SIGTERM ends all with 0."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as alone:
        assert finish(alone, {"spec": {"activate": "never"}})["verdict"]["head"] == 2
    with several(tiny_bundle, tmp_path / "store") as server, server.client() as client:
        assert heads_of(client) == {1}
        numbers = client.get("/metrics").text
        counts = re.findall(r'breadcrumbs_requests_total\{code="200",route="/v1/predict"\} (\S+)', numbers)
        assert [float(count) for count in counts] == [40]
        assert len(server.workers()) == 2
        for name in ("resident_memory_bytes", "open_fds", "cpu_seconds_total", "start_time_seconds"):
            told = re.findall(rf'^process_{name}\{{pid="(\d+)"\}} \S+$', numbers, re.MULTILINE)
            assert sorted(map(int, told)) == sorted(server.workers())

        made = client.post("/v1/refit", json={"snapshots": [upload(client)]})
        *_, last = events(client, made.json()["id"])
        seen = [client.get(f"/v1/refit/{made.json()['id']}").json() for _ in range(20)]
        assert {job["state"] for job in seen} == {last["state"]}
        assert made.status_code == 202

        assert client.post("/v1/heads/2/activate", json={}).status_code == 200
        deadline = time.monotonic() + PATIENCE
        while heads_of(client) != {2}:
            assert time.monotonic() < deadline, "head 2 did not reach every process"
        assert "breadcrumbs_head_info{digest=" in client.get("/metrics").text

        assert client.put("/v1/lines/lab-a", json={"head": 1}).status_code == 201
        assert heads_of(client, line="lab-a") == {1}  # whichever process is asked finds it at once
        assert client.post("/v1/heads/2/activate?line=lab-a", json={}).status_code == 200
        soon(lambda: heads_of(client, line="lab-a") == {2}, "the line's head in every process")

        before = server.workers()
        os.kill(max(before), signal.SIGKILL)
        server.wait(r"ended with status -9; restarting it")
        assert heads_of(client) == {2}, "who connects meanwhile waits, and is answered"
        assert len(set(server.workers()) - set(before)) == 1
        after = re.findall(
            r'breadcrumbs_requests_total\{code="200",route="/v1/predict"\} (\S+)', client.get("/metrics").text
        )
        assert float(after[0]) >= 120, "what the dead one counted is not lost"
        told = re.findall(r'^process_open_fds\{pid="(\d+)"\}', client.get("/metrics").text, re.MULTILINE)
        assert sorted(map(int, told)) == sorted(server.workers())
    assert server.process.status == 0


def test_a_process_that_no_longer_answers_is_replaced(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A stopped process counts as one that hangs; the other answers meanwhile."""
    with several(tiny_bundle, tmp_path / "store", patience=5) as server, server.client() as client:
        stopped = max(server.workers())
        os.kill(stopped, signal.SIGSTOP)
        server.wait(r"has not answered for 5 s: killed")
        server.wait(r"ended with status -9; restarting it")
        assert heads_of(client) == {1}
        assert stopped not in server.workers()


def test_new_connections_are_refused_as_soon_as_it_is_told_to_end(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """While requests in flight are still answered, and long before the processes have ended."""
    body = png(picture())
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with several(tiny_bundle, tmp_path / "store") as server:
        host, port = server.url.removeprefix("http://").split(":")
        flying = [socket.create_connection((host, int(port)), timeout=60) for _ in range(8)]
        for one in flying:
            one.sendall(head.encode() + body[:-1])
        with server.client() as client:
            assert client.get("/healthz").is_success
        server.process.send(signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):  # noqa: PT012 - those before the signal came are accepted
            for _ in range(1_000):
                socket.create_connection((host, int(port)), timeout=60).close()
                time.sleep(0.02)
        running_still = [pid for pid in server.workers() if Path(f"/proc/{pid}").exists()]
        answers = []
        for one in flying:
            one.sendall(body[-1:])
            answers.append(one.recv(65_536)[:12])
            one.close()

    assert len(running_still) == 2
    assert answers == [b"HTTP/1.1 200"] * 8
    assert server.process.status == 0


def test_a_process_that_serves_is_set_up(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A group of its own, which Ctrl-C does not reach; the keeper's session; image decoders loaded before any image."""
    with several(tiny_bundle, tmp_path / "store") as server:
        for pid in server.workers():
            assert os.getpgid(pid) == pid
            assert os.getsid(pid) == os.getsid(server.process.pid)
            assert "/_webp." in Path(f"/proc/{pid}/maps").read_text()


def test_nobody_is_left_when_the_keeper_is_killed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The processes see that they are alone, and end."""
    with several(tiny_bundle, tmp_path / "store") as server:
        left = server.workers()
        server.process.send(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while any(Path(f"/proc/{pid}").exists() and "(" in Path(f"/proc/{pid}/stat").read_text() for pid in left):
            assert time.monotonic() < deadline, "processes were left"
            time.sleep(0.1)


@pytest.mark.usefixtures("logging_as_before")
def test_a_server_that_cannot_start_says_why_and_ends(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A bundle that is not there: one sentence of the first process, no second try, no process left."""
    with pytest.raises(WorkersError, match="process 0 did not start: exit status 2"):
        run(Settings(bundle=tmp_path / "none", store=str(tmp_path / "store"), port=0, workers=2))


def test_a_port_that_is_taken_is_not_shared() -> None:
    """Though the kernel would let two servers of one user have it."""
    (first,) = shared("127.0.0.1", 0, 1)
    with first, pytest.raises(AddressError, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use"):
        shared("127.0.0.1", first.getsockname()[1], 2)


def test_connections_are_spread_over_all_sockets() -> None:
    """Of 200 connections each of two sockets gets some; all on one port."""
    sockets = shared("127.0.0.1", 0, 2)
    ports = {one.getsockname()[1] for one in sockets}
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(200)]
    got = []
    for one in sockets:
        one.setblocking(False)
        taken = []
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(one.accept()[0])
        got.append(len(taken))
        for each in [*taken, one]:
            each.close()
    for each in clients:
        each.close()

    assert len(ports) == 1
    assert sum(got) == 200
    assert min(got) > 0


def test_cores_are_shared_out_and_refits_stay_single() -> None:
    """Each process computes with its part of the cores; the first alone runs refits; who asked for none, gets none."""
    settings = Settings(workers=3, threads=2)
    assert [share(settings, index).refit for index in range(3)] == ["here", "elsewhere", "elsewhere"]
    assert {share(settings, index).threads for index in range(3)} == {2}
    assert share(Settings(workers=64), 0).threads == 1
    assert [share(Settings(workers=2, refit="off"), index).refit for index in range(2)] == ["off", "off"]


def test_a_trial_runs_on_every_process(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A canary that answers all is met everywhere but in a line, the counts are one sum, and its end reaches all."""
    with several(tiny_bundle, tmp_path / "store") as server, server.client() as client:
        assert heads_of(client) == {1}
        asyncio.run(heads.add(Store.open(tmp_path / "store"), tiny_head(5), tiny_bundle, Lineage(), {}))
        body = {"head": 2, "mode": "canary", "share": 1.0}
        assert client.post("/v1/trials", json=body).status_code == 201
        soon(lambda: heads_of(client) == {2}, "the canary on every process")
        assert client.put("/v1/lines/lab-a", json={"head": 1}).status_code == 201
        assert heads_of(client, line="lab-a") == {1}
        before = client.get("/v1/trials/1").json()["answered"].get("2", 0)
        assert heads_of(client) == {2}
        soon(lambda: client.get("/v1/trials/1").json()["answered"]["2"] >= before + 40, "the counts of all")
        assert client.delete("/v1/trials/1").status_code == 200
        soon(lambda: heads_of(client) == {1}, "the end on every process")
