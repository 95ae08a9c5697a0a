"""Shards: the same images, rows and pixels as in a folder; and every defect by shard and key."""

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packing import pack, sample, shards_of
from small_run import small_config
from tiny import picture, png

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import shards
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.loader import TrainingBatches
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.order import Order
from breadcrumbs.training.make_snapshots import make_snapshots
from breadcrumbs.training.measure import config_of, measure
from breadcrumbs.training.run.fit import fit

PNG = png(picture(0))
GOOD = [("a.png", PNG), ("a.cls", b"0"), ("b.png", PNG), ("b.cls", b"1")]


def config(train: str, test: str | None = None, **more: Any) -> TrainConfig:
    return small_config(Path(train), 1).model_copy(update={"data": train, "test_data": test} | more)


@pytest.fixture(scope="module")
def packed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The patterns of training and test shards of the same images."""
    out = tmp_path_factory.mktemp("shards")
    return tuple(shards_of(images / part, out / part) for part in ("train", "test"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("t-{8..10}.tar", ["t-8.tar", "t-9.tar", "t-10.tar"]),
        ("t-{08..10}.tar", ["t-08.tar", "t-09.tar", "t-10.tar"]),
        ("{0..1}/{3..4}.tar", ["0/3.tar", "1/3.tar", "0/4.tar", "1/4.tar"]),
    ],
)
def test_a_pattern_names_shards(pattern: str, names: list[str]) -> None:
    """Each number of a range, with as many digits as its first has."""
    assert list(shards.expand(pattern)) == names


@pytest.mark.parametrize("pattern", ["{a..b}.tar", "{3..1}.tar", "{1,2}.tar", "{0..99999999}.tar"])
def test_a_pattern_that_is_none_is_told(pattern: str) -> None:
    """With what was expected, or how many are allowed."""
    with pytest.raises(DataError, match=r"expected a range|more than"):
        shards.expand(pattern)


@pytest.mark.parametrize("kind", ["cls", "json"])
@pytest.mark.parametrize("names", [False, True])
def test_shards_are_the_folder(images: Path, tmp_path: Path, kind: str, names: bool) -> None:
    """Whatever their order and number: the same rows, ids, labels, classes and bytes."""
    patterns = [
        shards_of(images / part, tmp_path / part, count, kind, names=names)
        for part, count in (("train", 4), ("test", 1))
    ]
    folder, packed = datasets.load(small_config(images)), datasets.load(config(*patterns))

    assert packed.classes == folder.classes
    for ours, theirs in ((packed.train, folder.train), (packed.test, folder.test)):
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.ids, theirs.ids)
        assert all(np.array_equal(ours.image(row), theirs.image(row)) for row in range(len(theirs)))


def test_what_is_held_out_is_the_same(images: Path, packed: tuple[str, str]) -> None:
    """Without a test set of its own."""
    folder = datasets.load(small_config(images / "train"))
    ours = datasets.load(config(packed[0]))

    assert np.array_equal(ours.test.ids, folder.test.ids)
    assert np.array_equal(ours.train.ids, folder.train.ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_look_is_the_same(images: Path, packed: tuple[str, str], workers: int) -> None:
    """Pixel for pixel, augmented, by workers too."""
    found = []
    for chosen in (small_config(images, 1), config(*packed, workers=workers)):
        split = datasets.load(chosen).train
        found.append(list(TrainingBatches(split, chosen, Order(len(split), chosen.batch_size, chosen.seed)).epoch(1)))

    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_a_run_on_shards_is_the_run_on_the_folder(run: Path, packed: tuple[str, str], tmp_path: Path) -> None:
    """The same network after its epochs, to the last bit, and the same numbers in the log and the bundle."""
    epochs = len((run / "log.jsonl").read_text().splitlines())
    fit(config(*packed).model_copy(update={"epochs": epochs}), tmp_path)
    ours, theirs = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (tmp_path, run))
    metrics = [(out / "metrics.json").read_text() for out in (tmp_path, run)]

    torch.testing.assert_close(ours["network"], theirs["network"], rtol=0, atol=0)
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_looks_and_measurements_take_shards_too(
    images: Path, packed: tuple[str, str], run: Path, tmp_path: Path
) -> None:
    """A snapshot of shards is that of the folder, and a bundle measures the same on them."""
    bundle = bundles.read(run / "bundle")
    made = [
        make_snapshots(bundle, tmp_path / str(i), data=data)
        for i, data in enumerate((str(images / "train"), packed[0]))
    ]
    folder, ours = (snapshots.read(one.paths[0]) for one in made)

    assert np.array_equal(folder.features, ours.features)
    assert np.array_equal(folder.labels, ours.labels)
    places = ((str(images / "train"), str(images / "test")), packed)
    folder_at, shards_at = (config_of(bundle, data=train, test_data=test) for train, test in places)
    found = [measure(bundle, chosen, against=(bundle, chosen)) for chosen in (folder_at, shards_at)]
    assert found[0] == found[1]
    with pytest.raises(DataError, match=r"the test images of .* are others"):
        measure(bundle, folder_at, against=(bundle, shards_at))


def test_without_names_the_labels_are_the_names(tmp_path: Path) -> None:
    """Numbers as they are; names sorted."""
    one = pack(tmp_path / "one.tar", [*GOOD, ("c.png", PNG), ("c.cls", b"0")])
    two = pack(
        tmp_path / "two.tar", [("a.png", PNG), ("a.cls", b"oak\n"), ("b.PNG", PNG), ("b.json", b'{"label": "elm"}')]
    )

    assert [datasets.images(config(str(path))).classes for path in (one, two)] == [("0", "1"), ("elm", "oak")]
    assert datasets.images(config(str(two))).split.labels.tolist() == [0, 1]


def test_what_is_no_sample_is_passed_over(tmp_path: Path) -> None:
    """Folders, hidden files, WebDataset's own, other members of a key."""
    path = pack(
        tmp_path / "a.tar", [*GOOD, ("a.txt", b"words"), (".hidden", b""), ("__meta__.json", b"{}"), ("README", b"")]
    )
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)

    assert len(shards.index(str(path))) == 2


