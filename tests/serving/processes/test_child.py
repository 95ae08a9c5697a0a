"""The process that a refit runs in: it obeys or breaks its contract, and is stopped, limited and put last."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from patience import PATIENCE, soon
from refits import alive, finish, until, upload
from running import Serve, make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.processes import child, launch
from breadcrumbs.serving.processes.launch import Cpu
from breadcrumbs.serving.state.conversion import COMMAND


@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        ("mistake", "refit", "class 'elm' has 1 example; expected 2"),
        ("crashes", "refit", "it ended with exit status 1; the server's log has what it wrote"),
        ("silent", "refit", "it ended without saying that it was done"),
        ("mumbles", "refit", "it printed what is no JSON: b'not JSON"),
        ("rants", "refit", "it printed a line of more than 65536 bytes"),
        ("wrong-dimension", "refit", "the refit's head takes 9 features; the backbone gives 4"),
        ("loses-class", "refit", "lost a class or moved one"),
        ("half-head", "refit", "the refit left no head: head.safetensors"),
        ("half-judged", "refit", "the refit's judgement is not one: Invalid JSON"),
        ("no-judged", "refit", "the refit left no judged.json: No such file"),
        ("no-gate", "refit", "the refit's judgement is not one: gate.answer: Field required"),
        ("other-head", "refit", "the refit judged head 000000000000, and left head "),
        ("other-live", "refit", "the refit compared with head 000000000000; the live one is "),
        ("nan", "refit", "candidate_metrics.all: Input should be a finite number"),
        ("huge", "refit", "candidate_metrics.all: Input should be a finite number"),
    ],
)
def test_a_child_that_fails_or_lies_changes_nothing(serve: Serve, mode: str, kind: str, message: str) -> None:
    """The job says what was wrong, in the child's own words where it told a mistake of the user's."""
    with serve(mode) as client:
        job = finish(client)
        listing = client.get("/v1/heads").json()

    assert (job["state"], job["error"]["type"], job["verdict"]) == ("failed", kind, None)
    assert message in job["error"]["message"]
    assert "secret words" not in json.dumps(job)
    assert (listing["live"], len(listing["heads"])) == (1, 1)


@pytest.mark.parametrize("mode", ["hangs", "deaf"])
def test_cancelling_stops_the_child(serve: Serve, tmp_path: Path, mode: str) -> None:
    """Once it is answered, also one that ignores being asked for half a second; the head stays."""
    place = tmp_path / "pid"
    with serve(mode, str(place)) as client:
        job = client.post("/v1/refit", json={}).json()["id"]
        until(client, job)
        soon(lambda: place.exists() and place.read_text(), "the child's process id")
        cancelled = client.delete(f"/v1/refit/{job}")
        pid = int(place.read_text())

        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert not alive(pid)
        assert child.PATIENCE < 1
        assert client.delete(f"/v1/refit/{job}").json()["state"] == "cancelled"
        assert client.get("/v1/heads").json()["live"] == 1


def test_a_refit_over_its_time_is_stopped(serve: Serve, tmp_path: Path) -> None:
    """It has failed, with the limit in the message."""
    with serve("hangs", str(tmp_path / "pid"), refit_timeout=0.8) as client:
        job = finish(client)

    assert (job["state"], job["error"]["message"]) == (
        "failed",
        "the refit's process failed: it took longer than 0.8 s; the server's log has what it wrote",
    )


def test_a_child_that_cannot_be_started_is_told(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A server installed without its refit command says so in the job."""
    with running(make_settings(tiny_bundle, tmp_path), command=["/nowhere/breadcrumbs"]) as client:
        job = finish(client)

    assert job["state"] == "failed"
    assert "it could not be started" in job["error"]["message"]


def test_a_child_that_takes_too_much_memory_is_stopped(serve: Serve) -> None:
    """Long before the machine is short of it, and the job says so."""
    with serve("greedy", refit_memory=100 * 2**20) as client:
        job = finish(client)

        assert job["state"] == "failed"
        assert "it took more than 104857600 bytes of memory, which is the limit" in job["error"]["message"]
        assert client.get("/v1/heads").json()["live"] == 1


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_a_child_is_told_where_to_solve(serve: Serve, tmp_path: Path, device: str) -> None:
    """By the server's setting: the GPU may be kept for requests."""
    place = tmp_path / "device"
    with serve("places", str(place), refit_device=device) as client:
        assert finish(client)["state"] == "succeeded"

    assert place.read_text() == device


@pytest.mark.parametrize("cpu", ["idle", "share"])
def test_a_child_comes_last_for_the_cpu_and_first_for_the_memory(serve: Serve, tmp_path: Path, cpu: Cpu) -> None:
    """In a group of its own, its threads asleep while they wait; idle in the server's session, or a niced session."""
    place = tmp_path / "pid"
    with serve("hangs", str(place), refit_cpu=cpu) as client:
        client.post("/v1/refit", json={})
        soon(lambda: place.exists() and place.read_text(), "the child's process id")
        pid = int(place.read_text())
        own = Path(f"/proc/{pid}")

        assert (own / "oom_score_adj").read_text() == "1000\n"
        assert b"OMP_WAIT_POLICY=PASSIVE\0" in (own / "environ").read_bytes()
        assert os.getpgid(pid) == pid
        if cpu == "idle":
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            assert os.getsid(pid) == os.getsid(0)
        else:
            assert os.sched_getscheduler(pid) == os.SCHED_OTHER
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.nice(0) + launch.NICE)
            assert os.getsid(pid) == pid
            if (own / "autogroup").exists():
                assert (own / "autogroup").read_text().endswith(f"nice {launch.NICE}\n")


