"""Stores and bundles that older versions wrote are opened, served, refitted and rolled back by this one.

Each file of `older/` is named by the commit whose own code wrote it: `9abf742` is the first with the name `breadcrumbs`
and has bundle and head of format 1, `2233db3` came right before 0.2.0 and has answers, examples, a prior and a trial
too. In each, a server with the tiny bundle took two snapshots, refitted for real, and head 2 went live;
`expected.json` is what it answered then.
"""

import asyncio
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from refits import finish
from running import make_settings, running
from tiny import picture, png

from breadcrumbs.models import bundle as bundles
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify

pytestmark = pytest.mark.slow
OLDER = sorted((Path(__file__).parent / "older").glob("*.tar.xz"))
IMAGE: dict[str, Any] = {"content": png(picture(1)), "headers": {"Content-Type": "image/png"}}


class Opened(NamedTuple):
    """An old store that is served by this version."""

    version: str
    folder: Path
    expected: dict[str, Any]
    client: httpx.Client


@pytest.fixture(scope="module", params=OLDER, ids=lambda path: path.name.partition(".")[0])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A server of this version on what an older one left."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    shutil.copytree(folder / "store", folder / "untouched")
    settings = make_settings(bundles.read(folder / "bundle"), folder / "store", remember=100)
    with running(settings, command=REFIT) as client:
        name = request.param.name.partition(".")[0]
        yield Opened(name, folder, json.loads((folder / "expected.json").read_text()), client)


def answer(client: httpx.Client) -> dict[str, Any]:
    """The answer to the image that the old server was asked about."""
    found = client.post("/v1/predict?top_k=3", **IMAGE)
    assert found.status_code == 200, found.text
    return dict(found.json())


def test_an_old_store_is_small_and_sound(opened: Opened) -> None:
    """Nothing in it is damaged, as this version reads it."""
    told = asyncio.run(verify(Store.open(str(opened.folder / "untouched"))))

    assert (told.heads, told.snapshots, told.refits, told.activations) == (2, 2, 1, 2)
    assert told.sound, told.findings
    assert all(path.stat().st_size < 50_000 for path in OLDER)


def test_an_old_store_answers_as_it_did(opened: Opened) -> None:
    """By the same live head, which is still a head of its digest; report and snapshots are listed."""
    client, expected = opened.client, opened.expected
    told = answer(client)
    (job,) = client.get("/v1/refit").json()["refits"]

    assert told["head"] == expected["head"]
    for now, then in zip(told["predictions"][0]["classes"], expected["classes"], strict=True):
        assert now == {**then, "probability": pytest.approx(then["probability"], abs=1e-6)}
    assert job["state"] == "succeeded"
    assert client.get(f"/v1/refit/{job['id']}/report.html").status_code == 200
    assert len(client.get("/v1/snapshots").json()["snapshots"]) == 2


def test_what_people_said_is_there(opened: Opened) -> None:
    """Examples, a prior and a trial, of the version that had them."""
    client, there = opened.client, opened.version != "9abf742"
    examples = client.get("/v1/examples").json()["examples"]
    priors = client.get("/v1/priors").json()["priors"]
    trials = client.get("/v1/trials").json()["trials"]

    assert sorted(one["class"] for one in examples) == (["larch", "oak"] if there else [])
    assert [one["name"] for one in priors] == (["spring"] if there else [])
    assert [one["start"]["number"] for one in trials] == ([1] if there else [])
    if there:
        asked = client.post("/v1/predict?prior=spring", **IMAGE)
        assert asked.status_code == 200, asked.text


def test_an_old_store_is_refitted_and_rolled_back(opened: Opened) -> None:
    """A refit of the old snapshots makes head 3, which goes live; two steps back lead to the bundle's head."""
    client = opened.client
    stored = [one["sha256"] for one in client.get("/v1/snapshots").json()["snapshots"]]
    job = finish(client, {"snapshots": stored, "spec": {"l2": 0.01, "prior_offset": 0.0}})

    assert job["state"] == "succeeded", job
    assert job["verdict"]["head"] == 3
    for trial in client.get("/v1/trials").json()["trials"]:
        client.delete(f"/v1/trials/{trial['start']['number']}")
    if not job["verdict"]["activated"]:
        assert client.post("/v1/heads/3/activate", json={"reason": "a test"}).status_code == 200
    assert answer(client)["head"]["version"] == 3
    assert client.post("/v1/heads/rollback").json()["head"] == 2
    assert answer(client)["head"] == opened.expected["head"]
    assert client.post("/v1/heads/rollback").json()["head"] == 1
    assert answer(client)["head"]["version"] == 1
