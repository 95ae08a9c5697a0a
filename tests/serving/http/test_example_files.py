"""Examples as files over HTTP: a round trip that loses no bit, and files that are refused before anything is kept."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning import example_files
from breadcrumbs.serving.learning.portable import ExamplesError
from breadcrumbs.serving.state import keys

LONG = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr"
FORMATS = ("parquet", "jsonl")


def fill(client: httpx.Client, count: int = 3) -> None:
    """Examples of every kind: of an answer, an image and features, one of which f16 cannot hold."""
    asked = client.post("/v1/predict", content=png(picture(1)), params={"ref": "tree ✓"}).json()
    labels: list[dict[str, Any]] = [
        {"answer": asked["predictions"][0]["id"], "class": "oak", "by": "ann", "verified": True},
        {"image": base64.b64encode(png(picture(2))).decode(), "class": LONG, "by": "Jörg", "ref": "a/b.png"},
        {"feature": [1e30, -0.0, 1e-30, 3.0], "class": "elm"},
    ]
    rows = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32).tolist()
    labels += [{"feature": row, "class": f"class {place % 1000}"} for place, row in enumerate(rows)]
    client.post("/v1/labels", json={"labels": labels}).raise_for_status()


def exported(client: httpx.Client, kind: str, **params: Any) -> bytes:
    """The file."""
    return client.get("/v1/examples", params={"format": kind, **params}).raise_for_status().content


def rows(data: bytes, kind: str) -> list[dict[str, Any]]:
    """What a file says, by id."""
    if kind == "parquet":
        found = pq.read_table(io.BytesIO(data)).to_pylist()
        found = [one | {"at": one["at"].isoformat(timespec="microseconds")} for one in found]
    else:
        found = [json.loads(line) for line in data.splitlines()]
    return sorted(found, key=lambda one: str(one["id"]))


@pytest.mark.parametrize("way", [("parquet", "jsonl"), ("jsonl", "parquet")])
@pytest.mark.parametrize("count", [0, 2100])
def test_a_round_trip_loses_nothing(tiny_bundle: Bundle, tmp_path: Path, way: tuple[str, str], count: int) -> None:
    """From one store to another, and back in the other format: every bit, name and time; twice changes nothing."""
    with running(make_settings(tiny_bundle, tmp_path / "one", remember=10)) as client:
        fill(client, count)
        there = exported(client, way[0])
        listed = client.get("/v1/examples", params={"limit": 1000}).json()["examples"]
    with running(make_settings(tiny_bundle, tmp_path / "two")) as client:
        first = client.post("/v1/examples", content=there).raise_for_status().json()
        again = client.post("/v1/examples", content=there).raise_for_status().json()
        back = exported(client, way[1])
        shown = client.get("/v1/examples", params={"limit": 1000}).json()["examples"]

    assert rows(there, way[0]) == rows(back, way[1])
    assert {one["dtype"] for one in rows(back, way[1])} == {"F16", "F32"}
    assert any(str(value) == "-0.0" for one in rows(back, way[1]) for value in one["feature"])
    assert sorted(map(str, shown)) == sorted(map(str, listed)) or count
    assert first == {"new": count + 3, "changed": 0, "same": 0, "older": 0, "erased": 0}
    assert again == {"new": 0, "changed": 0, "same": count + 3, "older": 0, "erased": 0}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_newer_label_stays_and_what_was_erased_stays_away(serve: Serve, kind: str) -> None:
    """An older file neither takes a correction back, nor brings back what a person asked to be forgotten."""
    with serve(remember=10) as client:
        fill(client, 0)
        before = exported(client, kind)
        oak, long, _ = (one["id"] for one in rows(before, kind) if one["class"] in {"oak", LONG, "elm"})
        names = {one["id"]: one["class"] for one in rows(before, kind)}
        corrected = next(one for one in names if names[one] == "elm")
        erased = next(one for one in names if names[one] == LONG)
        client.post("/v1/labels", json={"labels": [{"feature": [1e30, -0.0, 1e-30, 3.0], "class": "yew"}]})
        client.delete(f"/v1/examples/{erased}").raise_for_status()
        answer = client.post("/v1/examples", content=before).json()
        after = {one["id"]: one["class"] for one in client.get("/v1/examples").json()["examples"]}

    assert {oak, long} <= names.keys()
    assert answer == {"new": 0, "changed": 0, "same": 1, "older": 1, "erased": 1}
    assert after[corrected] == "yew"
    assert erased not in after


@pytest.mark.parametrize("kind", FORMATS)
def test_filters_choose_what_is_in_the_file(serve: Serve, kind: str) -> None:
    """The list's own; a file without a row is one, too."""
    with serve(remember=10) as client:
        fill(client)
        chosen = rows(exported(client, kind, verified=True), kind)
        none = rows(exported(client, kind, by="nobody"), kind)

    assert [one["class"] for one in chosen] == ["oak"]
    assert none == []