def test_a_child_without_its_group_yet_is_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the group itself, a moment after its start; here, never."""
    program = tmp_path / "launch.py"
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(launch, "__file__", str(program))

    async def hear(_event: dict[str, Any]) -> None:
        pytest.fail("it says nothing")

    ending = asyncio.run(child.run([sys.executable], hear, child.Limits(0.1, 2**30)))

    assert ending.broken == "it took longer than 0.1 s"


GRANDCHILD = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setsid()
    if {twice} and os.fork():
        os._exit(0)
    open({place!r} + ".new", "w").write(str(os.getpid()))
    os.rename({place!r} + ".new", {place!r})
    time.sleep(600)
while not os.path.exists({place!r}):
    time.sleep(0.01)
print('{{"event": "done"}}', flush=True)
if {stays}:
    time.sleep(600)
"""


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("how", ["limit", "one cancel", "two cancels", "five cancels"])
def test_a_grandchild_that_keeps_the_pipes_holds_nobody(tmp_path: Path, how: str, stays: bool, twice: bool) -> None:
    """A session of its own, deaf to signals, or an orphan: time limit and cancels hold.

    It is gone after them, unless its parent ended at once, before anybody could see whose child it is.
    """
    place = tmp_path / "pid"
    program = GRANDCHILD.format(place=str(place), stays=stays, twice=twice)

    async def main(seconds: float) -> str:
        told = asyncio.Event()

        async def hear(_event: dict[str, Any]) -> None:
            told.set()

        limits = child.Limits(seconds, 2**30)
        running = asyncio.create_task(child.run([sys.executable, "-c", program], hear, limits))
        telling = asyncio.create_task(told.wait())
        await asyncio.wait({running, telling}, return_when=asyncio.FIRST_COMPLETED)
        if not told.is_set():  # a busy machine had not started it by then
            place.unlink(missing_ok=True)
            return await main(4 * seconds)
        await asyncio.sleep(2 * child.POLL)  # the orphan was seen while its parent was there
        for _ in range({"limit": 0, "one cancel": 1, "two cancels": 2, "five cancels": 5}[how]):
            running.cancel()
            await asyncio.sleep(0.01)
        try:
            return (await running).broken
        except asyncio.CancelledError:
            return "cancelled"

    ended = asyncio.run(main(2.0 if how == "limit" else 2 * PATIENCE))

    assert ended.startswith("it took longer than " if how == "limit" else "cancelled")
    pid = int(place.read_text())
    if stays:
        soon(lambda: child.began(pid) == "", "the grandchild is gone")
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_pipes_are_closed_whenever_it_is_cancelled(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Also before both are read; Python tells of every file that is left open."""

    async def hear(_event: dict[str, Any]) -> None:
        pytest.fail("it says nothing")

    async def main() -> None:
        for turns in range(12):
            line = [sys.executable, "-I", "-S", "-c", "input()"]
            running = asyncio.create_task(child.run(line, hear, child.Limits(60, 2**30)))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})

    with warnings.catch_warnings(record=True) as told, asyncio.Runner(loop_factory=loop) as runner:
        warnings.simplefilter("always")
        runner.run(main())
        gc.collect()

    assert [str(one.message) for one in told if issubclass(one.category, ResourceWarning)] == []


@pytest.mark.parametrize("kind", ["package", "module"])
def test_children_import_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A project with folders or files of such names: refits, conversions and workers start all the same."""
    for name in ("breadcrumbs", "models", "training", "serving", "json", "numpy"):
        place = tmp_path / name / "__init__.py" if kind == "package" else tmp_path / f"{name}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    for line in ([*REFIT, "--help"], [*COMMAND, "x"], [sys.executable, "-P", "-m", "breadcrumbs.serving.workers"]):
        done = subprocess.run(line, capture_output=True, text=True, check=False)

        assert "imported from the working folder" not in done.stderr
        assert done.returncode == 0 if "--help" in line else "argument" in done.stderr or "index" in done.stderr


def test_a_refit_runs_in_a_project_with_a_models_folder(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a relative store and bundle, by the program that a server really runs."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "bundle").symlink_to(tiny_bundle.folder)
    monkeypatch.chdir(tmp_path)
    settings = make_settings(tiny_bundle, Path("store")).model_copy(update={"bundle": Path("bundle")})
    with running(settings, command=REFIT) as client:
        job = finish(client, {"snapshots": [upload(client, 3)]})

    assert "imported" not in str(job["error"])
    assert "process failed" not in str(job["error"])
    assert "cannot read manifest" not in str(job["error"])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_children_start_while_threads_come_and_go(tmp_path: Path, loop: str) -> None:
    """Nothing of Python runs between fork and exec: a lock that a thread has just then would never be let go."""
    factory = asyncio.new_event_loop if loop == "asyncio" else uvloop.new_event_loop
    stop, forked = threading.Event(), tmp_path / "forked"
    os.register_at_fork(after_in_child=lambda: None if stop.is_set() else forked.touch())

    def churn() -> None:
        while not stop.is_set():
            one = threading.Thread(target=lambda: None)
            one.start()
            one.join()

    async def hear(_event: dict[str, Any]) -> None:
        pytest.fail("it says nothing")

    async def start() -> list[int | None]:
        limits = child.Limits(60, 2**30)
        return [(await child.run([sys.executable, "-I", "-S", "-c", ""], hear, limits)).code for _ in range(5)]

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for one in threads:
        one.start()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            codes = runner.run(start())
    finally:
        stop.set()
        for one in threads:
            one.join()

    assert codes == [0] * 5
    assert not forked.exists()
