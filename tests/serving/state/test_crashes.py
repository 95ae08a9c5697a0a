"""`kill -9` at every step of a refit's way to a live head, of server and child: nothing lost or half, one head live."""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import Program, started
from patience import PATIENCE, soon
from ports import free_port
from refits import events, finish, upload
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs import models
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify
from breadcrumbs.training.terminal.refit_events import STAGES

SERVER = "import crashing_server; crashing_server.main()"
STEPS = [
    *(("before", name, count) for name, count in (
        ("holds/.*", 1), ("snapshots/.*safetensors", 1), ("snapshots/.*json", 1), ("refits/.*/request.json", 1),
        ("refits/.*/events.jsonl", 1), ("refits/.*/events.jsonl", 2), ("refits/.*/events.jsonl", 3),
        ("refits/.*/events.jsonl", 4), ("refits/.*/judged.json", 1),
        ("heads/000002/head.safetensors", 1), ("heads/000002/head.onnx", 1), ("heads/000002/head.json", 1),
        ("activations/00000002.json", 1), ("refits/.*/events.jsonl", 5),
        ("refits/.*/report.json", 1), ("refits/.*/report.html", 1), ("refits/.*/end.json", 1),
        ("refits/.*/events.jsonl", 6),
    )),
    ("after", "refits/.*/events.jsonl", 6),
]  # fmt: skip
"""Every write, in order; killed after a write is killed before the next. The events are queued, running, a stage,
progress, live, succeeded."""
CHILD = (sys.executable, str(Path(__file__).parents[1] / "crashing_refit.py"))
BEFORE = (STAGES[STAGES.index("judge")], "head.safetensors", "judged.json")
AFTER = ("judged", "report.json", "done")
"""Steps of a refit's own process, before and after its head is handed over: a stage, files that it leaves, words."""


@contextlib.contextmanager
def asking(port: int, program: Program) -> Iterator[httpx.Client]:
    """A client of a server, once it is ready."""

    def ready() -> bool:
        assert program.status is None, f"it died before it was asked anything: {program.err}"
        with contextlib.suppress(httpx.TransportError):
            return client.get("/readyz").is_success
        return False

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False) as client:
        soon(ready, "the server")
        yield client


def until_dead(bundle: Bundle, store: Path, when: str, name: str, count: int) -> tuple[str | None, str | None]:
    """Upload, refit and activate on a server that dies on the way; what it acknowledged: snapshot, and job."""
    port, acknowledged = free_port(), [None, None]
    line = (str(bundle.folder), str(store), str(port), when, name, str(count))
    with started(*line, code=SERVER) as program, asking(port, program) as client:
        with contextlib.suppress(httpx.TransportError):
            acknowledged[0] = upload(client)
            wanted = {"snapshots": [acknowledged[0]], "spec": {"activate": "always"}}
            acknowledged[1] = client.post("/v1/refit", json=wanted).json()["id"]
            list(events(client, str(acknowledged[1])))
        assert program.wait() == -signal.SIGKILL, program.err
    return acknowledged[0], acknowledged[1]


