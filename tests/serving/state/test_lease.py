"""One server at a time refits on a store: the others say so, wait, and take over; a refit's end is written once."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from forked import Program, command, started
from obstore.store import MemoryStore
from ports import free_port
from refits import NEVER, events, finish, until
from running import make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.refits.job import create, read
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.state import lease as leases
from breadcrumbs.serving.state.lease import Lease, Lost
from breadcrumbs.serving.state.store import Store

FAKE_SERVER = """
from running import FAKE, make_settings
from breadcrumbs.serving import app as apps
apps.REFIT = (*FAKE, "waits", {gate!r})
apps.create_app.__defaults__ = (apps.REFIT, *apps.create_app.__defaults__[1:])
from breadcrumbs.serving.settings import Settings
apps.run(Settings(bundle={bundle!r}, store={store!r}, port={port}, device="cpu", threads=1, follow=0.05))
"""


def process(bundle: Bundle, store: Path, gate: Path, port: int) -> contextlib.AbstractContextManager[Program]:
    """A server in a process of its own, whose refits end when there is a gate."""
    code = FAKE_SERVER.format(gate=str(gate), bundle=str(bundle.folder), store=str(store), port=port)
    return started(code=code)


@contextlib.contextmanager
def ready(port: int) -> Iterator[httpx.Client]:
    """A client of a server, once it answers."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        for _ in range(6000):
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").is_success:
                    break
            time.sleep(0.05)
        else:
            raise TimeoutError(f"no server on port {port}")
        yield client


def states(store: Path, job: str) -> list[str]:
    """The states that the store has of a job."""
    found = asyncio.run(read(Store.open(store), job)).events
    return [event["state"] for event in found if event["event"] == "state"]


@pytest.mark.parametrize("medium", ["folder", "memory"])
def test_one_of_many_gets_it_and_the_next_when_it_is_given_back(tmp_path: Path, medium: str) -> None:
    """However many ask at once; who has it is told."""

    async def main() -> None:
        store = Store.open(tmp_path) if medium == "folder" else Store(MemoryStore())
        many = [Lease(store, "refits") for _ in range(8)]
        for _ in range(3):
            won = [
                one for one, got in zip(many, await asyncio.gather(*(m.acquire() for m in many)), strict=True) if got
            ]
            assert len(won) == 1
            await asyncio.gather(*(one.acquire() for one in many if one is not won[0]))
            assert {one.holder.process for one in many if one.holder and one is not won[0]} == {os.getpid()}
            await won[0].renew()
            await won[0].release()
            many.remove(won[0])
        assert len(await store.names("leases")) == 1

    asyncio.run(main())


