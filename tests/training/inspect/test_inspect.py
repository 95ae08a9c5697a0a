"""Images of a head examined as a whole: what is found, its CSV files and its part of a page."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.data.split import DataError, Split
from breadcrumbs.training.inspect.inspect import Findings, inspected
from breadcrumbs.training.inspect.looked import Looked

NAMES = ("<b>bold</b>", "=SUM(A1)", "Ж" * 60, "猫")
DIM = 12


def axes(classes: int, dim: int) -> np.ndarray:
    """A direction for each class; with more classes than dimensions they are drawn."""
    drawn = np.random.default_rng(7).normal(size=(classes, dim)) / dim**0.5
    return np.eye(classes, dim) if classes <= dim else drawn


def looked(per_class: int, seed: int, classes: int = len(NAMES), dim: int = DIM, flat: float = 1.0) -> Looked:
    """Classes around their own axes, with images of noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    features = 4 * axes(classes, dim)[labels] + flat * rng.normal(size=(len(labels), dim))
    pixels = rng.integers(0, 256, (len(labels), 9, 7)).astype(np.uint8)
    return Looked(features.astype(np.float32), labels, Split(labels, np.arange(len(labels)), pixels=pixels))


def head(classes: tuple[str, ...] = NAMES, dim: int = DIM) -> LinearHead:
    """The head that knows the axes."""
    return LinearHead(axes(len(classes), dim).astype(np.float32), np.zeros(len(classes), np.float32), classes)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def found() -> Findings:
    """Training images with a flipped label and a copy in another class, and a test image that was trained on."""
    train, test = looked(20, 0), looked(6, 1)
    labels = train.labels.copy()
    labels[3] = 2
    train.features[25] = train.features[70]
    test.features[5] = train.features[11]
    return inspected(replace(train, labels=labels), test, head(), NAMES, seed=1)


def test_what_was_planted_is_found(found: Findings) -> None:
    """The flipped label with its right class, the copy, and the training image in the test."""
    assert (found.suspects[0].row, found.suspects[0].suggested) == (3, 0) or found.suspects[0].row == 25
    assert 3 in [one.row for one in found.suspects]
    assert (found.twins[0].row, found.twins[0].other) == (25, 70)
    assert (found.leaks[0].row, found.leaks[0].other) == (5, 11)
    assert not found.notes


def test_the_files_have_what_was_found(found: Findings, tmp_path: Path) -> None:
    """A row for each, under names that no spreadsheet takes for a formula."""
    paths = found.write(tmp_path / "found")

    tables = {path.stem: rows(path) for path in paths}
    assert sorted(tables) == ["classes", "confusions", "duplicates", "suspects", "wrong"]
    assert [row["class"] for row in tables["classes"]] == [NAMES[0], "'=SUM(A1)", *NAMES[2:]]
    assert len(tables["suspects"]) == len(found.suspects)
    assert [row["part"] for row in tables["duplicates"]] == ["train"] * len(found.twins) + ["test"] * len(found.leaks)
    assert all(row["right"] == "no" for row in tables["wrong"])
    assert sum(int(row["images"]) for row in tables["confusions"]) == len(tables["wrong"])


def test_the_part_of_a_page_has_pictures_and_no_markup_of_names(found: Findings) -> None:
    """Every picture is inside and has words; a class called <b> is only a name."""
    page = Page(str(found.section()))

    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures
    assert all((one["src"] or "").startswith("data:image/webp;base64,") and one["alt"] for one in pictures)
    assert "b" not in [tag for tag, _ in page.tags]
    assert "Ж" * 60 in "".join(page.words)


def test_a_page_stays_small() -> None:
    """A thousand images with meaningless labels, of 200 by 200 pixels of noise, are below 500 kB."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 200, 200, 3)).astype(np.uint8)
    labels = rng.integers(0, 4, 1000)
    images = Split(labels, np.arange(1000), pixels=pixels[np.arange(1000) % 40])
    features = rng.normal(size=(1000, DIM)).astype(np.float32)
    features[500:] = features[:500]
    many = Looked(features, labels, images)

    section = str(inspected(many, many, head(), NAMES).section())

    assert section.count("<img") == 60
    assert len(section) < 500_000


@pytest.mark.parametrize("test", [None, looked(0, 0)])
def test_without_test_images_only_training_images_are_examined(test: Looked | None, tmp_path: Path) -> None:
    """No mistakes, no confusions, and a page that does not speak of them."""
    found = inspected(looked(5, 0), test, head(), NAMES)

    assert [path.stem for path in found.write(tmp_path)] == ["suspects", "duplicates"]
    assert "Wrong images" not in found.section()


@pytest.mark.parametrize(("classes", "per_class", "dim"), [(2, 1, 2), (2, 30, 2048), (1000, 2, 16)])
def test_few_and_many_classes(classes: int, per_class: int, dim: int) -> None:
    """Two classes of one image, and a thousand."""
    names = tuple(f"class {c}" for c in range(classes))
    images = looked(per_class, 0, classes, dim)
    own = head(names, dim)

    found = inspected(images, images, own, names)

    assert Page(str(found.section())).tags
    assert found.answers is not None
    assert len(found.answers) == classes * per_class


def test_images_that_have_gone_are_named_without_a_picture(tmp_path: Path) -> None:
    """A file that was damaged or deleted since it was read does not stop the report."""
    train = looked(8, 0)
    paths = tuple(tmp_path / f"{row}.png" for row in range(len(train)))
    for row, path in enumerate(paths):
        if row % 3 == 0:
            Image.fromarray(train.images.image(row)).save(path)
        elif row % 3 == 1:
            path.write_bytes(b"damaged")
    files = replace(train, images=Split(train.labels, train.images.ids, paths=paths))
    files.features[9] = files.features[20]

    page = Page(str(inspected(files, files, head(), NAMES).section()))

    assert "no picture" in "".join(page.words)
    assert str(tmp_path) not in "".join(page.words)


def test_what_takes_too_long_is_noted() -> None:
    """Labels of 3,200 classes of 500 dimensions are not examined; the rest is."""
    names = tuple(f"class {c}" for c in range(3200))
    labels = np.arange(2000) % 5
    pixels = np.zeros((2000, 1, 1), np.uint8)
    features = np.random.default_rng(0).normal(size=(2000, 500)).astype(np.float32)
    many = Looked(features, labels, Split(labels, np.arange(2000), pixels=pixels))

    found = inspected(many, None, head(names, 500), names)

    assert not found.suspects
    assert [note.partition(":")[0] for note in found.notes] == ["Labels were not examined"]
    assert found.notes[0] in found.section()


def test_parts_that_do_not_fit_are_refused_in_a_sentence() -> None:
    """Another backbone, other classes, labels out of range, lengths, features that are not finite."""
    train = looked(3, 0)
    odd = train.features.copy()
    odd[2, 1] = np.nan

    with pytest.raises(DataError, match="have 12 dimensions; the head expects 7: compute both with one backbone"):
        inspected(train, None, head(dim=7), NAMES)
    with pytest.raises(DataError, match="4 classes are given; the head has 4, in its own order"):
        inspected(train, None, head(NAMES[::-1]), NAMES)
    with pytest.raises(DataError, match=r"3 of 12 labels are not 0 … 3"):
        inspected(replace(train, labels=train.labels + 1), None, head(), NAMES)
    with pytest.raises(DataError, match="expected"):
        replace(train, labels=train.labels[1:])
    with pytest.raises(DataError, match="features of 1 of 12 images are not finite; leave these images out"):
        replace(train, features=odd)