def test_the_steps_are_all_there_are(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the code gains must be gained here too."""
    written: list[str] = []

    def listening(method: Callable[..., Any]) -> Callable[..., Any]:
        async def write(self: Store, name: str, *rest: Any) -> None:
            if not name.startswith("leases/"):  # which is written again and again, whatever happens
                written.append(name)
            await method(self, name, *rest)

        return write

    with serve() as client:
        for name in ("create", "replace", "put_file"):
            monkeypatch.setattr(Store, name, listening(getattr(Store, name)))
        finish(client, {"snapshots": [upload(client)], "spec": {"activate": "always"}})
    expected = [name for when, name, _ in STEPS if when == "before"]

    assert len(written) == len(expected)
    assert all(re.fullmatch(one, other) for one, other in zip(expected, written, strict=True)), written


@pytest.mark.parametrize(("when", "name", "count"), STEPS, ids=str)
def test_a_server_that_is_killed_anywhere_loses_nothing(
    tiny_bundle: Bundle, tmp_path: Path, when: str, name: str, count: int
) -> None:
    """The store verifies; one head is live and answers; what was acknowledged is there; a cut refit starts again."""
    store = tmp_path / "store"
    sha, job = until_dead(tiny_bundle, store, when, name, count)
    found = asyncio.run(verify(Store.open(store)))

    assert found.sound, found.findings
    with running(make_settings(tiny_bundle, store)) as client:
        listing, log = client.get("/v1/heads").json(), client.get("/v1/activations").json()["activations"]
        answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()
        assert listing["live"] == log[0]["head"] == answer["head"]["version"]
        assert listing["live"] in {head["version"] for head in listing["heads"]}
        if sha is not None:
            assert client.get(f"/v1/snapshots/{sha}").is_success
        jobs = client.get("/v1/refit").json()["refits"]
        assert job is None or job in {one["id"] for one in jobs}
        for one in jobs:
            assert one["state"] in {"interrupted", "succeeded"}
            assert (one["state"] == "succeeded") == any(h["lineage"]["refit"] == one["id"] for h in listing["heads"])
            if one["state"] == "succeeded":
                whole = client.get(f"/v1/refit/{one['id']}").json()["report"] is not None
                assert whole != ("there is no report: the server ended before it" in one["verdict"]["note"])
                assert one["verdict"]["activated"] == (listing["live"] == one["verdict"]["head"])
                assert client.post(f"/v1/refit/{one['id']}/restart").status_code == 409
                continue
            again = client.post(f"/v1/refit/{one['id']}/restart")
            assert again.status_code == 202
            *_, last = events(client, again.json()["id"])
            assert last["state"] == "succeeded"
            assert client.get("/v1/heads").json()["live"] > listing["live"]
    assert asyncio.run(verify(Store.open(store))).sound


@pytest.mark.slow
def test_a_refit_that_is_killed_anywhere_changes_nothing_or_leaves_a_whole_head(tmp_path: Path) -> None:
    """`kill -9` of the real child at each of its steps: it failed without a head, or its head is live without a report.

    One that failed can be started again.
    """
    step = tmp_path / "step"
    bundle = bundles.read(Path(models.__file__).parent / "demo")
    quick = {"activate": "always", "members": ["plain"], "l2": 1e-2, "prior_offset": 0.5, "transfer": "leave out"}
    with running(make_settings(bundle, tmp_path / "store"), command=(*CHILD, str(step))) as client:
        for name in BEFORE:
            step.write_text(name)
            job = finish(client, {"spec": quick})
            assert (job["state"], job["verdict"]) == ("failed", None), name
            assert "it ended with exit status -9" in job["error"]["message"]
        assert len(client.get("/v1/heads").json()["heads"]) == client.get("/v1/heads").json()["live"] == 1
        for version, name in enumerate(AFTER, 2):
            step.write_text(name)
            late = finish(client, {"spec": quick})
            assert (late["state"], late["verdict"]["head"], late["report"]) == ("succeeded", version, None), name
            assert client.get("/v1/heads").json()["live"] == version
            assert "there is no report: the refit's process failed: it ended with exit" in late["verdict"]["note"]
        assert asyncio.run(verify(Store.open(tmp_path / "store"))).findings == ()
        step.write_text("none")
        again = client.post(f"/v1/refit/{job['id']}/restart").json()["id"]
        *_, last = events(client, again)
        assert last["verdict"]["activated"]
        assert client.get("/v1/heads").json()["live"] == version + 1


def test_a_dead_servers_child_dies_with_it(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It would hold memory and CPU for a head that nobody takes."""
    place, port = tmp_path / "pid", free_port()
    line = (str(tiny_bundle.folder), str(tmp_path / "s"), str(port), "after", "never", "1", "hangs", str(place))
    with started(*line, code=SERVER) as program:
        with asking(port, program) as client:
            assert client.post("/v1/refit", json={}).is_success
            child = Path(f"/proc/{soon(lambda: place.exists() and place.read_text(), 'the id of the child')}/stat")
            assert child.exists()
            program.send(signal.SIGKILL)
        program.wait()

        soon(lambda: not child.exists() or child.read_text().split()[2] == "Z", "the end of the child")