def damaged(tmp_path: Path, members: list[tuple[str, bytes]], change: str) -> Path:
    """A shard with one thing wrong."""
    path = pack(tmp_path / "bad-0.tar", members)
    data = bytearray(path.read_bytes())
    if change == "half":
        data = data[:700]
    elif change == "no-end":
        with tarfile.open(path) as tar:
            data = data[: tar.getmembers()[-1].offset_data + 512]
    elif change == "garbage":
        data[1024 + 512 : 2048 + 512] = b"\xff" * 1024
    elif change == "negative":
        with tarfile.open(path) as tar:
            first = tar.getmembers()[1].offset
        data[first + 124 : first + 136] = b"\xff" * 4 + struct.pack(">q", -2048)
        data[first + 148 : first + 156] = b" " * 8
        data[first + 148 : first + 156] = b"%06o\0 " % sum(data[first : first + 512])
    elif change == "huge-name":
        info = tarfile.TarInfo("x" * 3_000_000)
        data = bytearray(info.tobuf(tarfile.PAX_FORMAT)) + data
    elif change == "gzip":
        data = bytearray(b"\x1f\x8b") + data
    elif change == "link":
        info = tarfile.TarInfo("c.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        data = bytearray(info.tobuf()) + data
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("half", "cut short within member|unexpected end"),
        ("no-end", "cut short or damaged at byte"),
        ("garbage", "damaged at byte|invalid header|bad checksum"),
        ("negative", "not a tar file"),
        ("huge-name", "a header of .* bytes"),
        ("gzip", "invalid header|not a tar|truncated|bad checksum"),
        ("link", "'c.png' is no plain file"),
    ],
)
def test_a_damaged_shard_is_told_by_name(tmp_path: Path, change: str, message: str) -> None:
    """Cut short, changed or hostile: nothing hangs, nothing is left out in silence."""
    path = damaged(tmp_path, GOOD, change)
    with pytest.raises(DataError, match=message) as told:
        shards.index(str(path))

    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", PNG)], "key 'a': no label; expected a member .cls or .json"),
        ([("a.cls", b"0")], "key 'a': no image beside cls; expected one of jfif, jpe, jpeg, jpg, png, webp"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"0")], "key 'a' has two members of kind image"),
        ([("a.png", PNG), ("a.cls", b"")], "key 'a': .cls: expected a number or a name, got ''"),
        ([("a.png", PNG), ("a.json", b'{"x": 1}')], "key 'a': .json holds no label"),
        ([("a.png", PNG), ("a.json", b"[" * 60_000)], "key 'a': .json holds no label"),
        ([("a.png", PNG), ("a.json", b'{"label": 1.5}')], "expected a number or a name, got 1.5"),
        ([("a.png", PNG), ("a.cls", b"\xff\xfe")], ".cls holds no label"),
        ([("a.png", PNG), ("a.cls", b"0" * 70_000)], ".cls has 70000 bytes; the limit is 65536"),
        ([], "there is no sample in it"),
    ],
)
def test_a_sample_that_is_none_is_told_by_shard_and_key(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    """Beside good ones; all problems at once."""
    bad = pack(tmp_path / "s-1.tar", members)
    pack(tmp_path / "s-0.tar", GOOD)
    with pytest.raises(DataError) as told:
        shards.index(f"{tmp_path}/s-{{0..1}}.tar")

    assert f"{bad}: {message}" in str(told.value) or (str(bad) in str(told.value) and message in str(told.value))
    assert str(tmp_path / "s-0.tar") not in str(told.value)


@pytest.mark.parametrize("label", [b"7", b"-1", b"ash"])
def test_a_label_that_is_not_known_is_told(tmp_path: Path, label: bytes) -> None:
    """With shard, key and what was expected."""
    (tmp_path / "classnames.txt").write_text("oak\nelm\n")
    path = pack(tmp_path / "a.tar", [*GOOD, ("c/d.png", PNG), ("c/d.cls", label)])
    with pytest.raises(DataError) as told:
        datasets.load(config(str(path)))

    assert f"{path}:c/d.png: label {label.decode()!r}".replace("'7'", "7").replace("'-1'", "-1") in str(told.value)
    assert "is not known; expected 0 … 1 or a class's name" in str(told.value)


def test_numbers_beside_names_are_told(tmp_path: Path) -> None:
    """Where no list of names says which number is whose."""
    path = pack(tmp_path / "a.tar", [*GOOD, ("c.png", PNG), ("c.cls", b"oak")])
    with pytest.raises(DataError, match=r"a\.png: label 0 is a number, others are names"):
        datasets.load(config(str(path)))


def test_images_in_shards_are_checked_as_files_are(tmp_path: Path) -> None:
    """Before anything starts, by shard and member; a key that is in training and test is told too."""
    path = pack(tmp_path / "a.tar", [*GOOD, ("c.jpg", b"no image"), ("c.cls", b"0")])
    with pytest.raises(DataError, match=r"a\.tar:c\.jpg: not a JPEG, PNG or WebP image"):
        datasets.load(config(str(path)))
    good = str(pack(tmp_path / "b.tar", GOOD))
    with pytest.raises(DataError, match=r"b\.tar:a\.png: listed twice"):
        datasets.load(config(good, good))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("nowhere-{0..1}.tar", None, "nowhere-1.tar: No such file"),
        ("GOOD", "folder", "--data names shards, so expected shards"),
    ],
)
def test_shards_that_are_not_there_are_told(tmp_path: Path, train: str, test: str | None, message: str) -> None:
    """Each by its name."""
    good = str(pack(tmp_path / "good.tar", GOOD))
    with pytest.raises(DataError, match=message):
        datasets.load(config(good if train == "GOOD" else train, test))


