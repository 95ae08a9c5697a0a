"""Rows whose labels are likely wrong, of snapshots and of examples, asked of a real server with a real child."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from patience import PATIENCE
from running import make_settings, running
from tiny import CLASSES, SPACE, write_bundle_of_features

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.learning.example import Label, Said, identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.processes.child import Limits
from breadcrumbs.serving.refits.suspects import Suspects
from breadcrumbs.serving.refusals import TooLarge
from breadcrumbs.serving.state import keys
from breadcrumbs.serving.state.store import Store

OCTETS = {"content-type": "application/octet-stream"}
LONG = "名" * 60
WRONG = (3, 40)
"""Rows whose label is another than the one that they lie by."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of features."""
    return write_bundle_of_features(tmp_path_factory.mktemp("suspects") / "bundle")


@pytest.fixture(scope="module")
def client(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of it."""
    with running(make_settings(bundle, tmp_path_factory.mktemp("store"))) as one:
        yield one


def rows() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features around two means far apart, and labels, two of which are wrong."""
    truth = np.arange(60) % 2
    means = np.array([[3, 0, 0, 0], [0, 3, 0, 0]])
    features = (means[truth] + 0.2 * np.random.default_rng(1).normal(size=(60, 4))).astype(np.float32)
    labels = truth.copy()
    labels[list(WRONG)] = 1 - truth[list(WRONG)]
    return features, labels


def snapshot(labels: Any = None, **more: Any) -> Snapshot:
    """Those rows, and one without a label first of all."""
    features, own = rows()
    labels = own if labels is None else labels
    return Snapshot(
        np.concatenate([features[:1], features[: len(labels)]]), np.concatenate([[-1], labels]).astype(np.int64),
        (LONG, "elm", "ash"), SPACE, 1, **more,
    )  # fmt: skip


def put(client: httpx.Client, one: Snapshot, **headers: str) -> str:
    answer = client.put("/v1/snapshots", content=snapshots.to_bytes(one), headers=OCTETS | headers).raise_for_status()
    found: str = answer.json()["sha256"]
    return found


def test_wrong_labels_of_a_snapshot_are_named(client: httpx.Client) -> None:
    """By row and image, with what is more probable; the same the second time, and fewer where fewer are asked for."""
    sha = put(client, snapshot(ids=np.arange(500, 561), dataset="d" * 64))

    found = client.get(f"/v1/snapshots/{sha}/suspects").raise_for_status().json()["suspects"]

    assert {one["row"] for one in found} == {row + 1 for row in WRONG}
    assert {one["image"] for one in found} == {row + 501 for row in WRONG}
    assert {(one["given"], one["suggested"]) for one in found} == {(LONG, "elm"), ("elm", LONG)}
    assert all(one["suggested_probability"] > one["given_probability"] for one in found)
    assert client.get(f"/v1/snapshots/{sha}/suspects?n=1").json()["suspects"] == found[:1]
    with Client(str(client.base_url)) as own:
        assert [one.row for one in own.snapshot_suspects(sha)] == [one["row"] for one in found]


def test_rows_that_no_head_can_be_fitted_to_are_refused(client: httpx.Client) -> None:
    """In one sentence: two classes, one of them of two rows, are expected."""
    answer = client.get(f"/v1/snapshots/{put(client, snapshot(np.array([0, 1])))}/suspects")

    assert answer.status_code == 409
    assert "2 rows with a label, of 2 classes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/snapshots/{'0' * 64}/suspects", 404), ("/v1/snapshots/x/suspects", 404),
        (f"/v1/snapshots/{'0' * 64}/suspects?n=0", 422), (f"/v1/snapshots/{'0' * 64}/suspects?n=1001", 422),
        ("/v1/examples/suspects?n=x", 422), ("/v1/examples/suspects", 409),
    ],
)  # fmt: skip
def test_what_is_not_there_or_cannot_be_asked_is_refused(client: httpx.Client, path: str, status: int) -> None:
    """Each with its own status."""
    assert client.get(path).status_code == status


def test_only_one_list_is_made_at_a_time_and_limits_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    """What takes longer than a refit may is stopped, and says so."""
    store = Store.open(tmp_path / "store")
    with running(make_settings(bundle, tmp_path / "store")) as client:
        first, second = put(client, snapshot()), put(client, snapshot(rows()[1][:30]))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda sha: client.get(f"/v1/snapshots/{sha}/suspects"), (first, second)))
        assert sorted({answer.status_code for answer in answers}) in ([200], [200, 503])
        until = time.monotonic() + PATIENCE
        while client.get(f"/v1/snapshots/{second}/suspects").status_code == 503:
            assert time.monotonic() < until

    slow = Suspects(store, Limits(0.01, 2**33))
    with pytest.raises(TooLarge, match="within the limits of memory and time of a refit"):
        asyncio.run(slow.of_snapshot(first))


def test_each_key_sees_suspects_of_its_own_rows_only(bundle: Bundle, tmp_path: Path) -> None:
    """Of snapshots and of examples; admin sees all."""
    file = tmp_path / "keys.json"
    scopes = {"ann": ("predict", "refit"), "bob": ("predict", "refit"), "boss": ("admin",)}
    secrets = {name: keys.add(file, name, own) for name, own in scopes.items()}
    by = {name: {"authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    examples = Examples(Store.open(tmp_path / "store"))
    features, labels = rows()
    said = [
        Label(
            Said(
                identity("ann", f"{place:064x}"), CLASSES[label], "ann", True, f"feature:{place:064x}", f"{place:064x}",
                f"photo {place}", SPACE, "ann",
            ),
            features[place],
        )
        for place, label in enumerate(labels.tolist())
    ]  # fmt: skip
    asyncio.run(examples.add(said))
    with running(make_settings(bundle, tmp_path / "store", keys=file)) as client:
        sha = put(client, snapshot(), **by["ann"])

        status = {name: client.get(f"/v1/snapshots/{sha}/suspects", headers=by[name]).status_code for name in by}
        assert status == {"ann": 200, "bob": 403, "boss": 200}
        assert client.get("/v1/examples/suspects", headers=by["bob"]).status_code == 409
        for name in ("ann", "boss"):
            found = client.get("/v1/examples/suspects", headers=by[name]).raise_for_status().json()["suspects"]
            assert {one["ref"] for one in found} == {f"photo {row}" for row in WRONG}
            assert {one["class"] for one in found} | {one["suggested"] for one in found} == set(CLASSES[:2])
        with Client(str(client.base_url), key=secrets["ann"]) as own:
            assert len(own.example_suspects(1)) == 1
            own.erase_example(found[0]["id"])
            assert found[0]["id"] not in {one.id for one in own.example_suspects()}
