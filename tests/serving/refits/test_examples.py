"""`/v1/refit` from examples: what the child gets of them, what is noted, and what is refused."""

import asyncio
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from labelling import label as one
from refits import events, finish, until, upload
from running import Serve, make_settings, running
from tiny import CLASSES, tiny_head
from worlds import World

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.refit_report import Judged
from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.refits import examples as taking
from breadcrumbs.serving.refits import refit
from breadcrumbs.serving.refits.examples import Taken
from breadcrumbs.serving.refits.outputs import Made, RefitFailed
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify

LONG = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr"


def feature(number: int) -> list[float]:
    """The feature of one thing, another for each number."""
    return np.random.default_rng(number).normal(size=4).astype(np.float32).tolist()


def label(client: httpx.Client, *labels: tuple[int, str, bool]) -> list[str]:
    """Label things, each with its number, class and whether that is verified; returns the examples' ids."""
    body = [{"feature": feature(number), "class": name, "verified": sure} for number, name, sure in labels]
    answer = client.post("/v1/labels", json={"labels": body})
    assert answer.status_code == 200, answer.text
    return [one["example"] for one in answer.json()["labels"]]


def given(path: Path) -> dict[str, dict[str, int]]:
    """What the child got: by data set, each row's class and the number of the thing that it is."""
    numbers = {tuple(feature(number)): number for number in range(10)}
    found: dict[str, dict[str, int]] = {}
    for file in json.loads(path.read_text()):
        for dataset, (features, names, _) in file.items():
            rows = {numbers[tuple(row)]: name for row, name in zip(features, names, strict=True)}
            found["verified" if dataset == labelled.VERIFIED else "unverified"] = rows
    return found


@pytest.mark.parametrize(
    ("body", "verified", "unverified"),
    [
        ({}, True, False),
        ({"examples": "verified"}, True, False),
        ({"examples": "all"}, True, True),
        ({"examples": "none"}, False, False),
        ({"examples": "all", "spec": {"use_bundle_snapshots": False}}, True, True),
    ],
)
def test_a_refit_takes_the_examples_it_is_asked_for(
    serve: Serve, tmp_path: Path, body: dict[str, Any], verified: bool, unverified: bool
) -> None:
    """An empty request takes the verified ones; new classes come with their names, a relabelled thing comes once."""
    with serve("examines", str(tmp_path / "given")) as client:
        ids = label(client, (0, CLASSES[0], True), (1, LONG, True), (2, CLASSES[1], False))
        label(client, (0, CLASSES[2], True))
        job = finish(client, body)
        lineage = client.get("/v1/heads/2").json()["lineage"]

    expected = {"verified": {0: CLASSES[2], 1: LONG}} if verified else {}
    expected |= {"unverified": {2: CLASSES[1]}} if unverified else {}
    assert job["state"] == "succeeded"
    assert given(tmp_path / "given") == expected
    assert job["verdict"]["judged_examples"] == 2
    taken = sorted(ids[: 2 * verified] + ids[2:] * unverified)
    assert lineage["examples"] == len(taken)
    noted = tmp_path / "store" / "refits" / job["id"] / "examples.json"
    assert noted.exists() == bool(taken)
    if taken:
        assert json.loads(noted.read_text())["ids"] == taken
        assert lineage["examples_digest"] == hashlib.sha256("\n".join(taken).encode()).hexdigest()


@pytest.mark.parametrize("asks", [None, "verified"])
def test_a_refit_from_snapshots_takes_examples_only_if_asked(serve: Serve, tmp_path: Path, asks: str | None) -> None:
    """Named snapshots are meant as they are named."""
    with serve("examines", str(tmp_path / "given")) as client:
        label(client, (0, CLASSES[0], True))
        job = finish(client, {"snapshots": [upload(client)]} | ({} if asks is None else {"examples": asks}))

    assert job["state"] == "succeeded"
    assert bool(given(tmp_path / "given")) == (asks is not None)


def test_without_examples_an_empty_request_is_as_before(serve: Serve, tmp_path: Path) -> None:
    """The bundle's snapshots alone; the head's record says so."""
    with serve("examines", str(tmp_path / "given")) as client:
        job = finish(client)
        lineage = client.get("/v1/heads/2").json()["lineage"]

    assert (job["state"], given(tmp_path / "given")) == ("succeeded", {})
    assert (lineage["examples"], lineage["examples_digest"]) == (0, None)


