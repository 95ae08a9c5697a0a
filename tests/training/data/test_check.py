"""What is checked before training: files that cannot be decoded, and pictures that occur twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from folders import classes, image, put
from small_run import small_config

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import image_check
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.faults import SHOWN
from breadcrumbs.training.run.fit import fit


def load(source: Path, **more: Any) -> datasets.Data:
    return datasets.load(TrainConfig(data=str(source), **more))


def damaged(kind: str) -> bytes:
    """A picture whose header and end are right, and whose pixels cannot be decoded."""
    data = bytearray(image(kind))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_file_that_is_cut_short_is_found_by_its_end(tmp_path: Path, kind: str, left: float) -> None:
    """Without decoding; whole ones of the same kind pass, with something after them too."""
    put(tmp_path, *classes("a", "b"), kind=kind)
    (tmp_path / "a" / "more.png").write_bytes(image(kind) + b"more" * 1000)
    load(tmp_path)
    data = image(kind)
    (tmp_path / "a" / "cut.png").write_bytes(data[: int(len(data) * left)])

    with pytest.raises(DataError, match=r"^1 problem in the data:\n.*cut\.png: (cut short|damaged image)"):
        load(tmp_path)


def test_a_full_check_finds_all_that_decoding_would(tmp_path: Path) -> None:
    """All at once, with their number; the check of headers passes them."""
    put(tmp_path, *classes("a", "b"))
    for number in range(30):
        (tmp_path / "a" / f"bad-{number}.png").write_bytes(damaged("PNG"))

    assert len(load(tmp_path).train) > 6
    with pytest.raises(DataError) as told:
        load(tmp_path, check="full")

    lines = str(told.value).splitlines()
    assert lines[0] == "30 problems in the data:"
    assert len(lines) == SHOWN + 2
    assert all("damaged image" in line for line in lines[1:-1])


def test_a_full_check_passes_what_can_be_decoded(tmp_path: Path) -> None:
    """Of every kind."""
    for kind in ("JPEG", "PNG", "WebP"):
        put(tmp_path, *(f"{name}/{kind}-{number}" for name in "ab" for number in range(3)), kind=kind)

    assert load(tmp_path, check="full").train_counts.tolist() == [7, 7]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("count", [0, 1, image_check.WAITING + 5])
def test_images_are_looked_at_in_order(tmp_path: Path, count: int, full: bool) -> None:
    """However many there are."""
    put(tmp_path, "good.png")
    paths = [tmp_path / ("good.png" if number % 7 else "gone.png") for number in range(count)]

    seen = list(image_check.look(paths, 10_000, full=full, show=False))

    assert [look.defect is None for look in seen] == [number % 7 > 0 for number in range(count)]


@pytest.mark.parametrize("link", [shutil.copy, lambda old, new: Path(new).symlink_to(old)])
def test_equal_pictures_are_noted(tmp_path: Path, link: Any) -> None:
    """In two classes, in both parts, twice in a class; copied or linked. They are no error."""
    put(tmp_path, *classes("train/a", "train/b"), *classes("test/a", "test/b"))
    link(tmp_path / "train/a/0.png", tmp_path / "train/b/copy.png")
    link(tmp_path / "train/a/1.png", tmp_path / "test/a/copy.png")
    link(tmp_path / "train/a/2.png", tmp_path / "train/a/copy.png")

    assert load(tmp_path).notes == (
        "1 picture found in two classes, of which one must be wrong: a/0.png ('a') = b/copy.png ('b')",
        (
            "1 picture found in training and in test, so that the test is easier than it should be: "
            "train/a/1.png ('a') = test/a/copy.png ('a')"
        ),
        "1 picture found more than once in a class: 2.png ('a') = copy.png ('a')",
    )


def test_pictures_of_one_size_and_equal_ends_are_compared_whole(tmp_path: Path) -> None:
    """What differs in the middle only is not the same."""
    put(tmp_path, *classes("a", "b"))
    base = image() + bytes(10_000)
    for name, middle in (("a", b"1"), ("b", b"2")):
        (tmp_path / name / "x.png").write_bytes(base[:5000] + middle + base[5001:])

    assert load(tmp_path).notes == ()


def test_many_equal_pictures_are_counted_and_some_named(tmp_path: Path) -> None:
    """Three of them."""
    put(tmp_path, *classes("a", "b", images=50))
    for number in range(50):
        shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"b/copy-{number}.png")

    (note,) = load(tmp_path).notes

    assert note.startswith("50 pictures found in two classes")
    assert note.count(" = ") == 3
    assert note.endswith("; …")


def test_the_data_of_a_run_are_written_as_json(tmp_path: Path) -> None:
    """Counts and notes."""
    put(tmp_path, *classes("train/a", "train/b"), *classes("test/a", images=2))

    found = json.loads(json.dumps(load(tmp_path).as_dict()))

    assert found == {
        "train_images": 6,
        "test_images": 2,
        "classes": [
            {"class": "a", "train_images": 3, "test_images": 2},
            {"class": "b", "train_images": 3, "test_images": 0},
        ],
        "notes": [],
    }


@pytest.mark.slow
def test_a_run_keeps_the_notes_on_its_data(tmp_path: Path) -> None:
    """In `data.json` and on the report's page, without the folders above."""
    put(tmp_path / "set", *classes("a", "b", images=6))
    shutil.copy(tmp_path / "set/a/0.png", tmp_path / "set/b/copy.png")
    (tmp_path / "set/a/x.txt").write_text("words")

    out = tmp_path / "run"
    fit(small_config(tmp_path / "set", 1), out)

    notes = json.loads((out / "data.json").read_text())["notes"]
    page = (out / "report" / "index.html").read_text()
    assert [note.partition(":")[0] for note in notes] == [
        "1 file not used",
        "1 picture found in two classes, of which one must be wrong",
    ]
    assert "1 file not used" in page
    assert "b/copy.png" in page
    assert str(tmp_path) not in "".join(notes)
