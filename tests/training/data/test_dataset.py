"""Finding images: folders and list files; and every problem by name."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import picture, png

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.faults import SHOWN


def jpeg(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed)).save(file, "JPEG")
    return file.getvalue()


def fill(folder: Path, **counts: int) -> None:
    """Write so many images into a folder per class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / name / f"{name}-{i}.png").write_bytes(png(picture(i)))


def load(source: Path | str, **more: Any) -> datasets.Data:
    return datasets.load(TrainConfig(data=str(source), **more))


def problems(source: Path | str, **more: Any) -> str:
    """The message that loading ends with."""
    with pytest.raises(DataError) as caught:
        load(source, **more)
    return str(caught.value)


def names(split: datasets.Split) -> list[str]:
    return [path.name for path in split.paths or ()]


# Folders


def test_a_folder_with_train_and_test(tmp_path: Path) -> None:
    """Classes are the sorted folder names; files are found at any depth, in any case of suffix; others are left out."""
    fill(tmp_path / "train", elm=2, ash=1)
    fill(tmp_path / "test", elm=1, ash=1)
    (tmp_path / "train" / "ash" / "deep").mkdir()
    (tmp_path / "train" / "ash" / "deep" / "x.JPG").write_bytes(jpeg())
    for name in ("notes.txt", ".hidden.png"):
        (tmp_path / "train" / "ash" / name).write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()

    data = load(tmp_path)

    assert data.classes == ("ash", "elm")
    assert names(data.train) == ["ash-0.png", "x.JPG", "elm-0.png", "elm-1.png"]
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train_counts.tolist() == [2, 2]
    assert names(data.test) == ["ash-0.png", "elm-0.png"]
    assert data.test.labels.tolist() == [0, 1]
    assert np.array_equal(data.train.image(3), picture(1))


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_the_usual_names_of_a_test_folder(tmp_path: Path, name: str) -> None:
    """`test`, `val` and `validation` beside `train` are found."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / name, a=3, b=1)

    data = load(tmp_path)

    assert len(data.train) == 4
    assert data.test.labels.tolist() == [0, 0, 0, 1]


def test_a_named_test_folder_goes_before(tmp_path: Path) -> None:
    """A test folder that was named is taken, not the one beside `train`; it may lack a class."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / "test", a=1, b=1)
    fill(tmp_path / "other", b=5)

    data = load(tmp_path, test_data=str(tmp_path / "other"))

    assert data.test.labels.tolist() == [1] * 5


def test_a_flat_folder_is_split_by_class(tmp_path: Path) -> None:
    """Without a test set a share of each class is held out; together they are all images, and none is in both."""
    fill(tmp_path, many=50, some=10, pair=2, one=1)

    data = load(tmp_path, holdout=0.2)

    assert data.classes == ("many", "one", "pair", "some")
    assert data.train_counts.tolist() == [40, 1, 1, 8]
    assert np.bincount(data.test.labels, minlength=4).tolist() == [10, 0, 1, 2]
    assert sorted([*data.train.ids, *data.test.ids]) == list(range(63))
    assert len({*names(data.train), *names(data.test)}) == 63


def test_the_hold_out_is_the_seeds(tmp_path: Path) -> None:
    """The same seed holds out the same images, another seed others; an image keeps its id."""
    fill(tmp_path, a=20, b=20)

    first, again, other = (load(tmp_path, seed=s) for s in (1, 1, 2))

    assert names(first.test) == names(again.test)
    assert names(first.test) != names(other.test)
    known = dict(zip(first.train.ids.tolist(), names(first.train), strict=True))
    assert all(known.get(i, name) == name for i, name in zip(other.train.ids.tolist(), names(other.train), strict=True))


def test_take_keeps_rows_together(tmp_path: Path) -> None:
    """Rows of a split keep label, id and image together, on disk and in memory."""
    fill(tmp_path / "train", a=3, b=3)
    fill(tmp_path / "test", a=1, b=1)
    disk = load(tmp_path).train
    memory = datasets.Split(disk.labels, disk.ids, pixels=np.stack([disk.image(i) for i in range(6)]))

    for split in (disk, memory):
        taken = split.take(np.array([4, 0]))

        assert taken.labels.tolist() == [1, 0]
        assert taken.ids.tolist() == [4, 0]
        assert np.array_equal(taken.image(0), picture(1))


def test_a_file_that_goes_after_the_check_is_named(tmp_path: Path) -> None:
    """An image that can no longer be read is a DataError with its path."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / "test", a=1, b=1)
    split = load(tmp_path).train
    (tmp_path / "train" / "a" / "a-0.png").unlink()
    (tmp_path / "train" / "a" / "a-1.png").write_bytes(b"now something else")

    with pytest.raises(DataError, match=r"a-0\.png: .*No such file"):
        split.image(0)
    with pytest.raises(DataError, match=r"a-1\.png: not a JPEG, PNG or WebP image"):
        split.image(1)


# List files


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder of images with train.txt and test.txt."""
    fill(tmp_path / "images", a=3, b=2)
    write_list(tmp_path / "train.txt", "images/a/a-0.png 0", "images/a/a-1.png 0", "", "images/b/b-0.png 1")
    write_list(tmp_path / "test.txt", "images/a/a-2.png 0", "images/b/b-1.png 1")
    return tmp_path


