"""Several servers on one store: refits started anywhere, run by one."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from refits import NEVER, events, finish, until, upload
from running import make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.refits import jobs
from breadcrumbs.serving.settings import Settings


def elsewhere(bundle: Bundle, store: Path, **more: Any) -> Settings:
    """Settings of a server that runs no refits itself, and looks often."""
    return make_settings(bundle, store, **{"refit": "elsewhere", "follow": 0.05} | more)


def test_a_refit_that_is_started_elsewhere_is_run_followed_and_goes_live(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Events, report and head are the same from both servers; the head goes live on both."""
    with (
        running(make_settings(tiny_bundle, tmp_path, follow=0.05)) as one,
        running(elsewhere(tiny_bundle, tmp_path)) as other,
    ):
        upload(other)
        job = finish(other, {"snapshots": [upload(other)], "spec": {"activate": "always"}})
        here = one.get(f"/v1/refit/{job['id']}").json()
        pages = [server.get(f"/v1/refit/{job['id']}/report.html").status_code for server in (one, other)]
        told = [list(events(server, job["id"])) for server in (one, other)]
        while other.get("/v1/heads").json()["live"] != 2:
            pass

    assert job == here
    assert job["state"] == "succeeded"
    assert job["verdict"]["activated"]
    assert told[0] == told[1]
    assert [event["state"] for event in told[0] if event["event"] == "state"] == ["queued", "running", "succeeded"]
    assert pages == [200, 200]


