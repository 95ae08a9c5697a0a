"""`predict` on many images: folders, bad ones among good ones, files of results; the same here and at a server."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import make_settings, running
from tiny import CLASSES, picture, png

from breadcrumbs.classify.by_server import Asked
from breadcrumbs.classify.classify import Classified, Source, classify, show
from breadcrumbs.classify.results import COLUMNS, Prediction, writing
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.serving.client.client import Client

BAD = "not a JPEG, PNG or WebP image"
SERVERS = ({}, {"max_images": 1}, {"max_images": 7, "queue": 5}, {"max_body_bytes": 4000}, {"max_images": 1000})
SUFFIXES = (".csv", ".jsonl", ".parquet")


@pytest.fixture(scope="module", params=[None, *SERVERS], ids=str)
def source(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Source]:
    """The bundle itself, and servers with limits of several sizes."""
    if request.param is None:
        yield Source(tiny_bundle.folder, "", None)
        return
    with running(make_settings(tiny_bundle, tmp_path_factory.mktemp("store"), **request.param)) as client:
        yield Source(None, str(client.base_url), None)


def fill(folder: Path, good: int, bad: tuple[int, ...] = ()) -> None:
    """Write pictures, a number each, in folders of ten; bad ones are text under an image's name."""
    for number in range(good + len(bad)):
        path = folder / f"{number // 10:03d}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"words" if number in bad else png(picture(number)))


def best(found: Classified) -> dict[str, str]:
    return {Path(one.image).name: one.classes[0]["class"] for one in found.kept}


