"""How well a feature is known and its nearest rows, asked of a real server in every way; and whose rows are told."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import make_settings, running
from tiny import CLASSES, SPACE, tiny_head, tiny_known, write_bundle_of_features

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import known as knowns
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.prediction.evidence import NEIGHBOURS
from breadcrumbs.serving.learning.example import Label, Said, identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.refits.examples import Taken, note
from breadcrumbs.serving.state import heads, keys
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

OCTETS = {"content-type": "application/octet-stream"}
INFER = "/v2/models/tiny-features/infer"
ROWS = np.random.default_rng(4).normal(size=(40, 4)).astype(np.float32)
FIRST = tuple(ROWS[0].tolist())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of features with rows and points."""
    plain = write_bundle_of_features(tmp_path_factory.mktemp("known") / "bundle")
    own = Snapshot(ROWS, np.arange(40) % 3, CLASSES, SPACE, 1, ids=np.arange(100, 140), dataset="d" * 64)
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    files |= {"snapshots/epoch-0001.safetensors": snapshots.to_bytes(own)}
    files |= {bundles.KNOWN: knowns.to_bytes(tiny_known(), plain.head().digest)}
    return bundles.write(plain.folder, plain.manifest, files)


@pytest.fixture(scope="module")
def client(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of it."""
    with running(make_settings(bundle, tmp_path_factory.mktemp("store"), max_images=100)) as one:
        yield one


def ask(client: httpx.Client, features: Any = FIRST, **params: Any) -> httpx.Response:
    return client.post("/v1/predict", params=params, json={"features": features})


def nearest(client: httpx.Client, features: Any = FIRST, **params: Any) -> list[dict[str, Any]]:
    answer = ask(client, features, **{"explain": 5, **params})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"][0]["nearest"]
    return found


def infer(client: httpx.Client, **parameters: Any) -> httpx.Response:
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": ROWS[0].tolist()}
    return client.post(INFER, json={"inputs": [tensor], "parameters": parameters})


def told(answer: httpx.Response) -> str:
    found: str = answer.json()["error"]["message"]
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), min_size=1, max_size=70))
def test_how_well_each_feature_is_known_is_what_the_points_say(
    client: httpx.Client, features: list[list[float]]
) -> None:
    """Of one and of many, whatever else is asked; and only where it is asked."""
    expected = tiny_known().of(np.array(features, np.float32))

    found = [one["known"] for one in ask(client, features, known=1, classes="oak").json()["predictions"]]

    assert found == pytest.approx(expected, abs=0.01)
    assert "known" not in ask(client, features).json()["predictions"][0]


def test_every_way_of_asking_says_the_same(client: httpx.Client) -> None:
    """`/v1`, `/v2` and the client."""
    one = ask(client, known=True, explain=3).json()
    parameters = infer(client, known=True, explain=3).json()["parameters"]
    with Client(str(client.base_url)) as own:
        found = own.predict_features([ROWS[0]] * 3, known=True, explain=3)

    assert json.loads(parameters["known"]) == [one["predictions"][0]["known"]]
    assert json.loads(parameters["nearest"]) == [one["predictions"][0]["nearest"]]
    assert [answer.known for answer in found.predictions] == pytest.approx([one["predictions"][0]["known"]] * 3)
    assert found.rows is not None
    assert found.rows.model_dump() == one["rows"] == {"searched": 40, "of": 40}
    assert next(row.image for row in found.predictions[1].nearest or ()) == 100
    assert "parameters" not in infer(client).json()


def test_the_nearest_rows_are_told_with_class_and_image(client: httpx.Client) -> None:
    """The row itself first."""
    for row in (0, 7, 39):
        first, *more = nearest(client, ROWS[row].tolist(), explain=NEIGHBOURS)

        assert first == {
            "class": CLASSES[row % 3], "distance": pytest.approx(0, abs=1e-6), "source": "bundle", "row": row,
            "image": 100 + row,
        }  # fmt: skip
        assert len(more) == NEIGHBOURS - 1
        assert [one["distance"] for one in more] == sorted(one["distance"] for one in more)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"explain": 21}, "explain"),
        ({"explain": -1}, "explain"),
        ({"explain": "all"}, "explain"),
        ({"known": 2}, "known"),
    ],
)
def test_what_cannot_be_asked_is_refused(client: httpx.Client, params: dict[str, Any], words: str) -> None:
    """In `/v1` and `/v2`, in one sentence."""
    one, two = ask(client, **params), infer(client, **params)

    assert (one.status_code, two.status_code) == (422, 400)
    assert words in told(one)
    assert words in two.json()["error"]


def test_features_that_are_none_are_refused_as_ever(client: httpx.Client) -> None:
    """NaN, another width, and a length that no head takes."""
    for features in ("[[NaN, 0, 0, 0]]", "[[1, 2]]", "[[1e39, 0, 0, 0]]"):
        answer = client.post(
            "/v1/predict", params={"known": 1, "explain": 1}, content=f'{{"features": {features}}}',
            headers={"content-type": "application/json"},
        )  # fmt: skip
        assert answer.status_code == 422
    assert ask(client, [0, 0, 0, 0], known=1, explain=1).json()["predictions"][0]["known"] == 0


def test_a_head_without_points_says_so(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And one that has none of the backbone's rows has no nearest ones."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        refused = ask(client, known=1)

        assert refused.status_code == 409
        assert told(refused).startswith("head 1 carries no points to tell what is known by")
        assert nearest(client) == []
        assert infer(client, known=True).status_code == 409
        with Client(str(client.base_url)) as own, pytest.raises(ServerError, match="carries no points"):
            own.predict_features(ROWS[0], known=True)


def test_each_head_has_its_own_points(bundle: Bundle, tmp_path: Path) -> None:
    """Whatever goes live meanwhile, an answer has those of the head that it names."""
    store = Store.open(tmp_path / "store")
    with running(make_settings(bundle, tmp_path / "store")) as client:
        expected = {1: tiny_known()}
        for seed in (2, 3):
            made = heads.add(store, tiny_head(seed), bundle, Lineage(parent=1), {}, tiny_known(seed))
            expected[asyncio.run(made).version] = tiny_known(seed)
        for version in (2, 3, 1, 2):
            client.post(f"/v1/heads/{version}/activate").raise_for_status()
            for head in ("active", "1", "2", "3"):
                answer = ask(client, known=1, head=head).json()
                (known,) = expected[answer["head"]["version"]].of(ROWS[:1])
                assert answer["predictions"][0]["known"] == pytest.approx(known, abs=0.01)
        (tmp_path / "store" / "heads" / "000003" / knowns.FILE).write_bytes(b"damaged")
    with running(make_settings(bundle, tmp_path / "store")) as client:
        refused = ask(client, known=1, head="3")
        assert refused.status_code >= 500
        assert "head 3 is damaged" in told(refused)


def label(feature: np.ndarray[Any, Any], name: str, owner: str | None, by: str) -> Label:
    """A label of a feature, not one of those that judge."""
    content = f"{abs(hash((by, name, feature.tobytes()))):064x}"[:64]
    said = Said(identity(owner, content), name, by, False, f"feature:{content}", content, f"{by}'s", SPACE, owner)
    return Label(said, feature)


def test_rows_of_others_and_what_is_gone_are_not_told(bundle: Bundle, tmp_path: Path) -> None:
    """Snapshots and examples are told to their owners and to admin; not after they are erased or deleted."""
    file = tmp_path / "keys.json"
    names = {"ann": ("predict", "refit"), "bob": ("predict", "refit"), "cat": ("predict",), "boss": ("admin",)}
    secrets = {name: keys.add(file, name, scopes) for name, scopes in names.items()}
    store = Store.open(tmp_path / "store")
    own = Snapshot(2 * ROWS[:3] + 0.01, np.array([0, 1, -1]), ("Föhre", "elm"), SPACE, 3)
    theirs = replace(own, features=own.features[:2], labels=own.labels[:2], ids=np.array([7, 8]))

    def by(name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {secrets[name]}"}

    with running(make_settings(bundle, tmp_path / "store", keys=file)) as client:

        def seen(name: str) -> list[tuple[str, str | None]]:
            answer = client.post(
                "/v1/predict", params={"explain": 20}, json={"features": ROWS[0].tolist()}, headers=by(name)
            ).raise_for_status()
            rows = answer.json()["predictions"][0]["nearest"]
            return [(one["source"], one.get("snapshot", one.get("by"))) for one in rows if one["source"] != "bundle"]

        sent = [
            client.put("/v1/snapshots", content=snapshots.to_bytes(one), headers=by(name) | OCTETS).json()["sha256"]
            for one, name in ((own, "ann"), (theirs, "bob"))
        ]
        examples = Examples(store)
        labels = [label(ROWS[0] * 3, "new", "ann", "ann"), label(ROWS[0] * 4, "oak", "cat", "cat")]
        asyncio.run(examples.add(labels))
        asyncio.run(note(store, "job", Taken(ids=[one.said.id for one in labels], until=0)))
        lineage = Lineage(parent=1, snapshots=[*sent, "f" * 64], refit="job", spec={"classes": {"Föhre": "pine"}})
        head = tiny_head(1, (*CLASSES, "pine", "new"))
        record = asyncio.run(heads.add(store, head, bundle, lineage, {}))
        client.post(f"/v1/heads/{record.version}/activate", headers=by("boss")).raise_for_status()

        assert sorted(set(seen("boss"))) == sorted(
            [("example", "ann"), ("example", "cat"), ("snapshot", sent[0]), ("snapshot", sent[1])]
        )
        assert set(seen("ann")) == {("example", "ann"), ("snapshot", sent[0])}
        assert set(seen("bob")) == {("snapshot", sent[1])}
        assert seen("cat") == [("example", "cat")]
        told = client.post(
            "/v1/predict", params={"explain": 4}, json={"features": ROWS[0].tolist()}, headers=by("ann")
        ).json()
        assert {one["class"] for one in told["predictions"][0]["nearest"]} >= {"oak", "new", "pine"}
        assert told["rows"] == {"searched": 43, "of": 43}

        client.delete(f"/v1/snapshots/{sent[0]}", headers=by("ann")).raise_for_status()
        client.delete(f"/v1/examples/{labels[0].said.id}", headers=by("ann")).raise_for_status()
        assert seen("ann") == []
        assert set(seen("boss")) == {("example", "cat"), ("snapshot", sent[1])}
    with running(make_settings(bundle, tmp_path / "store", keys=file)) as client:
        assert set(seen("boss")) == {("example", "cat"), ("snapshot", sent[1])}