def test_a_refit_is_found_as_soon_as_it_is_written_down(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Also by a server that saw its folder a moment before there was anything in it."""
    with running(elsewhere(tiny_bundle, tmp_path / "other")) as maker:
        made = maker.post("/v1/refit", json={}).json()["id"]
        written = (tmp_path / "other" / "refits" / made / "request.json").read_bytes()
    with running(elsewhere(tiny_bundle, tmp_path / "store", follow=3600)) as server:
        folder = tmp_path / "store" / "refits" / made
        folder.mkdir(parents=True)
        (folder / "kept").touch()
        before = [server.get(f"/v1/refit/{made}").status_code for _ in range(10)]
        (folder / "request.json").write_bytes(written)
        after = server.get(f"/v1/refit/{made}").status_code

    assert (before, after) == ([404] * 10, 200)


def test_an_end_is_found_as_soon_as_it_is_written_down(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Also by a server that knows the refit as running, and before the end is among its events."""
    with running(make_settings(tiny_bundle, tmp_path / "one")) as one:
        made = finish(one, NEVER)["id"]
    ended, folder = tmp_path / "one" / "refits" / made, tmp_path / "store" / "refits" / made
    folder.mkdir(parents=True)
    for name in ("request.json", "events.jsonl"):
        (folder / name).write_bytes((ended / name).read_bytes())
    *events_before, _ = (ended / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(events_before))
    with running(elsewhere(tiny_bundle, tmp_path / "store", follow=3600)) as server:
        before = server.get(f"/v1/refit/{made}").json()["state"]
        (folder / "end.json").write_bytes((ended / "end.json").read_bytes())
        after = server.get(f"/v1/refit/{made}").json()["state"]

    assert (before, after) == ("running", "succeeded")


@pytest.mark.parametrize("waiting", [False, True])
def test_a_refit_is_cancelled_from_another_server(tiny_bundle: Bundle, tmp_path: Path, waiting: bool) -> None:
    """Whether it runs or waits; the wish says whose it was, and to cancel again changes nothing."""
    gate = tmp_path / "gate"
    with (
        running(make_settings(tiny_bundle, tmp_path / "store", follow=0.05), "waits", str(gate)) as one,
        running(elsewhere(tiny_bundle, tmp_path / "store")) as other,
    ):
        first = one.post("/v1/refit", json={}).json()["id"]
        until(one, first)
        second = other.post("/v1/refit", json={}).json()["id"]
        job = second if waiting else first
        answers = [other.delete(f"/v1/refit/{job}") for _ in range(2)]
        seen = one.get(f"/v1/refit/{job}").json()
        gate.touch()
        *_, last = events(other, first if waiting else second)
        refused = other.delete(f"/v1/refit/{first if waiting else second}")

    assert [answer.json()["state"] for answer in answers] == ["cancelled", "cancelled"]
    assert seen["state"] == "cancelled"
    assert last["state"] == "succeeded"
    assert refused.status_code == 409
    assert (tmp_path / "store" / "refits" / job / "cancel.json").exists()


def test_a_refit_waits_in_the_store_for_the_server_that_runs_refits(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Also beyond the end of the server that took it: it is queued, not interrupted, and run as soon as one comes."""
    with running(elsewhere(tiny_bundle, tmp_path)) as other:
        job = other.post("/v1/refit", json=NEVER).json()
    with running(elsewhere(tiny_bundle, tmp_path)) as other:
        later = other.get(f"/v1/refit/{job['id']}").json()
        with running(make_settings(tiny_bundle, tmp_path)) as one:
            *_, last = events(one, job["id"])
        end = other.get(f"/v1/refit/{job['id']}").json()

    assert (job["state"], later["state"]) == ("queued", "queued")
    assert last["state"] == end["state"] == "succeeded"


def test_a_key_starts_one_refit_on_whatever_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The same request with the same key is the same job on both; another request is refused on both."""
    key = {"Idempotency-Key": "monday"}
    with (
        running(make_settings(tiny_bundle, tmp_path)) as one,
        running(elsewhere(tiny_bundle, tmp_path)) as two,
        running(elsewhere(tiny_bundle, tmp_path)) as three,
    ):
        servers = (two, one, three)
        ids = {server.post("/v1/refit", json=NEVER, headers=key).json()["id"] for server in servers}
        refused = [server.post("/v1/refit", json={}, headers=key) for server in servers]
        listed = [[job["id"] for job in server.get("/v1/refit").json()["refits"]] for server in servers]

    assert len(ids) == 1
    assert [answer.status_code for answer in refused] == [422, 422, 422]
    assert listed == [list(ids)] * 3


def test_a_snapshot_that_a_refit_elsewhere_needs_stays(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A server does not delete what a refit of another server waits for, though it has not been told of it."""
    with (
        running(elsewhere(tiny_bundle, tmp_path)) as one,
        running(elsewhere(tiny_bundle, tmp_path, follow=3600)) as two,
    ):
        sha = upload(one)
        job = one.post("/v1/refit", json={"snapshots": [sha]}).json()["id"]
        refused = two.delete(f"/v1/snapshots/{sha}")

    assert refused.status_code == 409
    assert f"needed by refit {job}" in refused.text


def test_a_refit_that_nobody_cancels_is_told(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server that runs refits, the wish to cancel stays, and who wished it hears that nobody answered."""
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    with running(elsewhere(tiny_bundle, tmp_path)) as other:
        job = other.post("/v1/refit", json=NEVER).json()["id"]
        refused = other.delete(f"/v1/refit/{job}")
    with running(make_settings(tiny_bundle, tmp_path, follow=0.05)) as one:
        *_, last = events(one, job)

    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
    assert "has not done so in 0.2 s" in refused.text
    assert last["state"] == "cancelled"


def test_a_server_that_must_look_is_told_when_it_may_not() -> None:
    """`follow = 0` with refits elsewhere, or with several processes, is refused at start."""
    for wrong in ({"refit": "elsewhere"}, {"workers": 2}):
        with pytest.raises(ValueError, match="follow: 0 goes neither with several --workers"):
            Settings(follow=0, **wrong)  # type: ignore[arg-type]


def test_refits_that_are_off_cannot_be_restarted_either(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A server that refits nothing shows what there was, and starts none of it again."""
    with running(make_settings(tiny_bundle, tmp_path), "hangs", str(tmp_path / "pid")) as one:
        job = one.post("/v1/refit", json={}).json()["id"]
        until(one, job)
    with running(make_settings(tiny_bundle, tmp_path, refit="off")) as off:
        refused: httpx.Response = off.post(f"/v1/refit/{job}/restart")
        state = off.get(f"/v1/refit/{job}").json()["state"]

    assert (refused.status_code, state) == (403, "interrupted")