def changed(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A row with other values."""
    return lambda row: row | values


BAD: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (changed(id="0" * 32), "row 2: id: expected"),
    (changed(verified="yes"), "row 2: verified: Input should be a valid boolean"),
    (changed(feature=[1.0, float("nan"), 0.0, 0.0]), "row 2: feature: expected finite numbers"),
    (changed(feature=[1e39] * 4, dtype="F32"), "row 2: feature: expected finite numbers"),
    (changed(feature=[0.1] * 4, dtype="F16"), "row 2: feature: expected finite numbers that F16 has exactly"),
    (changed(feature=[]), "row 2: feature: List should have at least 1 item"),
    (changed(at="2999-01-01T00:00:00Z"), "row 2: at: expected a time from 1970 to now"),
    (changed(at="1969-01-01T00:00:00Z"), "row 2: at: expected a time from 1970 to now"),
    (changed(at="yesterday"), "row 2: at: "),
    (changed(source="image:" + "0" * 64), "row 2: source: expected answer:ID"),
    (changed(source="x"), "row 2: source: expected answer:ID"),
    (changed(content="x"), "row 2: content: "),
    (changed(**{"class": ""}), "row 2: class: "),
    (changed(by="a\nb"), "row 2: by: "),
    (changed(extra=1), "row 2: extra: "),
    (lambda row: {name: value for name, value in row.items() if name != "ref"}, "row 2: ref: Field required"),
]


@pytest.fixture(scope="module")
def good(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Three rows; the last one is of a feature."""
    with running(make_settings(tiny_bundle, tmp_path_factory.mktemp("good"), remember=10)) as client:
        fill(client, 0)
        return sorted(rows(exported(client, "jsonl"), "jsonl"), key=lambda one: one["class"] == "elm")


@pytest.mark.parametrize(("spoil", "told"), BAD)
def test_a_bad_row_is_named(
    good: list[dict[str, Any]], tmp_path: Path, spoil: Callable[[dict[str, Any]], dict[str, Any]], told: str
) -> None:
    """By its number and field."""
    path = tmp_path / "examples"
    path.write_text("\n".join(json.dumps(row) for row in (good[0], spoil(good[1]), good[2])))

    with pytest.raises(ExamplesError, match=f"^{re.escape(told)}"):
        list(example_files.read(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"feature": [1.0] * 5, "dtype": "F32"}, "5 dimensions; the deployed backbone has 4"),
        ({"class": ""}, "row 2: class: "),
    ],
)
def test_one_bad_row_refuses_the_file(
    serve: Serve, good: list[dict[str, Any]], change: dict[str, Any], told: str
) -> None:
    """Nothing of it is kept."""
    lines = [json.dumps(row) for row in (good[0], good[1] | change, good[2])]
    with serve() as client:
        answer = client.post("/v1/examples", content="\n".join(lines))
        left = client.get("/v1/examples").json()["examples"]

    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "format")
    assert told in answer.json()["error"]["message"]
    assert left == []


def table(**columns: list[Any]) -> bytes:
    """A Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file has no example; expected one a row"),
        (b"\x00\xff\n", "row 1: expected a JSON object a line, or a Parquet file"),
        (b"[1]\n", "row 1: expected a JSON object, got list"),
        (b"[" * 40_000, "row 1: expected a JSON object a line"),
        (b"PAR1", "damaged Parquet file"),
        (b"PAR1" + b"\x00" * 40 + b"PAR1", "damaged Parquet file"),
        (table(feature=[[1.0]], label=["oak"]), "column 'id' is missing"),
    ],
)
def test_a_file_of_something_else_is_refused(client: httpx.Client, data: bytes, told: str) -> None:
    """In one sentence that says what was expected."""
    answer = client.post("/v1/examples", content=data)

    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "format")
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.99])
def test_a_parquet_file_that_was_cut_short_is_refused(serve: Serve, cut: float) -> None:
    """Its end says where everything is."""
    with serve(remember=10) as client:
        fill(client)
        data = exported(client, "parquet")
        answer = client.post("/v1/examples", content=data[: int(len(data) * cut)])

    assert answer.status_code == 422
    assert "damaged Parquet file" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("scopes", "status"), [(("predict", "refit", "promote"), 403), (("admin",), 200)])
def test_a_file_takes_the_scope_admin(
    serve: Serve, tmp_path: Path, scopes: tuple[keys.KeyScope, ...], status: int
) -> None:
    """Since its rows say themselves who owns them, and who vouches for them."""
    secret = keys.add(tmp_path / "keys", "one", scopes)
    admin = keys.add(tmp_path / "keys", "two", ("admin",))
    with serve(remember=10, keys=tmp_path / "keys") as client:
        client.headers["authorization"] = f"Bearer {admin}"
        fill(client)
        data = exported(client, "jsonl")
        client.headers["authorization"] = f"Bearer {secret}"
        answer = client.post("/v1/examples", content=data)
        seen = rows(exported(client, "jsonl"), "jsonl")

    assert answer.status_code == status
    assert len(seen) == (6 if status == 200 else 0)


def test_a_store_without_room_keeps_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And says so before it begins."""
    with running(make_settings(tiny_bundle, tmp_path / "one", remember=10)) as client:
        fill(client, 900)
        data = exported(client, "jsonl")
    with running(make_settings(tiny_bundle, tmp_path / "two", max_store_bytes=200_000)) as client:
        answer = client.post("/v1/examples", content=data)
        left = client.get("/v1/examples").json()["examples"]

    assert (answer.status_code, answer.json()["error"]["type"], left) == (507, "store_full", [])