def write_list(file: Path, *lines: str) -> None:
    file.write_text("".join(line + "\n" for line in lines))


def test_list_files_without_names(listed: Path) -> None:
    """Labels count classes from 0 and are their names; empty lines count for nothing."""
    data = load(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert data.classes == ("0", "1")
    assert names(data.train) == ["a-0.png", "a-1.png", "b-0.png"]
    assert data.train.labels.tolist() == [0, 0, 1]
    assert names(data.test) == ["a-2.png", "b-1.png"]


def test_list_files_with_names(listed: Path) -> None:
    """classnames.txt beside the list names the classes, one a line."""
    (listed / "classnames.txt").write_text("white oak\nelm\n")

    assert load(listed / "train.txt", test_data=str(listed / "test.txt")).classes == ("white oak", "elm")


def test_list_files_with_a_root_of_their_own(listed: Path) -> None:
    """Paths are relative to `images` where that is given; a path may have spaces."""
    (listed / "images" / "a" / "a 0.png").write_bytes(png(picture(9)))
    write_list(listed / "train.txt", "a/a 0.png 0", "b/b-0.png 1")
    write_list(listed / "test.txt", "a/a-2.png 0")

    data = load(listed / "train.txt", test_data=str(listed / "test.txt"), images=listed / "images")

    assert names(data.train) == ["a 0.png", "b-0.png"]


def test_a_list_file_alone_is_split(listed: Path) -> None:
    """Without a test list a share of each class is held out."""
    data = load(listed / "train.txt", holdout=0.5)

    assert data.train_counts.tolist() == [1, 1]
    assert data.test.labels.tolist() == [0]


# What is wrong


def test_no_data_there(tmp_path: Path) -> None:
    """A source that is neither the embedded set nor a folder nor a file is named with what could be."""
    assert "no data at" in problems(tmp_path / "x")
    known = "'fashion-mnist-lt', 'fashion-mnist', 'cifar100'"
    assert f"expected {known}, a folder with a folder per class, or a list file" in problems("cifar")
    assert problems(tmp_path) == f"there is no image in {tmp_path}"


def test_no_list_file(listed: Path) -> None:
    """A test list that is not there is named."""
    assert problems(listed / "train.txt", test_data=str(listed / "no.txt")) == f"no list file at {listed / 'no.txt'}"


def test_no_test_folder(tmp_path: Path) -> None:
    """A test folder that is not there is named."""
    fill(tmp_path / "train", a=2)

    assert problems(tmp_path, test_data=str(tmp_path / "no")) == f"no test folder at {tmp_path / 'no'}"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Text and other formats under an image's suffix are named; so is a list's file that is not there."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / "test", a=1, b=1)
    (tmp_path / "train" / "a" / "text.png").write_text("no image")
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "ICO")
    (tmp_path / "test" / "b" / "gif.jpg").write_bytes(file.getvalue())

    message = problems(tmp_path)

    assert message.startswith("2 problems in the data:")
    assert f"{tmp_path / 'train/a/text.png'}: not a JPEG, PNG or WebP image" in message
    assert f"{tmp_path / 'test/b/gif.jpg'}: this is an icon (ICO)" in message


def test_a_missing_file_of_a_list_is_named(listed: Path) -> None:
    """A path in a list that is not there is named, with the reason."""
    write_list(listed / "train.txt", "images/a/a-0.png 0", "images/no.png 0", "images/b/b-0.png 1", "images/a 1")

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert "images/no.png: No such file or directory" in message
    assert "images/a: Is a directory" in message