@pytest.fixture(scope="module")
def expected(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The classes of the first hundred pictures, one at a time."""
    folder = tmp_path_factory.mktemp("pictures")
    fill(folder, 100)
    source = Source(tiny_bundle.folder, "", None)
    found = {}
    for path in sorted(folder.rglob("*.png")):
        found |= {path.name: classify([path], source, 3, None).kept[0].classes}
    return found


@pytest.mark.parametrize("count", [1, 2, 31, 100])
def test_all_images_of_a_folder_are_classified_as_one_at_a_time(
    source: Source, expected: dict[str, Any], tmp_path: Path, count: int
) -> None:
    """In order of their paths, at any depth, in however many requests."""
    fill(tmp_path, count)

    found = classify([tmp_path], source, 3, None)

    assert [one.image for one in found.kept] == sorted(tmp_path.rglob("*.png"))
    assert found.failed == []
    for one in found.kept:
        assert [ranked["class"] for ranked in one.classes] == [r["class"] for r in expected[one.image.name]]
        assert [ranked["probability"] for ranked in one.classes] == pytest.approx(
            [r["probability"] for r in expected[one.image.name]], abs=1e-6
        )


@pytest.mark.parametrize("bad", [(0,), (39,), (5, 6, 7, 20), tuple(range(0, 40, 2)), tuple(range(39))])
def test_bad_images_are_told_and_the_others_answered(source: Source, tmp_path: Path, bad: tuple[int, ...]) -> None:
    """Wherever they are, however many; a file that is not there is one of them."""
    fill(tmp_path, 40 - len(bad), bad)

    found = classify([tmp_path, tmp_path / "gone.png"], source, 1, None)

    assert [int(one.image.stem) for one in found.failed[:-1]] == list(bad)
    assert [int(one.image.stem) for one in found.kept] == [n for n in range(40) if n not in bad]
    assert all(BAD in str(one.error) for one in found.failed[:-1])
    assert found.failed[-1].error == "No such file or directory"


def test_one_head_answers_all(source: Source, tmp_path: Path) -> None:
    """Its version and digest are told."""
    fill(tmp_path, 40)

    found = classify([tmp_path], source, 1, None)

    assert found.head["version"] == (None if source.bundle else 1)
    assert len(found.head["digest"]) == 64


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_results_are_written_to_a_file(source: Source, tmp_path: Path, suffix: str) -> None:
    """A row for each class, or an object for each image; errors among them, in the order of the images."""
    fill(tmp_path / "in", 30, (3,))
    out = tmp_path / "new" / f"out{suffix}"

    found = classify([tmp_path / "in"], source, 2, out)
    rows = read(out)

    assert (len(found.kept), len(found.failed), found.count) == (0, 1, 31)
    names = [str(path) for path in sorted((tmp_path / "in").rglob("*.png"))]
    assert [row["image"] for row in rows if row["rank"] in {1, None}] == names
    assert [row["rank"] for row in rows[:4]] == [1, 2, 1, 2]
    assert {row["class"] for row in rows} <= {*CLASSES, None}
    assert BAD in rows[6]["error"]
    assert sum(row["error"] is not None for row in rows) == 1
    assert list(out.parent.iterdir()) == [out]


def read(out: Path) -> list[dict[str, Any]]:
    """The rows of a file, in whichever form."""
    if out.suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_table(out).to_pylist())
    if out.suffix == ".jsonl":
        return [row for line in out.read_text().splitlines() for row in rows_of(json.loads(line))]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return [
        {name: value or None for name, value in row.items()} | {"rank": int(row["rank"]) if row["rank"] else None}
        for row in rows
    ]


def rows_of(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "error" in value:
        yield {"image": value["image"], "rank": None, "class": None, "error": value["error"]}
    for rank, one in enumerate(value.get("classes", ()), 1):
        yield {"image": value["image"], "rank": rank, "error": None, **one}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    """What was there before is there still."""
    out = tmp_path / f"out{suffix}"
    out.write_text("before")

    def interrupted() -> None:
        with writing(out) as write:
            write(Prediction(Path("a.png"), [{"class": "oak", "index": 0, "probability": 1.0}]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_rows_of_any_name_are_written(tmp_path: Path, suffix: str) -> None:
    """With quotes, line ends and bytes that are no Unicode in the name."""
    out = tmp_path / f"out{suffix}"
    name = os.fsdecode(b'a,"b\n\xff.png')
    with writing(out) as write:
        for number in range(25_000):
            write(Prediction(Path(name if number % 2 else "ü.png"), [{"class": "oak", "index": 0, "probability": 0.5}]))

    rows = read(out)
    assert len(rows) == 25_000
    assert {row["image"] for row in rows} == {"ü.png", 'a,"b\\n\\udcff.png'}


def test_without_images_a_file_has_its_columns(tmp_path: Path) -> None:
    """Nothing else."""
    for suffix in (".csv", ".parquet"):
        with writing(tmp_path / f"out{suffix}"):
            pass
    from pyarrow import parquet

    assert (tmp_path / "out.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert parquet.read_table(tmp_path / "out.parquet").column_names == list(COLUMNS)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x.txt", "expected a file that ends with .csv, .jsonl, .parquet"),
        ("folder.csv", "is a folder; expected a file"),
    ],
)
def test_a_file_that_cannot_be_is_told_first(tiny_bundle: Bundle, tmp_path: Path, out: str, message: str) -> None:
    """Before an image is read."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BreadcrumbsError, match=message):
        classify([tmp_path / "gone.png"], Source(tiny_bundle.folder, "", None), 1, tmp_path / out)


def test_without_pyarrow_a_parquet_file_is_told_first(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install, and what works without."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ExtraMissing, match=r"pip install 'breadcrumbs-longtail\[parquet\]', or --out with .csv or .jsonl"
    ):
        classify([tmp_path / "gone.png"], Source(tiny_bundle.folder, "", None), 1, tmp_path / "x.parquet")

    assert list(tmp_path.iterdir()) == []


def test_nothing_that_can_be_classified_is_an_error(source: Source, tmp_path: Path) -> None:
    """For one image with its name, for several with their number; no file is left."""
    fill(tmp_path / "in", 0, (0, 1))
    (tmp_path / "empty").mkdir()
    images = sorted((tmp_path / "in").rglob("*.png"))

    for given, message in (
        (images[:1], f"{images[0]}: "),
        (images, "2 of 2 images cannot be classified:\n"),
        ([tmp_path / "empty"], "there is no image in"),
    ):
        with pytest.raises(BreadcrumbsError) as told:
            classify(given, source, 1, tmp_path / "out.csv")
        assert str(told.value).startswith(message)

    assert not (tmp_path / "out.csv").exists()


def test_other_files_of_a_folder_are_said_and_not_sent(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in training; first bytes decide."""
    fill(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "picture").write_bytes(png(picture()))
    (tmp_path / "@eaDir").mkdir()

    found = classify([tmp_path], source, 1, None)

    assert found.count == 4
    assert f"{tmp_path}: 1 file not used: 1 .txt" in capsys.readouterr().err


def test_results_are_shown_as_lines_or_as_json(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object has everything."""
    fill(tmp_path, 3, (1,))
    found = classify([tmp_path], source, 1, None)
    show(found, as_json=True)
    value = json.loads(capsys.readouterr().out)
    show(found, as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert set(value) == {"head", "predictions", "errors"}
    assert [len(value["predictions"]), len(value["errors"]), len(lines)] == [3, 1, 3]
    assert all(line.startswith(one["image"]) for line, one in zip(lines, value["predictions"], strict=True))


def test_a_server_is_asked_as_seldom_as_its_limits_allow(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """32 images a request; the limits once."""
    fill(tmp_path, 100)
    asked: list[str] = []
    with running(make_settings(tiny_bundle, tmp_path / "store")) as server:

        class Counting(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                asked.append(request.url.path)
                return super().handle_request(request)

        with Client(str(server.base_url), transport=Counting()) as client:
            found = list(Asked(client, 1).predict(sorted(tmp_path.rglob("0*.png"))))

    assert len(found) == 100
    assert asked == ["/v2", *["/v1/predict"] * 4]


def test_a_file_larger_than_the_server_takes_is_not_read(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It is told with both numbers; here one of a terabyte, of which the disk has nothing."""
    fill(tmp_path / "in", 2)
    with (tmp_path / "in" / "huge.png").open("wb") as file:
        file.truncate(2**40)
    with running(make_settings(tiny_bundle, tmp_path / "store")) as server:
        found = classify([tmp_path / "in"], Source(None, str(server.base_url), None), 1, None)

    assert len(found.kept) == 2
    assert found.failed[0].error == f"the file has {2**40} bytes; the server's limit is 20971520"
