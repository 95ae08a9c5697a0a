"""A head is live before its report is made, and stays whatever becomes of the report."""

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest
from patience import soon
from refits import NEVER, alive, events, finish
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify


def stored(client: httpx.Client, job: str) -> dict[str, object]:
    """The event that says that the head is stored, while the report is still being made."""
    return next(event for event in events(client, job) if event["event"] in {"live", "stored"})


@pytest.mark.parametrize(("body", "event", "live"), [({}, "live", 2), (NEVER, "stored", 1)])
def test_the_head_is_there_while_the_report_is_being_made(
    serve: Serve, tmp_path: Path, body: dict[str, object], event: str, live: int
) -> None:
    """It answers, the job runs on and has its verdict, cancelling is a conflict; at the end the verdict is the same."""
    gate = tmp_path / "gate"
    with serve("reports", str(gate)) as client:
        job = client.post("/v1/refit", json=body).json()["id"]
        told = stored(client, job)
        during = client.get(f"/v1/refit/{job}").json()
        heads = client.get("/v1/heads").json()
        answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()
        refused = client.delete(f"/v1/refit/{job}")
        gate.touch()
        *_, last = events(client, job)
        after = client.get(f"/v1/refit/{job}").json()

    assert (told["event"], told["head"], told["activated"]) == (event, 2, live == 2)
    assert (during["state"], during["report"], during["verdict"]["head"]) == ("running", None, 2)
    assert (heads["live"], answer["head"]["version"], len(heads["heads"])) == (live, live, 2)
    assert refused.status_code == 409
    assert f"refit {job} has made its head; it cannot be cancelled any more" in refused.text
    assert (last["state"], last["verdict"]) == ("succeeded", during["verdict"])
    assert after["report"]["origin"]["candidate"] == heads["heads"][0]["digest"]


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("crashes-late", "the refit's process failed: it ended with exit status 1; the server's log has what it wrote"),
        ("mistaken-late", "no room for the report"),
        ("fat", "the refit's report.html has more than 33554432 bytes"),
        ("half-report", "the refit's report is not one: Invalid JSON"),
        ("no-report", "the refit left no report.json: No such file or directory"),
        ("report-of-another", "the refit's report is of head 111111111111, its head is "),
        ("report-other-gate", "the refit's report has another gate than its judgement"),
    ],
)
def test_a_report_that_fails_leaves_the_head_live(serve: Serve, tmp_path: Path, mode: str, why: str) -> None:
    """The job has succeeded and says why it has no report; the store is sound."""
    with serve(mode) as client:
        job = finish(client)
        page = client.get(f"/v1/refit/{job['id']}/report.html")
        live = client.get("/v1/heads").json()["live"]

    assert (job["state"], job["report"], live) == ("succeeded", None, 2)
    assert job["verdict"]["note"].startswith(f"activated: the gate says yes; there is no report: {why}")
    assert (job["verdict"]["head"], job["verdict"]["activation"], job["error"]) == (2, 2, None)
    assert page.status_code == 404
    assert asyncio.run(verify(Store.open(tmp_path / "store"))).findings == ()


def test_a_server_that_stops_while_the_report_is_made_keeps_the_head(serve: Serve, tmp_path: Path) -> None:
    """The child ends with it; the job has succeeded, without a report, also after a restart."""
    gate = tmp_path / "gate"
    with serve("reports", str(gate)) as client:
        job = client.post("/v1/refit", json={}).json()["id"]
        stored(client, job)
        child = int(gate.with_suffix(".pid").read_text())
    assert not alive(child)
    with serve() as client:
        found = client.get(f"/v1/refit/{job}").json()
        refused = client.post(f"/v1/refit/{job}/restart")

        assert (found["state"], found["verdict"]["activated"], found["report"]) == ("succeeded", True, None)
        assert found["verdict"]["note"].endswith("there is no report: the server ended before it was made")
        assert refused.status_code == 409
        assert client.get("/v1/heads").json()["live"] == 2


@pytest.mark.parametrize("lost", ["live", "head"])
def test_the_next_server_concludes_from_what_is_stored(serve: Serve, tmp_path: Path, lost: str) -> None:
    """A server that died after the head was stored left a succeeded refit; one that died before that, none."""
    with serve() as client:
        job = finish(client)["id"]
    folder = tmp_path / "store" / "refits" / job
    kept = (folder / "events.jsonl").read_text().splitlines(keepends=True)[:4]  # before `live`
    (folder / "events.jsonl").write_text("".join(kept))
    for name in ("end.json", "report.json", "report.html"):
        (folder / name).unlink()
    if lost == "head":
        (tmp_path / "store" / "heads" / "000002" / "head.json").unlink()
        shutil.rmtree(tmp_path / "store" / "activations")
    with serve() as client:
        found = client.get(f"/v1/refit/{job}").json()

    if lost == "head":
        assert (found["state"], found["verdict"]) == ("interrupted", None)
    else:
        assert (found["state"], found["verdict"]["activation"]) == ("succeeded", 2)
        assert found["verdict"]["note"] == "activated; there is no report: the server ended before it was made"


def test_a_head_is_live_early_on_every_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """One that only follows hears of it, serves it and refuses to cancel at once, while the report is being made."""
    gate = tmp_path / "gate"
    with (
        running(make_settings(tiny_bundle, tmp_path / "store", follow=0.05), "reports", str(gate)),
        running(make_settings(tiny_bundle, tmp_path / "store", refit="elsewhere", follow=0.05)) as other,
    ):
        job = other.post("/v1/refit", json={}).json()["id"]
        told = stored(other, job)
        soon(lambda: other.get("/v1/heads").json()["live"] == 2, "the head on the other server")
        refused = other.delete(f"/v1/refit/{job}")
        state = other.get(f"/v1/refit/{job}").json()["state"]
        gate.touch()
        *_, last = events(other, job)

    assert (told["event"], state, refused.status_code) == ("live", "running", 409)
    assert "has made its head" in refused.text
    assert not (tmp_path / "store" / "refits" / job / "cancel.json").exists()
    assert (last["state"], last["verdict"]["activated"]) == ("succeeded", True)
