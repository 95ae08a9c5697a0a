"""`GET /v1/classes`: every class with what there is of it, for each key."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import make_settings, running
from tiny import CLASSES, COUNTS

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state import keys

LONG = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr"


def say(client: httpx.Client, *labels: tuple[int, str, bool], **more: Any) -> None:
    """Label features, each another thing by its number."""
    body = [{"feature": [place, 1, 2, 3], "class": name, "verified": sure} for place, name, sure in labels]
    client.post("/v1/labels", json={"labels": body}, **more).raise_for_status()


def listed(client: httpx.Client, **more: Any) -> dict[str, dict[str, Any]]:
    """The classes by name."""
    return {one["name"]: one for one in client.get("/v1/classes", **more).raise_for_status().json()["classes"]}


@pytest.fixture(scope="module")
def shared(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of a server on which labels gather."""
    with running(make_settings(tiny_bundle, tmp_path_factory.mktemp("store"))) as client:
        yield client


def test_without_examples_it_is_the_head(client: httpx.Client) -> None:
    """In its order, with the bundle's images and groups."""
    found = client.get("/v1/classes").json()

    assert [one["name"] for one in found["classes"]] == list(CLASSES)
    assert [one["train_images"] for one in found["classes"]] == list(COUNTS)
    assert [one["group"] for one in found["classes"]] == ["many", "medium", "few"]
    assert found["head"] == {key: client.get("/v1/heads/1").json()[key] for key in ("version", "digest")}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*CLASSES, LONG, "yew"]), st.booleans()), min_size=1))
def test_counts_are_those_of_the_newest_labels(shared: httpx.Client, said: list[tuple[int, str, bool]]) -> None:
    """Each thing counts once, for the class that it has now; a name that no head knows comes last."""
    everything = [(place, CLASSES[0], False) for place in range(6)]
    say(shared, *everything)
    say(shared, *said)
    newest = {place: (name, sure) for place, name, sure in [*everything, *said]}
    found = listed(shared)

    assert {one: (row["examples"], row["verified"]) for one, row in found.items() if row["examples"]} == {
        name: (sum(n == name for n, _ in newest.values()), sum(n == name and sure for n, sure in newest.values()))
        for name in {name for name, _ in newest.values()}
    }
    assert list(found)[: len(CLASSES)] == list(CLASSES)
    assert all(row["known"] == (name in CLASSES) for name, row in found.items())


def test_a_key_counts_its_own_examples(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """One with `admin` counts those of all."""
    path = tmp_path / "keys.json"
    scopes: dict[str, tuple[keys.KeyScope, ...]] = {"a": ("predict",), "b": ("predict",), "root": ("predict", "admin")}
    secrets = {name: keys.add(path, name, own) for name, own in scopes.items()}
    auth = {name: {"headers": {"Authorization": f"Bearer {secret}"}} for name, secret in secrets.items()}
    with running(make_settings(tiny_bundle, tmp_path / "store", keys=path)) as client:
        say(client, (1, "oak", False), (2, LONG, False), **auth["a"])
        say(client, (1, "oak", False), **auth["b"])
        counts = {name: {one: row["examples"] for one, row in listed(client, **auth[name]).items()} for name in auth}

    assert counts["a"] == {"oak": 1, "elm": 0, "Wollemia nobilis": 0, LONG: 1}
    assert counts["b"] == {"oak": 1, "elm": 0, "Wollemia nobilis": 0}
    assert counts["root"] == {"oak": 2, "elm": 0, "Wollemia nobilis": 0, LONG: 1}


def test_a_thousand_new_names_are_listed(shared: httpx.Client) -> None:
    """After those of the head, in the order of their names."""
    say(shared, *((place + 10, f"Species {place:04}", True) for place in range(1000)))
    names = [name for name in listed(shared) if name.startswith("Species")]

    assert names == [f"Species {place:04}" for place in range(1000)]
