"""`/v1/heads`: going live, going back, and a thousand answers that each come from one head while heads change."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from patience import PATIENCE
from running import Serve
from tiny import expected_features, picture, png, tiny_head

from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.state import heads as stored
from breadcrumbs.serving.state import live_head as lives
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

PNG = {"content-type": "image/png"}
CANARY = {"mode": "canary", "share": 0.5}
LINES = {"default": 1, "lab-a": 2, "lab-b": 4}
SWAPS = 200


def fill(folder: Path, bundle: Bundle, count: int) -> dict[int, LinearHead]:
    """A store with the bundle's head, live, and `count` others; all heads by version."""

    async def main() -> dict[int, LinearHead]:
        store = Store.open(folder)
        await lives.first(store, bundle, Log(store))
        known = {1: bundle.head()}
        for seed in range(count):
            head = tiny_head(20 + seed)
            known[(await stored.add(store, head, bundle, Lineage(parent=1), {})).version] = head
        return known

    return asyncio.run(main())


def check(answer: httpx.Response, known: dict[int, LinearHead], seeds: list[int]) -> int:
    """Every number in the answer is the one that the head it names gives; returns that head's version."""
    assert answer.status_code == 200, answer.text
    return check_body(answer.json(), known, seeds)


def check_body(body: dict[str, Any], known: dict[int, LinearHead], seeds: list[int]) -> int:
    """The same of an answer's JSON, or of a line's part of it."""
    head = known[body["head"]["version"]]
    assert body["head"]["digest"] == head.digest
    logits = head.logits(expected_features(np.stack([picture(seed) for seed in seeds]))).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, prediction in zip(expected, body["predictions"], strict=True):
        for ranked in prediction["classes"]:
            assert ranked["probability"] == pytest.approx(row[ranked["index"]], abs=1e-5)
    return int(body["head"]["version"])


