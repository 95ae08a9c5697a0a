"""`/v1/refit` and `/v1/snapshots`, with a real child process that obeys or breaks its contract."""

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Serve, make_settings, running
from tiny import CLASSES, picture, png, tiny_snapshot

from models import head as heads
from models import snapshot as snapshots
from models.bundle import Bundle
from serving import child, launch
from serving import snapshots as stored
from serving.launch import Cpu
from serving.store import Store

NEVER, ALWAYS = {"spec": {"activate": "never"}}, {"spec": {"activate": "always"}}


def upload(client: httpx.Client, epoch: int = 2) -> str:
    """Put a snapshot and return its sha256."""
    answer = client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, epoch)))
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["sha256"])


def events(client: httpx.Client, job: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """A refit's events, until it has ended."""
    with client.stream("GET", f"/v1/refit/{job}/events", headers={"Last-Event-ID": str(after)}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])


def finish(client: httpx.Client, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Start a refit, wait for its end and return it."""
    started = client.post("/v1/refit", json=body or {})
    assert started.status_code == 202, started.text
    assert started.headers["location"] == f"/v1/refit/{started.json()['id']}"
    *_, last = events(client, started.json()["id"])
    job = client.get(started.headers["location"]).json()
    assert job["state"] == last["state"]
    return dict(job)


def until(client: httpx.Client, job: str, stage: str = "read") -> None:
    """Return when the child has told a stage; it is alive then."""
    for event in events(client, job):
        if event.get("stage") == stage:
            return
    pytest.fail(f"refit {job} ended before {stage}")


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
        "compared": 1, "head": 2, "gate": {"passed": True, "reasons": []},
        "activated": True, "activation": 2, "note": "activated: the gate says yes",
    }  # fmt: skip
    assert (job["report"]["live"]["all"], job["report"]["live"]["few"]) == (0.5, 0.1)
    assert job["progress"] == {"stage": "read", "iteration": 1, "gradient_norm": 0.5, "objective": 1.0}
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert [event.get("state", event["event"]) for event in told] == [
        "queued", "running", "stage", "progress", "succeeded",
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
    assert {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "sandbox"} <= policy
    assert not any("script-src" in part or "allow-scripts" in part for part in policy)


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

        assert [event["id"] for event in told] == [4, 5]
        assert list(events(client, job["id"], 5)) == []


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
        ("half-head", "refit", "the refit left no head or no report: head.safetensors"),
        ("fat", "refit", "the refit's report.html has more than 33554432 bytes"),
        ("half-report", "refit", "the refit's report is not one: Invalid JSON"),
        ("no-report", "refit", "the refit left no head or no report"),
        ("no-gate", "refit", "the refit's report is not one: gate.passed: Field required"),
        ("other-head", "refit", "the refit's report is of head 000000000000, its head is "),
        ("nan", "refit", "candidate.all: Input should be a finite number"),
        ("huge", "refit", "candidate.all: Input should be a finite number"),
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


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("mode", ["hangs", "deaf"])
def test_cancelling_stops_the_child(serve: Serve, tmp_path: Path, mode: str) -> None:
    """Once it is answered, also one that ignores being asked for half a second; the head stays."""
    place = tmp_path / "pid"
    with serve(mode, str(place)) as client:
        job = client.post("/v1/refit", json={}).json()["id"]
        until(client, job)
        while not (place.exists() and place.read_text()):
            time.sleep(0.01)
        cancelled = client.delete(f"/v1/refit/{job}")
        pid = int(place.read_text())

        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert not alive(pid)
        assert child.PATIENCE < 1
        assert client.delete(f"/v1/refit/{job}").json()["state"] == "cancelled"
        assert client.get("/v1/heads").json()["live"] == 1


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
        while not place.exists():
            time.sleep(0.01)
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
    (folder / job / "events.jsonl").write_text("".join(lines[:-1]))
    for name, text in (("no-events", (folder / job / "request.json").read_text()), ("damaged", "{")):
        (folder / name).mkdir()
        (folder / name / "request.json").write_text(text)
    with serve() as client:
        states = {found["id"]: found["state"] for found in client.get("/v1/refit").json()["refits"]}

    assert states == {job: "interrupted", "no-events": "interrupted"}


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


def test_a_refit_over_its_time_is_stopped(serve: Serve, tmp_path: Path) -> None:
    """It has failed, with the limit in the message."""
    with serve("hangs", str(tmp_path / "pid"), refit_timeout=0.8) as client:
        job = finish(client)

    assert (job["state"], job["error"]["message"]) == (
        "failed",
        "the refit's process failed: it took longer than 0.8 s; the server's log has what it wrote",
    )


def test_refits_can_be_switched_off(serve: Serve) -> None:
    """403, and the setting is named."""
    with serve(refit="off") as client:
        refused = client.post("/v1/refit", json={})

    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "forbidden")
    assert "refit = off" in refused.text


def test_a_snapshot_is_described_and_kept_once(serve: Serve, tmp_path: Path) -> None:
    """201 and then 200; its bytes in the store are those that were sent, under their sha256."""
    data = snapshots.to_bytes(tiny_snapshot("c" * 64, 5))
    with serve() as client:
        first, second = (client.put("/v1/snapshots", content=data) for _ in range(2))
        sha = first.json()["sha256"]
        got = client.get(first.headers["location"])
        answers = [client.get("/v1/snapshots").json()["snapshots"], client.delete(f"/v1/snapshots/{sha}").status_code]
        gone = client.get("/v1/snapshots").json()["snapshots"]

    body = first.json()
    assert (first.status_code, second.status_code, answers[1]) == (201, 200, 204)
    assert (body["rows"], body["feature_dim"], body["epoch"], body["deployed"]) == (12, 4, 5, False)
    assert body["classes"] == dict.fromkeys(CLASSES, 4)
    assert body["groups"] == {"many": 4, "medium": 4, "few": 4, "new": 0}
    assert body["group_of"] == dict(zip(CLASSES, ("many", "medium", "few"), strict=True))
    assert got.json() == body == answers[0][0]
    assert gone == []


def test_what_a_snapshot_is_beside_the_bundle_is_found_anew(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A store outlives a bundle: by another one's classes and counts the groups are others."""
    with serve() as client:
        sha = upload(client)
    manifest = tiny_bundle.manifest.model_copy(update={"train_counts": (5, 120, 40), "classes": ("oak", "elm", "yew")})
    other = Bundle(tiny_bundle.folder, manifest)
    record = asyncio.run(stored.get(Store.open(tmp_path / "store"), sha, other))

    assert record.group_of == {"oak": "few", "elm": "many", "Wollemia nobilis": "new"}
    assert record.groups == {"many": 4, "medium": 0, "few": 4, "new": 4}


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


@pytest.mark.parametrize("cpu", ["idle", "share"])
def test_a_child_comes_last_for_the_cpu_and_first_for_the_memory(serve: Serve, tmp_path: Path, cpu: Cpu) -> None:
    """In a group of its own, its threads asleep while they wait; idle in the server's session, or a niced session."""
    place = tmp_path / "pid"
    with serve("hangs", str(place), refit_cpu=cpu) as client:
        client.post("/v1/refit", json={})
        while not (place.exists() and place.read_text()):
            time.sleep(0.01)
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