@pytest.mark.parametrize(("asks", "kind"), [("verified", "verified example"), ("all", "example")])
def test_examples_that_are_not_there_are_refused(serve: Serve, asks: str, kind: str) -> None:
    """One sentence with the remedy; an example that nobody vouches for is no verified one."""
    with serve() as client:
        if asks == "verified":
            label(client, (0, CLASSES[0], False))
        answer = client.post("/v1/refit", json={"examples": asks})

    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message.startswith(f"examples: {asks}, and there is no {kind} of the deployed backbone")
    assert "POST /v1/labels" in message


@pytest.mark.parametrize("value", ["some", "", 5, ["verified"]])
def test_another_word_is_refused(serve: Serve, value: object) -> None:
    """The message names the words that there are."""
    with serve() as client:
        answer = client.post("/v1/refit", json={"examples": value})

    assert answer.status_code == 422
    assert "examples: Input should be 'verified', 'all' or 'none'" in answer.text


def test_an_erased_example_is_in_no_later_refit(serve: Serve, tmp_path: Path) -> None:
    """Its erasure names the head that was fitted with it; the next refit does without it."""
    with serve("examines", str(tmp_path / "given")) as client:
        first, _ = label(client, (0, CLASSES[0], True), (1, CLASSES[1], True))
        finish(client)
        erased = client.delete(f"/v1/examples/{first}").json()
        finish(client)

    assert erased["heads"] == [2]
    assert given(tmp_path / "given") == {"verified": {1: CLASSES[1]}}


@pytest.mark.parametrize("then", ["erased", "erased and labelled again", "relabelled"])
def test_what_is_erased_while_a_refit_runs_is_in_no_head(serve: Serve, tmp_path: Path, then: str) -> None:
    """The refit fails with a sentence, and leaves no head; another label of the example is no erasure."""
    with serve("waits", str(tmp_path / "go")) as client:
        first, _ = label(client, (0, CLASSES[0], True), (1, CLASSES[1], True))
        job = client.post("/v1/refit", json={"spec": {"activate": "always"}}).json()["id"]
        until(client, job)
        if then.startswith("erased"):
            assert client.delete(f"/v1/examples/{first}").json()["heads"] == []
        if then != "erased":
            label(client, (0, CLASSES[2], True))
        (tmp_path / "go").touch()
        *_, last = events(client, job)
        heads = [one["version"] for one in client.get("/v1/heads").json()["heads"]]

    if then == "relabelled":
        assert (last["state"], heads) == ("succeeded", [2, 1])
    else:
        assert (last["state"], heads) == ("failed", [1])
        assert last["error"]["type"] == "erased"
        assert last["error"]["message"].startswith("1 of the 2 examples that it took were erased while it ran")


class ErasingStore(Store):
    """A store in which an example is erased in the moment in which a head is stored."""

    example = ""

    async def create(self, name: str, source: Any) -> None:
        await super().create(name, source)
        if name.endswith("/head.json") and self.example:
            await Examples(self).erase([self.example])