def test_two_hundred_swaps_under_load_lose_and_mix_nothing(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """While heads change and canaries come and go, every answer succeeds and is wholly that of the head it names.

    One line is swapped too; another one keeps its head.
    """
    known = fill(tmp_path / "store", tiny_bundle, 3)
    images = [png(picture(seed)) for seed in range(6)]
    over = threading.Event()

    def load(url: str, several: bool) -> list[int]:
        seen = []
        with httpx.Client(base_url=url, timeout=PATIENCE) as mine:
            while not over.is_set():
                if several:  # 6 images, batches of 4: one request in two batches, still one head
                    answer = mine.post(
                        "/v1/predict", params={"line": [*LINES]}, files=[("image", one) for one in images]
                    )
                    assert answer.status_code == 200, answer.text
                    by_line = answer.json()["lines"]
                    versions = [check_body(by_line[line], known, list(range(6))) for line in LINES]
                    assert (versions[1] in {2, 3}, versions[2]) == (True, LINES["lab-b"])
                    seen.append(versions[0])
                else:
                    seen.append(check(mine.post("/v1/predict", content=images[0], headers=PNG), known, [0]))
        return seen

    with serve(max_batch=4) as client, ThreadPoolExecutor(2) as pool:
        for line in ("lab-a", "lab-b"):
            client.put(f"/v1/lines/{line}", json={"head": LINES[line]}).raise_for_status()
        loads = [pool.submit(load, str(client.base_url), several) for several in (False, True)]
        tried: list[int] = []
        try:
            for swap in range(SWAPS):
                answer = client.post(f"/v1/heads/{(swap + 1) % 4 + 1}/activate")
                assert answer.status_code == 200, answer.text
                if swap % 10 == 0:
                    client.post(f"/v1/heads/{2 + swap // 10 % 2}/activate?line=lab-a").raise_for_status()
                if swap % 20 == 0:  # refused where that head is on trial still
                    tried.append(client.post("/v1/trials", json=CANARY | {"head": (swap + 2) % 4 + 1}).status_code)
        finally:
            over.set()
        seen = [version for one in loads for version in one.result()]
        log = client.get("/v1/activations", params={"limit": 1000}).json()["activations"]
        swapped = client.get("/v1/activations?line=lab-a").json()["activations"]
        trials = client.get("/v1/trials").json()["trials"]

    assert (len(log), len(swapped)) == (SWAPS + 1, SWAPS // 10)
    assert (len(trials), set(tried) <= {201, 409}) == (tried.count(201), True)
    assert {one["end"]["outcome"] for one in trials if one["end"]} <= {"overtaken"}
    assert set(seen) == set(known)


def test_a_head_is_activated_and_taken_back(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Answers follow, and the log says who, why and after what."""
    known = fill(tmp_path / "store", tiny_bundle, 1)
    with serve() as client:
        ahead = client.post("/v1/heads/2/activate", json={"reason": "it is better", "expected_live": 1})
        assert check(client.post("/v1/predict", content=png(picture()), headers=PNG), known, [0]) == 2
        assert client.get("/v1/activations").json()["before"] == 1
        back = client.post("/v1/heads/rollback", json={"reason": "it is not", "expected_live": 2})
        assert check(client.post("/v1/predict", content=png(picture()), headers=PNG), known, [0]) == 1
        listing = client.get("/v1/heads").json()
        log, _, before = client.get("/v1/activations").json().values()

    assert before is None
    assert (ahead.status_code, back.status_code, listing["live"]) == (200, 200, 1)
    assert [(one["head"], one["kind"], one["actor"], one["reason"]) for one in log[:2]] == [
        (1, "rollback", "api", "it is not"),
        (2, "activate", "api", "it is better"),
    ]


def test_of_activations_over_http_at_once_one_wins(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """All expect head 1 to be live; the others are told who was first."""
    fill(tmp_path / "store", tiny_bundle, 6)
    with serve() as client, ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda v: client.post(f"/v1/heads/{v}/activate", json={"expected_live": 1}), range(2, 8))
        )
        live = client.get("/v1/heads").json()["live"]

    won = [answer.json()["head"] for answer in answers if answer.status_code == 200]
    assert won == [live]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


def test_an_older_head_answers_by_name_while_another_is_live(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Without going live."""
    known = fill(tmp_path / "store", tiny_bundle, 2)
    with serve() as client:
        for version in (3, 1, 2):
            answer = client.post("/v1/predict", params={"head": version}, content=png(picture()), headers=PNG)

            assert check(answer, known, [0]) == version
        assert client.get("/v1/heads").json()["live"] == 1


def test_what_went_live_survives_a_restart(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The log is all the memory there is."""
    fill(tmp_path / "store", tiny_bundle, 1)
    with serve() as client:
        client.post("/v1/heads/2/activate")
    with serve() as client:
        assert client.get("/readyz").json()["head"] == 2


def test_a_damaged_live_head_gives_way_at_start(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The server starts with the last good head, and refuses the damaged one by name."""
    fill(tmp_path / "store", tiny_bundle, 1)
    with serve() as client:
        client.post("/v1/heads/2/activate")
    path = tmp_path / "store/heads/000002/head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with serve() as client:
        refused = client.post("/v1/heads/2/activate")

        assert client.get("/v1/heads").json()["live"] == 1
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "store")
        assert "head 2 is damaged" in refused.text


def test_a_head_is_downloaded_as_onnx(serve: Serve, tmp_path: Path, tiny_bundle: Bundle) -> None:
    """It is a checked model with the same numbers; a damaged one is refused."""
    with serve() as client:
        data = client.get("/v1/heads/1/head.onnx").content
        path = tmp_path / "store/heads/000001/head.onnx"
        path.write_bytes(heads.to_onnx(tiny_head(99)))
        refused = client.get("/v1/heads/1/head.onnx")

    onnx.checker.check_model(onnx.load_model_from_string(data))
    assert heads.from_onnx(data).digest == tiny_bundle.head().digest
    assert refused.status_code == 503
    assert "head 1 is damaged: head.onnx: expected digest" in refused.text


@pytest.mark.parametrize("path", ["/v1/heads/1/activate", "/v1/heads/rollback"])
@pytest.mark.parametrize("bad", ["\n", "\r", "\x1b[31m", "\x00", "\u2028", "\u202e", "\ud800"])
def test_a_reason_that_could_forge_a_line_is_refused(serve: Serve, path: str, bad: str) -> None:
    """Before anything changes, in words that can themselves be shown."""
    with serve() as client:
        body = json.dumps({"reason": f"ok{bad}2026-11-27 activate: head 9 is live"})
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        log = client.get("/v1/activations").json()["activations"]

    assert answer.status_code == 422
    assert any(word in answer.json()["error"]["message"] for word in ("reason: ", "Invalid JSON"))
    assert bad not in answer.json()["error"]["message"]
    assert len(log) == 1