def test_a_holder_that_is_silent_loses_it_by_the_waiting_ones_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clocks of both say; and hears of it when it comes back."""

    async def main() -> None:
        store, now = Store(MemoryStore()), 0.0
        monkeypatch.setattr(leases.time, "monotonic", lambda: now)
        old, new = Lease(store, "refits"), Lease(store, "refits")
        assert await old.acquire()
        for _ in range(20):
            now += leases.EXPIRY / 2
            await old.renew()
            assert not await new.acquire()
        now += leases.EXPIRY / 2
        assert not await new.acquire()
        now += leases.EXPIRY
        assert await new.acquire()
        with pytest.raises(Lost, match="another server has taken over: process"):
            await old.renew()
        assert not old.held
        await new.renew()

    asyncio.run(main())


def test_an_end_is_written_once(tmp_path: Path) -> None:
    """Of two servers that both say what became of a job, the first is right, for both and for ever."""

    async def main() -> None:
        store = Store.open(tmp_path)
        one = await create(store, RefitRequest(), None, "api", elsewhere=False)
        assert one is not None
        await one.say({"event": "state", "state": "running"})
        other = await read(store, one.job.id)
        await other.end("interrupted")
        await one.say({"event": "progress", "iteration": 1})
        await one.end("succeeded")
        await other.end("failed")
        for history in (one, other, await read(store, one.job.id)):
            await history.read()
            assert history.job.state == "interrupted"

    asyncio.run(main())
    (job,) = [path.name for path in (tmp_path / "refits").iterdir()]
    assert states(tmp_path, job) == ["running", "interrupted"]


def test_a_second_server_waits_and_takes_over(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It touches no job of the first, starts some for it, says whom it waits for, and runs them once that is killed."""
    store, gate = tmp_path / "store", tmp_path / "gate"
    port = free_port()
    with process(tiny_bundle, store, gate, port) as first, ready(port) as one:
        running_job = one.post("/v1/refit", json=NEVER).json()["id"]
        until(one, running_job)
        with running(make_settings(tiny_bundle, store, follow=0.05)) as two:
            told = two.get("/readyz").json()["refits"]
            waiting = two.post("/v1/refit", json=NEVER).json()["id"]
            seen = [server.get(f"/v1/refit/{running_job}").json()["state"] for server in (one, two)]
            assert states(store, running_job) == ["queued", "running"]
            first.send(signal.SIGKILL)
            first.wait()
            *_, last = events(two, waiting)
            ends = {job: two.get(f"/v1/refit/{job}").json()["state"] for job in (running_job, waiting)}
            after = two.get("/readyz").json()["refits"]

    assert told == f"wait for process {first.pid} on {os.uname().nodename}"
    assert one is not None
    assert seen == ["running", "running"]
    assert last["state"] == "succeeded"
    assert ends == {running_job: "interrupted", waiting: "succeeded"}
    assert after == "here"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_server_on_the_same_port_touches_nothing(tiny_bundle: Bundle, tmp_path: Path, workers: int) -> None:
    """It cannot listen and says so; running and waiting refits go on, and all servers say that they succeeded."""
    store, gate, port = tmp_path / "store", tmp_path / "gate", free_port()
    with (
        process(tiny_bundle, store, gate, port),
        ready(port) as one,
        running(make_settings(tiny_bundle, store, refit="elsewhere", follow=0.05)) as watching,
    ):
        jobs = [one.post("/v1/refit", json=NEVER).json()["id"] for _ in range(2)]
        until(one, jobs[0])
        before = sorted(str(path) for path in store.rglob("*"))
        line = ["serve", "--bundle", str(tiny_bundle.folder), "--store", str(store), "--port", str(port)]
        done = command(*line, "--workers", str(workers))
        after = sorted(str(path) for path in store.rglob("*"))
        gate.touch()
        for job in jobs:
            *_, last = events(watching, job)
            assert last["state"] == one.get(f"/v1/refit/{job}").json()["state"] == "succeeded"
            assert states(store, job) == ["queued", "running", "succeeded"]

    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert before == after


def test_what_gc_removes_is_forgotten_and_not_looked_for(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder is left, no server lists it, and an empty folder of before is read ever less often."""
    from test_upkeep import remove

    store, read = tmp_path / "store", list[str]()
    real = Store.get

    async def get(self: Store, name: str) -> bytes:
        read.append(name)
        return await real(self, name)

    with running(make_settings(tiny_bundle, store, follow=0.01)) as client:
        for _ in range(3):
            finish(client, NEVER)
        kept = finish(client, {"spec": {"activate": "always"}})["id"]
        assert remove(store, keep_heads=1, parents=0)
        assert [path.name for path in (store / "refits").iterdir()] == [kept]
        assert [path.name for path in (store / "heads").iterdir()] == ["000005"]
        while [job["id"] for job in client.get("/v1/refit").json()["refits"]] != [kept]:
            time.sleep(0.01)
        (store / "refits" / "empty").mkdir()
        monkeypatch.setattr(Store, "get", get)
        time.sleep(1)
        tries = sum("refits/empty" in name for name in read)

    assert 1 <= tries <= 6
