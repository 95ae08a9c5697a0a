"""Which folders are parts, which are classes, and what is said where neither can be."""

import os
from pathlib import Path
from typing import Any

import pytest
from folders import classes, put
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import class_folders
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.image_files import Unused

TRAINS = ("train", "training")
TESTS = ("test", "testing", "val", "valid", "validation", "dev")
CASES = (str.lower, str.upper, str.title)


def load(source: Path | str, **more: Any) -> datasets.Data:
    return datasets.load(TrainConfig(data=str(source), **more))


def told(source: Path | str, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **more)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("train", TRAINS)
def test_parts_are_known_by_all_their_names_in_any_case(tmp_path: Path, train: str, test: str, case: Any) -> None:
    """And are never classes."""
    put(tmp_path / case(train), *classes("elm", "oak"))
    put(tmp_path / case(test), *classes("elm", "oak", images=1))

    data = load(tmp_path)

    assert data.classes == ("elm", "oak")
    assert (len(data.train), len(data.test)) == (6, 2)
    assert data.notes == ()


@pytest.mark.parametrize("name", [*TRAINS, *TESTS])
@pytest.mark.parametrize("others", [2, 40])
def test_a_class_may_have_a_parts_name_among_others(tmp_path: Path, name: str, others: int) -> None:
    """Its images are in it, as in the others."""
    names = [name, *(f"c{number:02d}" for number in range(others))]
    put(tmp_path, *classes(*names))

    assert load(tmp_path).classes == tuple(sorted(names))


def test_a_test_part_without_labels_is_not_used_and_said(tmp_path: Path) -> None:
    """As in many competitions; a share is held out."""
    put(tmp_path, *classes("train/a", "train/b"), "test/1.png", "test/2.png")

    data = load(tmp_path)

    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.notes == ("folders not used: test (2 files)",)


def test_a_test_part_beside_the_classes_is_no_class(tmp_path: Path) -> None:
    """Where its folders are these classes."""
    put(tmp_path, *classes("a", "b"), *classes("test/a", "test/b", images=1))

    data = load(tmp_path)

    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.test)) == (6, 2)


def test_test_goes_before_validation_and_the_other_is_said(tmp_path: Path) -> None:
    """Both have labels; one is measured on."""
    put(tmp_path, *classes("train/a", "train/b"), *classes("Val/a", images=2), *classes("TEST/a", "TEST/b", images=1))

    data = load(tmp_path)

    assert data.test.labels.tolist() == [0, 1]
    assert data.notes == ("folders not used: Val (2 files)",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/1.png", "test/2.png"), "train has images, but no class folders; expected {root}/train/CLASS/IMAGE"),
        (("1.png", "2.png", "3.png"), "has 3 images, but no class folders; expected {root}/CLASS/IMAGE"),
        (("photos/a/1.png", "photos/b/2.png"), "if these are the classes, --data {root}/photos"),
        (("x/train/a/1.png", "x/test/a/2.png"), "if these are the classes, --data {root}/x"),
        (("oak/1.png", "oak/2.png"), "there is one class, 'oak'; expected at least two"),
        (("test/a/1.png", "val/b/1.png"), "{root} has test and val, but no folder train"),
        (
            ("train/a/1.png", "Training/a/1.png", "test/a/1.png"),
            "{root} has Training and train, which are all",
        ),
        (("train/a/1.png", "val/a/1.png", "dev/a/1.png"), "{root} has dev and val; say which are the test images"),
        (("train/a/1.png", "train/b/2.png", "bus/1.png", "car/2.png"), "is train a class, as bus and car beside it"),
        (("a/1.png", "b/1.png", "c/1.png"), "there is no test image: every class has one image, which training keeps"),
        (("train/Oak/1.png", "train/b/1.png", "test/oak/1.png"), "does not have: oak (there it is 'Oak')"),
        ((), "there is no image in {root}"),
    ],
)
def test_another_layout_is_told_with_its_remedy(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    """And nothing is said of test images where they are not the trouble."""
    put(tmp_path, *names)

    error = told(tmp_path)

    assert message.format(root=tmp_path) in error
    assert ("no test image" in error) == ("no test image" in message)


def test_a_flat_folder_with_a_list_is_told_to_use_it(tmp_path: Path) -> None:
    """The list of Hugging Face's, which then works."""
    put(tmp_path, *(f"{number}.png" for number in range(10)))
    lines = [f"{number}.png,{'oak' if number % 2 else 'elm'}" for number in range(10)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))

    assert told(tmp_path).endswith(f"--data {tmp_path / 'metadata.csv'}")
    assert load(tmp_path / "metadata.csv").classes == ("elm", "oak")


def test_a_class_of_other_files_is_told_with_what_is_there(tmp_path: Path) -> None:
    """It has files, but none that is an image."""
    put(tmp_path, *classes("a", "b"))
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "1.xml").write_text("<a/>")

    assert told(tmp_path) == "1 problem in the data:\nclass 'xml' has no training image; it has 1 .xml"


