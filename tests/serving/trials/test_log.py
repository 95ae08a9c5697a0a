"""The log of trials: one end of many, damage, and what a killed server leaves."""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import httpx
import pytest
from forked import started
from patience import PATIENCE, soon
from ports import free_port
from refits import upload
from running import make_settings, running
from tiny import tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.log import TrialLog
from breadcrumbs.serving.trials.trial import End, Start

SERVER = "import crashing_server; crashing_server.main()"
REMEMBERING = {"COLUMNS": "200", "BREADCRUMBS_REMEMBER": "1000"}
FEATURES = [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]]


def start(number: int, previous: str | None) -> Start:
    """A trial's start."""
    return Start(
        number=number, head=2, digest="a" * 64, against=1, against_digest="b" * 64, mode="shadow",
        until="2100-01-01T00:00:00+00:00", stop_if=StopIf(), activation=1, actor="me", reason="Ünïcode",
        at="2026-01-01T00:00:00+00:00", previous=previous,
    )  # fmt: skip


def end_of(log: TrialLog, who: str, number: int, previous: str | None) -> End:
    """The end of trial 1, unless there is one."""
    assert 1 not in log.ends, "somebody else was first"
    at = "2026-01-01T00:00:01+00:00"
    return End(number=number, trial=1, outcome="ended", actor=who, reason="", at=at, previous=previous)


def test_of_many_servers_one_ends_a_trial(tmp_path: Path) -> None:
    """The others read its end, and all know the same."""

    async def main() -> None:
        logs = [TrialLog(Store.open(tmp_path)) for _ in range(6)]
        await logs[0].append(start)
        asked = (
            one.append(lambda n, h, one=one, who=str(place): end_of(one, who, n, h)) for place, one in enumerate(logs)
        )
        done = await asyncio.gather(*asked, return_exceptions=True)
        for one in logs:
            await one.read()

        assert sum(isinstance(one, End) for one in done) == 1
        assert len({one.ends[1].actor for one in logs}) == 1
        assert [one.running for one in logs] == [[]] * 6
        assert [one.defects for one in logs] == [[]] * 6

    asyncio.run(main())


@pytest.mark.parametrize("bad", [b"", b"{}", b"[]", b"\xff", b'{"kind": "end"}'])
def test_a_damaged_record_is_passed_over(tmp_path: Path, bad: bytes) -> None:
    """It is reported, and the log goes on with the hash of its bytes."""

    async def main() -> None:
        store = Store.open(tmp_path)
        log = TrialLog(store)
        await log.append(start)
        await store.create("trials/00000002.json", bad)
        await log.append(start)
        again = TrialLog(store)
        await again.read()

        assert list(again.starts) == [1, 3]
        assert len(again.defects) == 1
        assert "trials/00000002.json is damaged" in again.defects[0]

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "name", "left"),
    [
        ("before", "trials/00000001.json", []),
        ("after", "trials/00000001.json", [1]),
        ("after", "trial-counts/.*", [1]),
        ("before", "activations/00000002.json", []),
        ("after", "activations/00000002.json", [1]),
    ],
)
def test_a_killed_server_leaves_a_log_that_tells(
    tiny_bundle: Bundle, tmp_path: Path, when: str, name: str, left: list[int]
) -> None:
    """`kill -9` at each write: a trial is there or not, and a head that went live is watched by the next server."""
    folder, port = tmp_path / "store", free_port()
    baked = name.startswith("activations")
    with running(make_settings(tiny_bundle, folder)):
        asyncio.run(heads.add(Store.open(folder), tiny_head(5), tiny_bundle, Lineage(), {}))
    words = (str(tiny_bundle.folder), str(folder), str(port), when, name, "1")
    asking = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False)
    with started(*words, code=SERVER) as program, asking as client:
        soon(lambda: ready(client), "the server")
        with contextlib.suppress(httpx.TransportError):
            body = {"bake": "1h", "stop_if": {"disagreement": 0.9}} if baked else {"head": 2}
            client.post("/v1/heads/2/activate" if baked else "/v1/trials", json=body)
            client.post("/v1/predict", json={"features": FEATURES})
        assert program.wait() == -signal.SIGKILL
    with running(make_settings(tiny_bundle, folder, follow=0.05)) as client:

        def numbers() -> list[int]:
            return [one["start"]["number"] for one in client.get("/v1/trials").json()["trials"]]

        soon(lambda: numbers() == left, "the trials that there are")
        live = client.get("/v1/heads").json()["live"]
        assert live == (2 if baked and left else 1)
        told = [json.loads(path.read_text()) for path in sorted((folder / "trials").glob("*"))]
        assert [one["head"] for one in told] == [2] * len(left)


