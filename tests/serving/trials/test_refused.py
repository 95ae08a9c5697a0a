"""What cannot be tried, or be a line's name: each is refused in one sentence, and nothing is written."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running import make_settings, running
from tiny import tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

CANARY = {"head": 2, "mode": "canary", "share": 0.6}
DEFAULT_ONLY = "a head is tried in the default line only"
NAME = "expected letters, digits, '.', '_' and '-', 60 at most, the first a letter or digit"
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("PUT", "/v1/lines/a%1Bb%0A", {}, f"line 'a\\x1bb\\n': {NAME}"),
    ("POST", "/v1/trials", {"head": 3, "mode": "canary", "share": 1.5},
     "JSON body: share: Input should be less than or equal to 1, got 1.5"),
    ("POST", "/v1/trials", {"head": 3, "mode": "canary", "share": 0.5},
     "a share of 0.5 does not fit beside those of running trials (trial 1 0.6): end one, or ask for less"),
    ("POST", "/v1/trials", {"head": 2}, "head 2 is on trial already: end trial 1 before another one starts"),
    ("POST", "/v1/trials", {"head": 4}, "head 4 was fitted to backbone ffffffffffff; this one is "),
    ("POST", "/v1/trials", {"head": 3, "stop_if": {"worse": 0.05}}, "can never be decided"),
    ("POST", "/v1/trials", {"head": 3, "stop_if": {"errors": 0.9999999999}}, "can never be decided"),
    ("POST", "/v1/trials?line=lab-a", {"head": 3}, f"line: {DEFAULT_ONLY}, not in 'lab-a'; leave it out"),
    ("POST", "/v1/trials", {"head": 3, "line": "lab-a"}, f"{DEFAULT_ONLY}; leave out line"),
    ("POST", "/v1/trials?line=a%07", {"head": 3}, f"line 'a\\x07': {NAME}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def busy(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with heads 2 and 3, head 4 of another backbone, a line, and a canary of head 2."""
    store = tmp_path_factory.mktemp("store")
    with running(make_settings(tiny_bundle, store)) as client:
        for seed in (5, 6, 7):
            asyncio.run(heads.add(Store.open(store), tiny_head(seed), tiny_bundle, Lineage(), {}))
        path = store / "heads/000004/head.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"backbone": "f" * 64}))
        client.put("/v1/lines/lab-a").raise_for_status()
        client.post("/v1/trials", json=CANARY).raise_for_status()
        yield client


@pytest.mark.parametrize(("method", "path", "body", "words"), CASES)
def test_it_is_refused_in_one_sentence(
    busy: httpx.Client, method: str, path: str, body: dict[str, Any], words: str
) -> None:
    """What came and what was expected, on one line; lines and trials are as they were."""
    before = busy.get("/v1/lines").json(), busy.get("/v1/trials").json()
    answer = busy.request(method, path, json=body)
    message = answer.json()["error"]["message"]

    assert answer.status_code in {409, 422}
    assert words in message
    assert message.isprintable()
    assert ". " not in message
    assert (busy.get("/v1/lines").json(), busy.get("/v1/trials").json()) == before
