"""Trials on real servers: what is counted, who answers, what labels decide, and what is refused."""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from patience import soon
from refits import finish, upload
from running import Serve
from tiny import CLASSES, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.known import STEPS, Known
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.opinions import LOWEST, THREAD

FEATURES = np.random.default_rng(3).normal(size=(40, 4)).astype(np.float32)
LIVE = tiny_head()
SAID = LIVE.logits(FEATURES).argmax(1)
REMEMBERING: dict[str, Any] = {"remember": 1000, "follow": 0.05, "max_images": 64}


def turned(turns: int = 1) -> LinearHead:
    """The live head with its classes exchanged in a circle: it disagrees on everything."""
    return LinearHead(np.roll(LIVE.weight, turns, 0), np.roll(LIVE.bias, turns), CLASSES)


def store_heads(store: Path, bundle: Bundle, *more: LinearHead) -> None:
    """Put heads 2, 3, … into a store where head 1 is there."""
    for head in more:
        asyncio.run(heads.add(Store.open(store), head, bundle, Lineage(), {}))


def predict(client: httpx.Client, rows: np.ndarray = FEATURES, **params: Any) -> dict[str, Any]:
    """Have features classified."""
    answer = client.post("/v1/predict", params=params, json={"features": rows.tolist()})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def label(client: httpx.Client, rows: np.ndarray, names: list[str]) -> None:
    """Say of which classes the things are, of answers to them."""
    ids = [one["id"] for one in predict(client, rows)["predictions"]]
    said = [{"answer": one, "class": name, "verified": True} for one, name in zip(ids, names, strict=True)]
    answer = client.post("/v1/labels", json={"labels": said})
    assert answer.status_code == 200, answer.text


def state(client: httpx.Client, number: int) -> dict[str, Any]:
    """What a trial has come to."""
    found: dict[str, Any] = client.get(f"/v1/trials/{number}").raise_for_status().json()
    return found


def ended(client: httpx.Client, number: int) -> dict[str, Any]:
    """Wait for the end of a trial."""
    found: dict[str, Any] = soon(lambda: state(client, number)["end"], "the end of a trial")
    return found