def test_a_jpeg_cut_short_is_named(tmp_path: Path) -> None:
    """A JPEG without its end is found before training, by its last bytes alone."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / "test", a=1, b=1)
    (tmp_path / "train" / "a" / "whole.jpg").write_bytes(jpeg() + b"\0" * 50)  # some cameras pad
    (tmp_path / "train" / "a" / "cut.jpg").write_bytes(jpeg()[:-40])

    message = problems(tmp_path)

    assert message.startswith("1 problem ")
    assert "cut.jpg: cut short: the JPEG has no end marker" in message


def test_an_image_too_large_is_named(tmp_path: Path) -> None:
    """An image of more pixels than training would decode is found from its header, in whatever size."""
    fill(tmp_path / "train", a=2, b=2)
    fill(tmp_path / "test", a=1, b=1)
    for side in (11_000, 12_000, 60_000):
        head = bytearray(png(picture()))
        head[16:24] = struct.pack(">II", side, side)
        (tmp_path / "train" / "a" / f"huge-{side}.png").write_bytes(fixed(head))

    message = problems(tmp_path)

    assert message.startswith("3 problems")
    for side in (11_000, 12_000, 60_000):
        assert f"huge-{side}.png: image has {side} x {side} = {side**2} pixels; the limit is 120000000" in message


def fixed(data: bytearray) -> bytes:
    """A PNG with the checksum of its header put right."""
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    """A class folder without images is a problem, named; in a flat folder, too."""
    fill(tmp_path / "split" / "train", a=2, empty=0)
    fill(tmp_path / "split" / "test", a=1)
    fill(tmp_path / "flat", a=2, empty=0)

    assert problems(tmp_path / "split") == "1 problem in the data:\nclass 'empty' has no training image"
    assert problems(tmp_path / "flat") == "1 problem in the data:\nclass 'empty' has no training image"


def test_a_gap_in_a_lists_labels_is_an_empty_class(listed: Path) -> None:
    """A label that no line has is a class without images."""
    write_list(listed / "train.txt", "images/a/a-0.png 0", "images/b/b-0.png 2")

    assert "class '1' has no training image" in problems(listed / "train.txt", test_data=str(listed / "test.txt"))


@pytest.mark.parametrize("label", [-1, 2, 99])
def test_a_label_out_of_range_is_named(listed: Path, label: int) -> None:
    """A label that classnames.txt has no line for, or a negative one, is named with its file and the range."""
    (listed / "classnames.txt").write_text("oak\nelm\n")
    write_list(listed / "train.txt", "images/a/a-0.png 0", f"images/a/a-1.png {label}", "images/b/b-0.png 1")

    for more in ({"test_data": str(listed / "test.txt")}, {"holdout": 0.5}):
        assert f"a-1.png: label {label} in train, expected 0 … 1" in problems(listed / "train.txt", **more)


def test_a_label_larger_than_the_list_is_out_of_range(listed: Path) -> None:
    """Without names there are at most as many classes as images: a huge label is named, not counted up to."""
    write_list(listed / "train.txt", "images/a/a-0.png 0", "images/b/b-0.png 999999999")

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert "b-0.png: label 999999999 in train, expected 0 … 1" in message


def test_a_test_label_unknown_to_train_is_named(listed: Path) -> None:
    """A class in the test list that the training list has not is a label out of range there."""
    write_list(listed / "test.txt", "images/a/a-2.png 0", "images/b/b-1.png 2")

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert "b-1.png: label 2 in test, expected 0 … 1" in message


def test_a_test_folder_unknown_to_train_is_named(tmp_path: Path) -> None:
    """A class folder in test that train has not is named."""
    fill(tmp_path / "train", a=2, b=1)
    fill(tmp_path / "test", a=1, yew=1)

    assert "has classes that" in problems(tmp_path)
    assert problems(tmp_path).endswith("does not have: yew")


@pytest.mark.parametrize("other", ["train", "test"])
def test_a_path_listed_twice_is_named(listed: Path, other: str) -> None:
    """The same file twice in a list, or in both lists, is named, however it is spelt."""
    with (listed / f"{other}.txt").open("a") as file:
        file.write("images/a/../a/a-0.png 0\n")

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert message.startswith("1 problem ")
    assert "a-0.png: listed twice" in message


@pytest.mark.parametrize(
    "line", ["images/a/a-1.png", "images/a/a-1.png one", "0", "images/a/a-1.png 1.5", "x --1", "x ²", "x 9999999999"]
)
def test_a_bad_line_is_named_with_its_place(listed: Path, line: str) -> None:
    """A line that is not `path label`, or not with a number as the others, is named as file:line, with what it says."""
    write_list(listed / "train.txt", "images/a/a-0.png 0", "", line)

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    label = line.partition(" ")[2]
    why = f"label {label!r} is not a whole number" if label else f"expected 'path label', got {line!r}"
    assert f"{listed / 'train.txt'}:3: {why}" in message


def test_a_list_that_is_no_text_is_refused(listed: Path) -> None:
    """A list file that is not UTF-8, such as an image given by mistake, is a DataError."""
    assert "is not a list file" in problems(listed / "images" / "a" / "a-0.png")


def test_problems_are_reported_together(listed: Path) -> None:
    """One run names them all, up to a limit, and says how many more there are."""
    (listed / "classnames.txt").write_text("oak\nelm\nyew\n")
    (listed / "images" / "b" / "b-1.png").write_text("no image")
    lines = ["images/a/a-0.png 0", "images/a/a-0.png 0", "images/b/b-0.png 7"]
    write_list(listed / "train.txt", *lines, *(f"no-{i}.png 1" for i in range(30)))

    message = problems(listed / "train.txt", test_data=str(listed / "test.txt"))

    assert message.startswith("34 problems in the data:\n")
    for words in ("label 7 in train", "a-0.png: listed twice", "no-0.png: No such"):
        assert words in message
    assert len(message.splitlines()) == SHOWN + 3
    assert f"\n… and {34 - SHOWN} more\n" in message
    assert message.endswith(f"paths in a list are relative to its folder, {listed}; --images names another")