def test_an_image_that_changed_meanwhile_is_told(tmp_path: Path) -> None:
    """A shard that was replaced by a shorter one ends the run with shard and member."""
    path = pack(tmp_path / "a.tar", GOOD)
    split = datasets.images(config(str(path))).split
    path.write_bytes(path.read_bytes()[:600])

    with pytest.raises(DataError, match=r"a\.tar:a\.png: cut short"):
        split.image(0)


def test_walking_headers_reads_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large members only the neighbourhood of the headers is read."""
    big = bytes(io.BytesIO(b"\0" * 2_000_000).getbuffer())
    members = [(f"{number}.{kind}", data) for number in range(5) for kind, data in (("png", big), ("cls", b"0"))]
    path = pack(tmp_path / "a.tar", members)
    taken = list[int]()
    whole = shards.objects.read

    def counting(place: str, start: int = 0, length: int | None = None) -> bytes:
        data = whole(place, start, length)
        taken.append(len(data))
        return data

    monkeypatch.setattr(shards.objects, "read", counting)

    assert len(shards.index(str(path))) == 5
    assert sum(taken) < 0.1 * path.stat().st_size


def test_a_span_stands_where_a_path_stands(images: Path, tmp_path: Path) -> None:
    """Its bytes, its name, its place."""
    file = min((images / "train/red").iterdir())
    path = pack(tmp_path / "a.tar", sample(images, file, 2))
    (one,) = shards.index(str(path))

    assert one.span.read_bytes() == one.span.open().read() == file.read_bytes()
    assert str(one.span) == f"{path}:train/red/{file.name}"
    assert one.span.resolve() == Span(str(path.resolve()), one.span.start, one.span.length, one.span.member)