@pytest.mark.slow
def test_a_killed_server_leaves_who_answered_what(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """`kill -9` in a canary: each answer that was written names its head; the trial goes on, and each sender's head."""
    folder, port, met, answers = tmp_path / "store", free_port(), {}, {}
    with running(make_settings(tiny_bundle, folder)):
        asyncio.run(heads.add(Store.open(folder), tiny_head(5), tiny_bundle, Lineage(), {}))
    words = (str(tiny_bundle.folder), str(folder), str(port), "before", "trials/00000002.json", "1")
    asking = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False)
    with started(*words, code=SERVER, environment=REMEMBERING) as program, asking as client:
        soon(lambda: ready(client), "the server")
        body = {"head": 2, "mode": "canary", "share": 0.5, "by": "ref"}
        client.post("/v1/trials", json=body).raise_for_status()
        for ref in map(str, range(12)):
            told = client.post("/v1/predict", params={"ref": ref}, json={"features": FEATURES}).json()
            met[ref] = told["head"]["version"]
            answers |= {one["id"]: met[ref] for one in told["predictions"]}
        assert {client.get(f"/v1/answers/{one}").status_code for one in answers} == {200}, "they are written now"
        counted = soon(lambda: client.get("/v1/trials/1").json()["answered"], "what was counted")
        with contextlib.suppress(httpx.TransportError):
            client.delete("/v1/trials/1")
        assert program.wait() == -signal.SIGKILL
    with running(make_settings(tiny_bundle, folder, remember=1000)) as client:
        heads_told = {one: client.get(f"/v1/answers/{one}").json()["head"]["version"] for one in answers}
        again = {
            ref: client.post("/v1/predict", params={"ref": ref}, json={"features": FEATURES}).json() for ref in met
        }
        trial = client.get("/v1/trials/1").json()

        assert set(met.values()) == {1, 2}
        assert heads_told == answers
        assert {ref: one["head"]["version"] for ref, one in again.items()} == met
        assert trial["end"] is None
        assert all(trial["answered"][head] >= 2 * count for head, count in counted.items()), "counts go on"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refits_head_is_tried_whenever_its_server_was_killed(tiny_bundle: Bundle, tmp_path: Path, when: str) -> None:
    """Before or after its trial was written: the next server has one trial of it, and the refit's verdict names it."""
    folder, port = tmp_path / "store", free_port()
    words = (str(tiny_bundle.folder), str(folder), str(port), when, "trials/00000001.json", "1")
    asking = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False)
    trying = REMEMBERING | {"BREADCRUMBS_GATE_TRIAL": "24h"}
    with started(*words, code=SERVER, environment=trying) as program, asking as client:
        soon(lambda: ready(client), "the server")
        with contextlib.suppress(httpx.TransportError):
            client.post("/v1/refit", json={"snapshots": [upload(client)]}).raise_for_status()
        assert program.wait() == -signal.SIGKILL, program.err
    with running(make_settings(tiny_bundle, folder, remember=1000, gate_trial="24h")) as client:
        (job,) = client.get("/v1/refit").json()["refits"]
        (trial,) = client.get("/v1/trials").json()["trials"]

        assert (job["state"], job["verdict"]["note"].partition(" until")[0]) == ("succeeded", "on trial 1")
        assert (trial["start"]["head"], trial["start"]["margin"], trial["end"]) == (2, 0.02, None)


def ready(client: httpx.Client) -> bool:
    """Whether a server answers."""
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False
