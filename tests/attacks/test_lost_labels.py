"""`kill -9` while people label: what was acknowledged is there, what was not is there whole or not at all."""

import asyncio
import contextlib
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest
from forked import started
from patience import PATIENCE
from ports import free_port
from server_process import serving
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.state.store import Store

PNG = {"content-type": "image/png"}
EACH = 3
"""Labels of a request."""


def there(folder: Path) -> set[str]:
    """The classes of all examples in a store."""
    return {one.label for one in asyncio.run(Examples(Store.open(folder)).current())}


def labelling(client: httpx.Client, acknowledged: list[int]) -> None:
    """Label until the server dies; each request's labels have a class of their own."""
    number = 0
    while True:
        labels = [{"feature": [number, place, 0, 0], "class": f"{number}"} for place in range(EACH)]
        client.post("/v1/labels", json={"labels": labels}).raise_for_status()
        acknowledged.append(number)
        number += 1


@pytest.mark.parametrize("count", [1, 7, 20])
def test_no_acknowledged_label_is_lost(tiny_bundle: Bundle, tmp_path: Path, count: int) -> None:
    """Killed after so many answers, in the middle of the next one; and a new server goes on."""
    acknowledged: list[int] = []
    with serving(tiny_bundle, tmp_path) as server:

        def label() -> None:
            with contextlib.suppress(httpx.TransportError):
                labelling(server.client, acknowledged)

        thread = threading.Thread(target=label)
        thread.start()
        while len(acknowledged) < count:
            thread.join(0.001)
        os.kill(server.pid, signal.SIGKILL)
        thread.join(PATIENCE)
    examples = asyncio.run(Examples(Store.open(tmp_path / "store")).current())
    known = {one.label for one in examples}

    assert {str(number) for number in acknowledged} <= known
    assert len(known) <= len(acknowledged) + 1
    assert len(examples) == EACH * len(known)
    with serving(tiny_bundle, tmp_path) as server:
        listed = server.client.get("/v1/examples", params={"limit": 1000}).json()["examples"]
        assert {one["class"] for one in listed} == known


@pytest.mark.parametrize(("when", "name"), [("before", "examples/.*"), ("after", "examples/.*")])
def test_a_label_is_whole_or_not_there(tiny_bundle: Bundle, tmp_path: Path, when: str, name: str) -> None:
    """Killed right before and right after it is written; sent again, it is there once."""
    port = free_port()
    labels = [{"feature": [place, 0, 0, 0], "class": f"{place}"} for place in range(EACH)]
    store = tmp_path / "store"
    line = (str(tiny_bundle.folder), str(store), str(port), when, name, "1")
    with (
        started(*line, code="import crashing_server; crashing_server.main()") as program,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").is_success:
                    break
        with pytest.raises(httpx.TransportError):
            client.post("/v1/labels", json={"labels": labels})
        assert program.wait() == -signal.SIGKILL
    assert there(store) == (set() if when == "before" else {"0", "1", "2"})

    with serving(tiny_bundle, tmp_path) as server:
        server.client.post("/v1/labels", json={"labels": labels}).raise_for_status()
        assert len(server.client.get("/v1/examples").json()["examples"]) == EACH


def test_an_erasure_that_was_cut_short_is_finished(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """By asking again: 404, and nothing is left."""
    with serving(tiny_bundle, tmp_path, "--remember", "10") as server:
        answer = server.client.post("/v1/predict", content=png(picture()), headers=PNG).json()
        name = answer["predictions"][0]["id"]
        server.client.post("/v1/labels", json={"labels": [{"answer": name, "class": "oak"}]}).raise_for_status()
        server.client.get(f"/v1/answers/{name}").raise_for_status()
    (tmp_path / "store" / "erased").mkdir()
    (tmp_path / "store" / "erased" / f"{name}-{2**62:016x}").touch()  # what it had done when it was killed
    before = sum(len(list((tmp_path / "store" / kind).iterdir())) for kind in ("answers", "examples"))
    with serving(tiny_bundle, tmp_path) as server:
        assert server.client.get("/v1/examples").json()["examples"] == []
        assert server.client.delete(f"/v1/answers/{name}").status_code == 404
    after = sum(len(list((tmp_path / "store" / kind).iterdir())) for kind in ("answers", "examples"))

    assert (before, after) == (2, 0)


def test_a_worker_labels_what_another_one_has_just_answered(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Before it is written; connections are spread over both."""
    line = ["serve", "--bundle", str(tiny_bundle.folder), "--store", "store", "--port", str(port := free_port())]
    line += ["--device", "cpu", "--threads", "1", "--workers", "2", "--remember", "100"]
    url = f"http://127.0.0.1:{port}"
    with started(*line, folder=tmp_path) as program:
        program.tells(lambda told: "2 processes serve" in told)
        for seed in range(8):  # each with a connection of its own
            asked = httpx.post(f"{url}/v1/predict", content=png(picture(seed)), headers=PNG, timeout=PATIENCE)
            label = {"answer": asked.raise_for_status().json()["predictions"][0]["id"], "class": f"{seed}"}
            httpx.post(f"{url}/v1/labels", json={"labels": [label]}, timeout=PATIENCE).raise_for_status()
        program.send(signal.SIGTERM)
        program.wait()

    assert there(tmp_path / "store") == {f"{seed}" for seed in range(8)}
