"""`/v1/refit`, with a real child process that does as it is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from patience import soon
from refits import ALWAYS, NEVER, alive, events, finish, until, upload
from running import Serve
from tiny import CLASSES, picture, png, tiny_snapshot

from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.report import html


def test_a_refit_makes_a_head_that_goes_live(serve: Serve, tiny_bundle: Bundle) -> None:
    """From an uploaded snapshot to another answer, with lineage, report, events and activation."""
    with serve() as client:
        sha = upload(client)
        job = finish(client, {"snapshots": [sha], "spec": {"seed": 3}})
        told = list(events(client, job["id"]))
        head = client.get("/v1/heads/2").json()
        answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()
        log = client.get("/v1/activations").json()["activations"]

    assert job["state"] == "succeeded"
    assert job["verdict"] == {
        "compared": 1, "head": 2, "gate": {"answer": "yes", "reasons": []}, "judged_examples": 0,
        "activated": True, "activation": 2, "note": "activated: the gate says yes",
    }  # fmt: skip
    assert (job["report"]["live"]["all"], job["report"]["live"]["few"]) == (0.5, 0.1)
    assert job["progress"] == {"stage": "read", "iteration": 1, "gradient_norm": 0.5, "objective": 1.0}
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert [event.get("state", event["event"]) for event in told] == [
        "queued", "running", "stage", "progress", "live", "succeeded",
    ]  # fmt: skip
    assert (head["metrics"]["all"], head["metrics"]["few"]) == (0.9, 0.8)
    assert (head["lineage"]["parent"], head["lineage"]["snapshots"]) == (1, [sha])
    assert (head["lineage"]["refit"], head["lineage"]["spec"]["seed"]) == (job["id"], 3)
    live = tiny_bundle.head()
    assert answer["head"]["digest"] == heads.LinearHead(live.weight * 2, live.bias, live.classes).digest
    assert (log[0]["head"], log[0]["actor"]) == (2, f"refit {job['id']}")


def test_a_report_is_a_page_that_can_do_nothing(serve: Serve) -> None:
    """It is shown as it came, under a policy that no script of it survives; it outlives the server."""
    with serve() as client:
        job = finish(client)
        shown = client.get(f"/v1/refit/{job['id']}/report.html")
    with serve() as client:
        again = client.get(f"/v1/refit/{job['id']}/report.html")

    assert shown.text == again.text == "<script>alert(1)</script>"
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.headers["x-content-type-options"] == "nosniff"
    policy = {part.strip() for part in shown.headers["content-security-policy"].split(";")}
    assert {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "sandbox allow-scripts"} <= policy
    assert [part for part in policy if "script-src" in part] == [f"script-src {html.SCRIPT_SOURCE}"]


def test_a_refit_without_a_page_says_so(serve: Serve) -> None:
    """404 with the job's state; also for a job that is not there."""
    with serve("no-page") as client:
        job = finish(client)
        missing = client.get(f"/v1/refit/{job['id']}/report.html")
        nobody = client.get("/v1/refit/nobody/report.html")

    assert job["state"] == "succeeded"
    assert (missing.status_code, nobody.status_code) == (404, 404)
    assert missing.json()["error"]["message"] == f"refit {job['id']} has no report: it is succeeded"


def test_events_resume_after_the_last_one_seen(serve: Serve) -> None:
    """`Last-Event-ID` leaves out what was seen, and everything of an ended refit can still be read."""
    with serve() as client:
        job = finish(client)
        told = list(events(client, job["id"], 3))

        assert [event["id"] for event in told] == [4, 5, 6]
        assert list(events(client, job["id"], 6)) == []


def test_snapshots_may_come_with_the_request(serve: Serve) -> None:
    """Multipart: files `snapshot` and `holdout`, field `spec`; they are kept as uploaded ones are."""
    files = [
        ("snapshot", snapshots.to_bytes(tiny_snapshot("b" * 64, 2))),
        ("snapshot", snapshots.to_bytes(tiny_snapshot("b" * 64, 3))),
        ("holdout", snapshots.to_bytes(tiny_snapshot("b" * 64, 4))),
    ]
    with serve() as client:
        started = client.post("/v1/refit", files=files, data={"spec": json.dumps({"activate": "never"})})
        *_, last = events(client, started.json()["id"])
        kept = client.get("/v1/snapshots").json()["snapshots"]

    assert started.status_code == 202
    assert last["state"] == "succeeded"
    assert [snapshot["epoch"] for snapshot in kept] == [4, 3, 2]
    assert started.json()["request"]["holdout"] == kept[0]["sha256"]
    assert set(started.json()["request"]["snapshots"]) == {kept[1]["sha256"], kept[2]["sha256"]}