def test_what_is_erased_while_a_head_is_stored_takes_the_head_with_it(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Whoever erased it could not be told of a head that was not there yet."""

    async def walk() -> None:
        store = ErasingStore.open(tmp_path)
        assert isinstance(store, ErasingStore)
        await Examples(store).add([one(1)])
        store.example = one(1).said.id
        newest = (await Examples(store).newest())[store.example]
        await taking.note(store, "job", Taken(ids=[store.example], until=newest.at))
        report = json.loads((Path(__file__).parents[1] / "refit_report.json").read_text())
        told = {"candidate": "d", "live": "d", "rows": 1, "holdout": "split", "candidate_metrics": report["candidate"]}
        judged = Judged.model_validate(told | {"gate": {"answer": "yes", "reasons": []}})
        made = Made(tiny_head(), judged, b"{}")
        live = cast("Live", SimpleNamespace(line=DEFAULT))  # of which only the name is read: nothing goes live
        with pytest.raises(RefitFailed, match=r"1 of the 1 examples that it took were erased"):
            await refit.settle("job", RefitRequest(), store, tiny_bundle, live, 1, made)
        assert await heads.versions(store) == []
        assert await store.names("heads") == []

    asyncio.run(walk())


@pytest.mark.parametrize("data", [b"", b"{}", b'{"ids": 3, "until": 1}', b"\x00"])
def test_a_damaged_note_of_examples_is_found(serve: Serve, tmp_path: Path, data: bytes) -> None:
    """A whole one is sound; a damaged one is named by `store verify`."""
    with serve() as client:
        label(client, (0, CLASSES[0], True))
        job = finish(client)
    store = Store.open(tmp_path / "store")
    assert asyncio.run(verify(store)).sound
    (tmp_path / "store" / "refits" / job["id"] / "examples.json").write_bytes(data)

    (finding,) = asyncio.run(verify(store)).findings

    assert (finding.kind, finding.name) == ("damaged", f"refits/{job['id']}")
    assert "examples.json is damaged" in finding.text


@pytest.mark.parametrize("asks", ["verified", "all", "none"])
def test_a_form_asks_for_examples(serve: Serve, tmp_path: Path, asks: str) -> None:
    """By its field, as the JSON does."""
    with serve("examines", str(tmp_path / "given")) as client:
        label(client, (0, CLASSES[0], True), (1, CLASSES[1], False))
        started = client.post("/v1/refit", files={"examples": (None, asks)})
        *_, last = events(client, started.raise_for_status().json()["id"])

    assert last["state"] == "succeeded"
    assert len(given(tmp_path / "given")) == {"verified": 1, "all": 2, "none": 0}[asks]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ([("examples", (None, "some"))], "form field 'examples': expected verified or all or none, got 'some'"),
        ([("examples", ("a", b"all"))], "form field 'examples': expected verified or all or none, got a file"),
        ([("examples", (None, "all"))] * 2, "form field 'examples' came 2 times; expected it once"),
    ],
)
def test_a_form_that_asks_for_something_else_is_refused(serve: Serve, form: list[Any], told: str) -> None:
    """In one sentence that names the field."""
    with serve() as client:
        answer = client.post("/v1/refit", files=form)

    assert (answer.status_code, answer.json()["error"]["message"]) == (422, told)


def test_the_client_asks_for_examples(serve: Serve, tmp_path: Path, tiny_bundle: Bundle) -> None:
    """As the request's field; absent, the server decides."""
    with serve("examines", str(tmp_path / "given")) as http:
        label(http, (0, CLASSES[0], False))
        with Client(str(http.base_url)) as client:
            job = client.wait(client.refit(examples="all").id)

    assert (job.state, job.request.examples) == ("succeeded", "all")
    assert given(tmp_path / "given") == {"unverified": {0: CLASSES[0]}}


@pytest.mark.slow
def test_five_examples_teach_a_running_server_a_class(tmp_path: Path) -> None:
    """With the real program: nothing but labels, an empty request, and the new class is answered with."""
    world = World(dim=4, apart=4.0)  # as many dimensions as the tiny backbone gives
    new = len(world.counts)
    bundle = world.bundle(tmp_path / "bundle")
    numbers = np.concatenate([np.full(5, new), world.each(20)])
    rows = world.draw(numbers, 77)
    names = (*world.classes, LONG)
    body = [
        {"feature": row.tolist(), "class": names[number], "verified": True}
        for row, number in zip(rows, numbers, strict=True)
    ]
    asked = {"features": world.draw([new] * 20, 78).tolist()}
    with running(make_settings(bundle, tmp_path / "store"), command=REFIT) as client:
        assert client.post("/v1/labels", json={"labels": body}).json()["new_classes"] == [LONG]
        job = finish(client, {"spec": {"activate": "always", "members": ["plain"], "l2": 0.01, "prior_offset": 1.0}})
        answers = client.post("/v1/predict", json=asked).json()["predictions"]

    judged = job["verdict"]["judged_examples"]
    assert job["state"] == "succeeded"
    assert 0 < judged == job["report"]["judged_examples"] < len(rows)
    assert job["report"]["rows"] == 40 * new + judged
    assert [one["name"] for one in job["report"]["new_classes"]] == [LONG]
    assert sum(answer["classes"][0]["class"] == LONG for answer in answers) > 10