def test_a_test_folder_without_images_is_the_trouble(tmp_path: Path) -> None:
    """And named."""
    put(tmp_path, *classes("a", "b"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").mkdir()
    put(tmp_path / "photos", *classes("a", "b"))

    error = told(tmp_path / "photos", test_data=str(tmp_path / "other"))

    assert f"there is no test image: {tmp_path / 'other'} has none" in error


def test_names_equal_to_unicode_are_told(tmp_path: Path) -> None:
    """Composed and decomposed are one name; between the parts they are one class."""
    put(tmp_path / "one", *classes("caf\u00e9", "cafe\u0301", "b"))
    put(tmp_path / "two", *classes("train/cafe\u0301", "train/b"), *classes("test/caf\u00e9", images=1))

    assert "'cafe\\u0301' and 'caf\\xe9' are one name, 'caf\u00e9', to Unicode" in told(tmp_path / "one")
    assert load(tmp_path / "two").classes == ("b", "caf\u00e9")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"bad\xff", "class 'bad\\udcff' is not Unicode text; rename it in UTF-8"),
        (b"a\tb", "class 'a\\tb' has a control character, U+0009"),
        (b"a\x1b[31mb", "class 'a\\x1b[31mb' has a control character, U+001B"),
        ("a\u202eb".encode(), "class 'a\\u202eb' has a bidi control, U+202E"),
        (b"a\nb", "class 'a\\nb' has a control character, U+000A"),
        (b" oak", "class ' oak' begins or ends with a space"),
        (b"oak ", "class 'oak ' begins or ends with a space"),
    ],
)
def test_a_name_that_cannot_be_a_classs_is_told(tmp_path: Path, name: bytes, message: str) -> None:
    """Before anything is read, in either part."""
    put(tmp_path / "flat", *classes("a", "b"))
    put(tmp_path / "parts", *classes("train/a", "train/b", "test/a"))
    for folder in (tmp_path / "flat", tmp_path / "parts" / "test"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).mkdir()

    for source in ("flat", "parts"):
        assert message in told(tmp_path / source)


def test_names_that_differ_in_case_are_two_classes_and_said(tmp_path: Path) -> None:
    """Perhaps they were meant to be one."""
    put(tmp_path, *classes("Oak", "oak"))

    data = load(tmp_path)

    assert data.classes == ("Oak", "oak")
    assert data.notes == ("classes 'Oak' and 'oak' differ only in upper and lower case",)


@pytest.mark.parametrize("folder", ["models", "data set", "ü" * 60])
def test_a_folder_and_classes_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Long, in other letters, with spaces; named from where it is."""
    names = ("x" * 60, "ß" * 60, "日本", "a b")
    put(tmp_path / folder, *classes(*names))
    monkeypatch.chdir(tmp_path)

    assert load(folder).classes == tuple(sorted(names))


@given(st.sets(st.sampled_from([*TRAINS, *TESTS, "oak", "elm", "bus"]), min_size=1), st.data())
def test_every_layout_is_found_or_told(tmp_path_factory: pytest.TempPathFactory, names: set[str], data: Any) -> None:
    """Whatever folders there are, with images, with folders of images, or empty: parts are not classes with them."""
    root = tmp_path_factory.mktemp("layout")
    for name in sorted(names):
        kind = data.draw(st.sampled_from(["images", "classes", "empty"]))
        (root / name).mkdir()
        put(root / name, *{"images": ["1.png"], "classes": ["a/1.png", "b/1.png"], "empty": []}[kind])
    try:
        found = class_folders.find(root, Unused())
    except DataError:
        return

    assert found.classes
    assert found.test is None or found.test.name not in found.classes
    assert found.train == root or not set(found.classes) & names


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_back_is_no_class(tmp_path: Path, target: str) -> None:
    """It would have all images."""
    put(tmp_path / "one/set", *classes("a", "b"))
    (tmp_path / "one/set/back").symlink_to(target)

    data = load(tmp_path / "one/set")

    assert data.classes == ("a", "b")
    assert data.notes == ("folders not used: back (a link to a folder that is used, or back)",)


def test_a_link_to_a_class_elsewhere_is_a_class(tmp_path: Path) -> None:
    """Also one to a whole part."""
    put(tmp_path, *classes("elsewhere/a", "elsewhere/b"), *classes("tests/a", "tests/b"), *classes("set/train/c"))
    put(tmp_path, "tests/c/1.png")
    for name in ("a", "b"):
        (tmp_path / "set/train" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "set/test").symlink_to(tmp_path / "tests")

    data = load(tmp_path / "set")

    assert data.classes == ("a", "b", "c")
    assert (len(data.train), len(data.test)) == (9, 7)


def test_a_test_part_that_is_not_asked_for_is_said(tmp_path: Path) -> None:
    """Where another one is named, and where only training images are wanted."""
    put(tmp_path / "set", *classes("train/a", "train/b"), *classes("test/a", "test/b"))
    put(tmp_path / "other", *classes("a", "b"))
    config = TrainConfig(data=str(tmp_path / "set"))

    named = load(tmp_path / "set", test_data=str(tmp_path / "other"))

    for notes in (named.notes, datasets.images(config).notes):
        assert notes == ("folders not used: test (6 files)",)
    assert load(tmp_path / "set", test_data=str(tmp_path / "set/test")).notes == ()