@pytest.mark.parametrize(
    ("mode", "body", "activated", "note"),
    [
        ("worse", {}, False, "not activated: the gate says no: few fell by 0.2"),
        ("worse", ALWAYS, True, "activated: the spec says always; the gate says no"),
        ("unmeasured", {}, False, "not activated: the gate says not measured: no judged row of: elm"),
        ("unmeasured", ALWAYS, True, "activated: the spec says always; the gate says not measured"),
        ("good", NEVER, False, "not activated: the spec says never"),
    ],
)
def test_the_spec_and_the_gate_decide(
    serve: Serve, mode: str, body: dict[str, Any], activated: bool, note: str
) -> None:
    """The head is kept either way; whether it is live, and why, is told."""
    with serve(mode) as client:
        verdict = finish(client, body)["verdict"]
        listing = client.get("/v1/heads").json()

    assert (verdict["activated"], verdict["note"]) == (activated, note)
    assert listing["live"] == (2 if activated else 1)
    assert [head["version"] for head in listing["heads"]] == [2, 1]


def test_a_refit_may_grow_the_classes(serve: Serve) -> None:
    """The new class is predicted after the swap; the old indices stay."""
    with serve("grows") as client:
        finish(client)
        answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()

    found = {ranked["index"]: ranked["class"] for ranked in answer["predictions"][0]["classes"]}
    assert found == dict(enumerate((*CLASSES, "yew")))


def test_a_waiting_refit_is_cancelled_without_a_child(serve: Serve, tmp_path: Path) -> None:
    """It never runs; and what has succeeded cannot be cancelled."""
    gate = tmp_path / "gate"
    with serve("waits", str(gate)) as client:
        first = client.post("/v1/refit", json={}).json()["id"]
        second = client.post("/v1/refit", json=NEVER).json()["id"]
        until(client, first)
        assert client.delete(f"/v1/refit/{second}").json()["state"] == "cancelled"
        gate.touch()
        *_, last = events(client, first)
        refused = client.delete(f"/v1/refit/{first}")

        assert last["state"] == "succeeded"
        assert [event.get("state") for event in events(client, second)] == ["queued", "cancelled"]
        assert refused.status_code == 409
        assert "has succeeded; it cannot be cancelled any more" in refused.text


def test_refits_wait_in_line_and_no_more_than_allowed(serve: Serve, tmp_path: Path) -> None:
    """One runs, `refit_queue` wait, the next is refused with a time to try again; a needed snapshot stays."""
    gate = tmp_path / "gate"
    with serve("waits", str(gate), refit_queue=1) as client:
        sha = upload(client)
        first = client.post("/v1/refit", json={}).json()["id"]
        second = client.post("/v1/refit", json={"snapshots": [sha]}).json()["id"]
        refused = client.post("/v1/refit", json=NEVER)
        needed = client.delete(f"/v1/snapshots/{sha}")
        gate.touch()
        for job in (first, second):
            *_, last = events(client, job)
            assert last["state"] == "succeeded"

        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert needed.status_code == 409
        assert f"needed by refit {second}" in needed.text
        assert [job["id"] for job in client.get("/v1/refit").json()["refits"]] == [second, first]
        assert client.delete(f"/v1/snapshots/{sha}").status_code == 204
        assert client.get(f"/v1/snapshots/{sha}").status_code == 404


def test_an_idempotency_key_starts_one_refit_only(serve: Serve) -> None:
    """The same request again gives the same job, after a restart too; another request is refused."""
    key = {"Idempotency-Key": "monday"}
    with serve() as client:
        first = client.post("/v1/refit", json=NEVER, headers=key).json()["id"]
        again = client.post("/v1/refit", json=NEVER, headers=key)
        other = client.post("/v1/refit", json=ALWAYS, headers=key)
        list(events(client, first))
    with serve() as client:
        later = client.post("/v1/refit", json=NEVER, headers=key)
        count = len(client.get("/v1/refit").json()["refits"])

    assert (again.status_code, again.json()["id"]) == (202, first)
    assert (other.status_code, other.json()["error"]["type"]) == (422, "idempotency")
    assert (later.json()["id"], later.json()["state"], count) == (first, "succeeded", 1)