def test_a_shadow_is_counted_and_never_answers(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Disagreement by class and group as numpy counts it, before a prior; then labels give both recalls."""
    other = tiny_head(5)
    with serve(**REMEMBERING) as client:
        store_heads(tmp_path / "store", tiny_bundle, other)
        started = client.post("/v1/trials", json={"head": 2}).json()
        assert (started["start"]["number"], started["start"]["against"], started["end"]) == (1, 1, None)
        assert {predict(client)["head"]["version"] for _ in range(3)} == {1}
        assert predict(client, classes="oak")["predictions"][0]["classes"][0]["class"] == "oak"
        own = other.logits(FEATURES).argmax(1)
        told = state(client, 1)
        assert told["answered"] == {"1": 160}
        for place, group in enumerate(("many", "medium", "few")):
            expected = (4 * int((place == SAID).sum()), 4 * int(((place == SAID) & (own != place)).sum()))
            assert (told["groups"][group]["compared"], told["groups"][group]["disagreed"]) == expected
        assert sum(one["compared"] for one in told["classes"]) == told["groups"]["all"]["compared"] == 160

        label(client, FEATURES[:10], [CLASSES[place] for place in SAID[:10]])
        group = state(client, 1)["groups"]["all"]
        assert (group["labels"], group["recall_against"]) == (10, 1.0)
        assert group["recall"] == pytest.approx((own[:10] == SAID[:10]).mean())
        assert group["low"] <= group["recall"] - group["recall_against"] <= group["high"]
        behind = [one.native_id for one in threading.enumerate() if one.name.startswith(THREAD)]
        if sys.platform == "linux":
            assert [os.getpriority(os.PRIO_PROCESS, one or 0) for one in behind] == [LOWEST]
        numbers = client.get("/metrics").text
        assert 'breadcrumbs_trials{mode="shadow"} 1.0' in numbers
        assert 'breadcrumbs_trial_answers_total{agrees="yes",group="few",mode="shadow"}' in numbers

        gone = client.delete("/v1/trials/1").json()
        assert gone["end"]["outcome"] == "ended"
        assert client.delete("/v1/trials/1").json() == gone, "the second end changes nothing"
        assert state(client, 1)["answered"] == {"1": 170}, "counts stay"


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_canary_answers_its_share_and_names_itself(
    serve: Serve, tiny_bundle: Bundle, tmp_path: Path, share: float
) -> None:
    """By `ref` each sender always meets one head; a request without one is answered by the live head."""
    with serve(follow=0.05) as client:
        store_heads(tmp_path / "store", tiny_bundle, turned())
        body = {"head": 2, "mode": "canary", "share": share, "by": "ref"}
        assert client.post("/v1/trials", json=body).status_code == 201
        met = {ref: predict(client, FEATURES[:1], ref=ref)["head"]["version"] for ref in map(str, range(200))}
        again = {ref: predict(client, FEATURES[:1], ref=ref)["head"]["version"] for ref in list(met)[:20]}

        assert abs(sum(one == 2 for one in met.values()) / 200 - share) < 0.15
        assert again == {ref: met[ref] for ref in again}
        assert {predict(client, FEATURES[:1])["head"]["version"] for _ in range(5)} == {1}
        assert state(client, 1)["groups"]["all"]["disagreed"] == 225, "both heads are asked, whoever answers"


def test_a_worse_head_is_rolled_back_by_labels(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The head before is live again, once, with the reason in the log; another server follows."""
    with serve(**REMEMBERING) as client, serve(refit="elsewhere", **REMEMBERING) as follower:
        store_heads(tmp_path / "store", tiny_bundle, turned())
        body = {"bake": "2h", "stop_if": {"worse": 0.05}, "expected_live": 1}
        assert client.post("/v1/heads/2/activate", json=body).status_code == 200
        assert state(client, 1)["start"]["mode"] == "bake"
        assert state(follower, 1)["start"]["head"] == 2
        label(client, FEATURES[:20], [CLASSES[place] for place in SAID[:20]])
        end = ended(client, 1)
        soon(lambda: predict(follower)["head"]["version"] == 1, "the follower's rollback")
        log = client.get("/v1/activations").json()["activations"]

    assert (end["outcome"], end["actor"]) == ("rolled_back", "trial 1")
    assert [(one["head"], one["kind"], one["actor"]) for one in log][:2] == [
        (1, "rollback", "trial 1"), (2, "activate", "api"),
    ]  # fmt: skip
    assert "worse at level 0.05" in log[0]["reason"]


def test_a_head_that_is_not_worse_goes_live(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """With a margin, by itself; trials beside it end as overtaken."""
    worse = LinearHead(-LIVE.weight, LIVE.bias, CLASSES)
    with serve(**REMEMBERING) as client:
        store_heads(tmp_path / "store", tiny_bundle, LIVE, worse)
        assert client.post("/v1/trials", json={"head": 2, "margin": 0.3}).status_code == 201
        assert client.post("/v1/trials", json={"head": 3}).status_code == 201
        label(client, FEATURES, [CLASSES[place] for place in SAID])
        assert ended(client, 1)["outcome"] == "activated"
        assert ended(client, 2)["outcome"] == "overtaken"
        assert client.get("/v1/heads").json()["live"] == 2


def test_a_jump_in_disagreement_stops_a_trial(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Beyond chance; without any label."""
    with serve(follow=0.05) as client:
        store_heads(tmp_path / "store", tiny_bundle, turned())
        body = {"head": 2, "mode": "canary", "share": 0.5, "stop_if": {"disagreement": 0.3}}
        assert client.post("/v1/trials", json=body).status_code == 201
        predict(client)
        end = ended(client, 1)

        assert (end["outcome"], end["reason"].partition(" on ")[0]) == ("stopped", "the heads disagree")
        soon(lambda: predict(client)["head"]["version"] == 1, "the live head's answers")


def test_a_jump_in_unknowns_stops_a_trial(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Of what both heads answer, one alone does not know much; a head that cannot tell is refused."""
    near = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    known, same = points(near), turned(2)
    with serve(follow=0.05) as client:
        store, rules = Store.open(tmp_path / "store"), {"stop_if": {"unknown": 0.3}}
        for head, some in ((LIVE, known), (turned(), points(near[:1])), (same, known), (LIVE, known)):
            asyncio.run(heads.add(store, head, tiny_bundle, Lineage(), {}, some))
        cannot = client.post("/v1/trials", json={"head": 3, **rules})
        client.post("/v1/heads/2/activate").raise_for_status()
        never = client.post("/v1/trials", json={"head": 5, **rules})
        assert client.post("/v1/trials", json={"head": 3, **rules}).status_code == 201
        assert client.post("/v1/trials", json={"head": 4, **rules}).status_code == 201
        predict(client)
        end = ended(client, 1)
        told, other = state(client, 1), state(client, 2)

        assert (cannot.status_code, "head 1 carries no points" in cannot.text) == (422, True)
        assert (never.status_code, "the same points" in never.text) == (422, True)
        assert (end["outcome"], "alone does not know 39 of 40 answers" in end["reason"]) == ("stopped", True)
        assert [told[name] for name in ("placed", "unknown", "unknown_against")] == [40, 39, 0]
        assert [other[name] for name in ("end", "placed", "unknown", "unknown_against")] == [None, 40, 0, 0]


def points(some: np.ndarray) -> Known:
    """By what a head tells how well a feature is known: 1 at these points, 0 a little away from them."""
    scales = np.tile(np.linspace(0.999, 1, STEPS, dtype=np.float32), (3, 1))
    return Known(np.eye(4, dtype=np.float32), some.astype(np.float32), np.zeros(len(some), np.int64), scales)


def test_a_trial_ends_in_time(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And is the same after a restart."""
    with serve(follow=0.05) as client:
        store_heads(tmp_path / "store", tiny_bundle, turned())
        assert client.post("/v1/trials", json={"head": 2, "until": "1s"}).status_code == 201
        assert ended(client, 1)["outcome"] == "over"
    with serve() as client:
        assert state(client, 1)["end"]["outcome"] == "over"
        assert [one["start"]["number"] for one in client.get("/v1/trials").json()["trials"]] == [1]


CASES: list[tuple[dict[str, Any], int, str]] = [
    ({"head": 9}, 404, "there is no head 9"),
    ({"head": 1}, 409, "head 1 is live"),
    ({"head": 2, "share": 0.5}, 422, "none for a shadow"),
    ({"head": 2, "mode": "canary"}, 422, "expected one for a canary"),
    ({"head": 2, "mode": "canary", "share": 1.5}, 422, "share"),
    ({"head": 2, "mode": "canary", "share": 0}, 422, "share"),
    ({"head": 2, "until": "soon"}, 422, "expected a duration"),
    ({"head": 2, "until": "0s"}, 422, "has passed"),
    ({"head": 2, "until": "2001-01-01T00:00:00Z"}, 422, "has passed"),
    ({"head": 2, "until": "999999999d"}, 422, "90 days"),
    ({"head": 2, "until": "20010101"}, 422, "expected a duration"),
    ({"head": 2, "stop_if": {"worse": 0.05}}, 422, "can never be decided"),
    ({"head": 2, "margin": 0.05}, 422, "can never be decided"),
    ({"head": 3, "stop_if": {"disagreement": 0.5}}, 422, "never disagree"),
    ({"head": 2, "stop_if": {"errors": 0.9999999999}}, 422, "can never be decided"),
    ({"head": 2, "stop_if": {"unknown": 0.5}}, 422, "carries no points"),
    ({"head": 2, "stop_if": {"unknown": 1}}, 422, "unknown"),
    ({"head": 2, "stop_if": {"unheard_of": 0.5}}, 422, "unheard_of"),
    ({"head": 2, "reason": "a\nb"}, 422, "control character"),
    ({"head": 4}, 409, "backbone"),
]


def test_what_cannot_be_tried_is_refused(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """In a sentence, and nothing is written."""
    with serve(follow=0.05) as client:
        store = tmp_path / "store"
        store_heads(store, tiny_bundle, turned(), LIVE, turned(2))
        path = store / "heads/000004/head.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"backbone": "f" * 64}))
        for body, status, words in CASES:
            answer = client.post("/v1/trials", json=body)
            assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text
        for bad in (b'{"head": 2, "mode": "canary", "share": NaN}', b'{"head": 2, "margin": Infinity}', b"[]", b""):
            answer = client.post("/v1/trials", content=bad, headers={"content-type": "application/json"})
            assert answer.status_code == 422, answer.text
        for baked in ({"bake": "2h"}, {"stop_if": {"worse": 0.1}}, {"bake": "2h", "stop_if": {}}):
            assert client.post("/v1/heads/2/activate", json=baked).status_code == 422
        assert client.get("/v1/trials/1").status_code == 404
        assert client.delete("/v1/trials/1").status_code == 404
        assert client.get("/v1/heads").json()["live"] == 1
        assert not (store / "trials").exists()


def test_shares_do_not_meet(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A head is on trial once, shares sum to 1, and canaries side by side are chosen one way."""
    with serve() as client:
        store_heads(tmp_path / "store", tiny_bundle, turned(), turned(2), tiny_head(5))

        def ask(head: int, share: float, by: str = "random") -> int:
            return client.post(
                "/v1/trials", json={"head": head, "mode": "canary", "share": share, "by": by}
            ).status_code

        assert [ask(2, 0.6), ask(2, 0.1), ask(3, 0.5), ask(3, 0.4, "ref"), ask(3, 0.4)] == [201, 409, 409, 409, 201]
        met = [predict(client, FEATURES[:1])["head"]["version"] for _ in range(60)]
        assert set(met) == {2, 3}
        assert client.post("/v1/trials", json={"head": 4}).status_code == 201, "a shadow beside them"


def test_of_servers_that_judge_one_rolls_back(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A server without the lease adds nothing to either log, and a line that has the head live keeps it."""
    with serve(**REMEMBERING) as one, serve(refit="elsewhere", **REMEMBERING) as two:
        store_heads(tmp_path / "store", tiny_bundle, turned())
        one.put("/v1/lines/lab-a", json={"head": 2}).raise_for_status()
        one.post("/v1/heads/2/activate", json={"bake": "1h"}).raise_for_status()
        soon(lambda: predict(two)["head"]["version"] == 2, "the follower")
        assert state(two, 1)["end"] is None, "it knows the trial from now on"
        label(two, FEATURES, [CLASSES[place] for place in SAID])
        ended(two, 1)
        assert sorted(path.name for path in (tmp_path / "store/trials").iterdir()) == ["00000001.json", "00000002.json"]
        assert len(one.get("/v1/activations").json()["activations"]) == 3
        counted = state(one, 1)
        assert counted["answered"].get("2", 0) >= 40, "what both servers counted"
        assert [predict(server, line="lab-a")["head"]["version"] for server in (one, two)] == [2, 2]


@pytest.mark.slow
def test_a_refits_head_is_tried_first(serve: Serve) -> None:
    """Where the server says so: the gate says yes, and the head starts as a shadow that may go live by itself."""
    with serve(gate_trial="24h", **REMEMBERING) as client:
        verdict = finish(client, {"snapshots": [upload(client)]})["verdict"]
        told = state(client, 1)["start"]

        assert (verdict["activated"], verdict["note"].partition(" until")[0]) == (False, "on trial 1")
        assert (told["mode"], told["head"], told["margin"], told["stop_if"]["worse"]) == ("shadow", 2, 0.02, 0.05)
        assert client.get("/v1/heads").json()["live"] == 1