def test_a_server_that_stops_interrupts_its_refits_and_says_so(serve: Serve, tmp_path: Path) -> None:
    """The child ends with it; the running and the waiting job are interrupted, and are so after a restart."""
    place = tmp_path / "pid"
    with serve("hangs", str(place)) as client:
        jobs = [client.post("/v1/refit", json={}).json()["id"] for _ in range(2)]
        until(client, jobs[0])
        soon(lambda: place.exists() and place.read_text(), "the child's process id")
    assert not alive(int(place.read_text()))
    with serve() as client:
        found = [client.get(f"/v1/refit/{job}").json() for job in jobs]

        assert [job["state"] for job in found] == ["interrupted", "interrupted"]
        assert "start it again" in found[0]["error"]["message"]
        assert finish(client)["state"] == "succeeded"


def test_a_server_that_died_finds_its_refits_interrupted(serve: Serve, tmp_path: Path) -> None:
    """Without a word from the dead server, from what lies in the store alone; a damaged job is left out."""
    with serve() as client:
        job = finish(client)["id"]
    shutil.rmtree(tmp_path / "store" / "heads" / "000002")  # as if it had died before that
    folder = tmp_path / "store" / "refits"
    lines = (folder / job / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / job / "events.jsonl").write_text("".join(lines[:-2]))  # the last two: live, succeeded
    (folder / job / "end.json").unlink()
    for name, text in (("no-events", (folder / job / "request.json").read_text()), ("damaged", "{")):
        (folder / name).mkdir()
        (folder / name / "request.json").write_text(text)
    with serve() as client:
        states = {found["id"]: found["state"] for found in client.get("/v1/refit").json()["refits"]}

    assert states == {job: "interrupted", "no-events": "interrupted"}


def test_a_stored_job_may_have_a_field_that_no_request_may_send(serve: Serve, tmp_path: Path) -> None:
    """The removed `gradient_norm` is ignored in a stored job, which can be started again, and refused in a request."""
    with serve() as client:
        job = finish(client)["id"]
    folder = tmp_path / "store" / "refits" / "old"
    folder.mkdir()
    stored = json.loads((folder.parent / job / "request.json").read_text())
    stored["request"]["spec"]["gradient_norm"] = 1e-6
    (folder / "request.json").write_text(json.dumps(stored))
    with serve() as client:
        found = client.get("/v1/refit/old").json()
        again = client.post("/v1/refit/old/restart").json()
        *_, last = events(client, again["id"])
        answer = client.post("/v1/refit", json={"spec": {"gradient_norm": 1e-6}})

    assert (found["state"], last["state"]) == ("interrupted", "succeeded")
    assert found["request"] == again["request"]
    assert "gradient_norm" not in found["request"]["spec"]
    assert answer.status_code == 422
    assert "JSON body: spec.gradient_norm: Extra inputs are not permitted" in answer.text


def test_a_head_that_went_live_meanwhile_is_not_overruled(serve: Serve, tmp_path: Path) -> None:
    """The refit compared with head 1; head 2 went live before it had ended: head 3 is kept, not activated."""
    gate = tmp_path / "gate"
    with serve("waits", str(gate)) as client:
        gate.touch()
        finish(client, NEVER)
        gate.unlink()
        job = client.post("/v1/refit", json={}).json()["id"]
        until(client, job)
        client.post("/v1/heads/2/activate", json={"reason": "by hand"})
        gate.touch()
        *_, last = events(client, job)
        live = client.get("/v1/heads").json()["live"]

    assert (last["verdict"]["activated"], last["verdict"]["head"], live) == (False, 3, 2)
    assert "compared with head 1, but head 2 is live" in last["verdict"]["note"]


def test_refits_can_be_switched_off(serve: Serve) -> None:
    """403, and the setting is named."""
    with serve(refit="off") as client:
        refused = client.post("/v1/refit", json={})

    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "forbidden")
    assert "refit = off" in refused.text


def test_a_snapshot_that_rotted_in_the_store_fails_its_refit(serve: Serve, tmp_path: Path) -> None:
    """Its bytes are verified on the way to the child."""
    with serve() as client:
        sha = upload(client)
        path = tmp_path / "store" / "snapshots" / f"{sha}.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        job = finish(client, {"snapshots": [sha]})

    assert job["state"] == "failed"
    assert f"snapshot {sha} is damaged" in job["error"]["message"]
