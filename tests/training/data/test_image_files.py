"""Files below a folder: used by their first bytes, the others counted."""

import os
from pathlib import Path

import pytest
from folders import classes, image, put

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import image_files
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.image_files import Unused, walk


def found(folder: Path) -> tuple[list[str], Unused]:
    unused = Unused()
    return sorted(str(path.relative_to(folder)) for path in walk(folder, unused)), unused


@pytest.fixture
def without_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setattr(image_files, "more_formats", frozenset)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("name", ["x.jpe", "x.jfif", "x", "x.dat", "x.JPG", "x.gif", "x.heic"])
def test_first_bytes_decide(tmp_path: Path, kind: str, name: str) -> None:
    """Whatever the suffix says."""
    put(tmp_path, name, kind=kind)

    names, unused = found(tmp_path)

    assert names == [name]
    assert list(unused.sentences()) == []


@pytest.mark.parametrize(
    ("kind", "suffix"), [("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif"), ("AVIF", ".avif"), ("JPEG2000", ".jp2")]
)
def test_other_images_are_counted_with_their_kind(
    tmp_path: Path, kind: str, suffix: str, without_formats: None
) -> None:
    """And what to do about them is said; so for HEIC, of which there is only the beginning here."""
    put(tmp_path, f"a{suffix}", f"b{suffix}", kind=kind)
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "d.txt").write_text("words")

    names, unused = found(tmp_path)
    (words,) = unused.sentences()

    assert names == []
    assert unused.files.total() == 4
    assert words.startswith(f"4 files not used: 2 {suffix}")
    assert "1 .heic, 1 .txt; to use " in words
    for name in ("HEIC", {"JPEG2000": "JPEG 2000"}.get(kind, kind)):
        assert name in words.partition("; to use ")[2]
    assert "pip install 'breadcrumbs-longtail[formats]'" in words


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF"])
def test_with_the_extra_other_images_are_used(tmp_path: Path, kind: str) -> None:
    """Those that it reads, whatever their suffix; also in training."""
    pytest.importorskip("pillow_heif")
    put(tmp_path, *classes("a", "b"))
    put(tmp_path, "a/x", "b/x.jpeg", "b/x.txt", kind=kind)

    data = datasets.load(TrainConfig(data=str(tmp_path), check="full"))

    assert len(data.train) + len(data.test) == 9
    assert data.notes == ()


def test_a_name_that_claims_to_be_an_image_is_checked_not_skipped(tmp_path: Path) -> None:
    """Text under an image's suffix is a fault."""
    put(tmp_path, *classes("a", "b"))
    (tmp_path / "a" / "x.jpe").write_text("words")

    with pytest.raises(DataError, match=r"x\.jpe: not a JPEG, PNG or WebP image"):
        datasets.load(TrainConfig(data=str(tmp_path)))


LEFT = (".ipynb_checkpoints", ".trash", "@eaDir", "__MACOSX", "thumbnails", ".git")


@pytest.mark.parametrize("name", LEFT)
def test_hidden_and_thumbnail_folders_are_not_used(tmp_path: Path, name: str) -> None:
    """They are counted with the files in them, at any depth."""
    put(tmp_path, "1.png", f"{name}/2.png", f"deep/{name}/more/3.png")

    names, unused = found(tmp_path)

    assert names == ["1.png"]
    assert unused.folders == {name: 2}


@pytest.mark.parametrize("name", ["._x.jpg", ".hidden.png", "Thumbs.db", ".DS_Store", "desktop.ini"])
def test_hidden_files_and_those_of_systems_are_not_used(tmp_path: Path, name: str) -> None:
    """They are counted."""
    put(tmp_path, "1.png", name)

    names, unused = found(tmp_path)

    assert names == ["1.png"]
    assert unused.files.total() == 1


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    """A link back to the class, to what is above it, to itself or to nowhere ends nothing; each folder counts once."""
    put(tmp_path, "set/a/1.png", "set/b/2.png", "elsewhere/deep/3.png", "file.png")
    a = tmp_path / "set" / "a"
    (a / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (a / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    (a / "sub").mkdir()
    for number, target in enumerate((a, tmp_path / "set", tmp_path, Path("/"))):
        (a / "sub" / f"up-{number}").symlink_to(target)
    (a / "self").symlink_to("self")
    (a / "nowhere").symlink_to(tmp_path / "nowhere")
    (a / "one.dat").symlink_to(tmp_path / "file.png")
    (tmp_path / "elsewhere" / "back").symlink_to(a)

    names, unused = found(a)

    assert names in (["1.png", "elsewhere/deep/3.png", "one.dat"], ["1.png", "again/3.png", "one.dat"])
    assert unused.files.total() == 2  # the links to itself and to nowhere
    assert sum("a link to a folder that is used" in name for name in unused.folders) >= 5


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """It would wait for ever; under an image's name too."""
    put(tmp_path, "1.png")
    for name in ("pipe", "pipe.jpg"):
        os.mkfifo(tmp_path / name)

    names, unused = found(tmp_path)

    assert names == ["1.png"]
    assert unused.files == {"neither file nor folder": 2}


def test_names_that_are_no_unicode_are_used(tmp_path: Path) -> None:
    """Of files, that is; only a class's name goes into a model."""
    put(tmp_path, *classes("a", "b"))
    path = os.fsencode(tmp_path / "a") + b"/\xff\xfe.png"
    Path(os.fsdecode(path)).write_bytes(image())

    assert len(datasets.images(TrainConfig(data=str(tmp_path))).split) == 7


def test_all_that_is_not_used_is_noted(tmp_path: Path, without_formats: None) -> None:
    """In the class folders and beside them; used and not used together are all files there are."""
    put(tmp_path, *classes("a", "b"), "stray.jpg", "a/@eaDir/1.png", ".git/x.png")
    (tmp_path / "README").write_text("words")
    (tmp_path / "b" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")

    data = datasets.load(TrainConfig(data=str(tmp_path)))

    assert data.as_dict()["notes"] == list(data.notes)
    files, folders = data.notes
    assert files == (
        "3 files not used: 1 without a suffix beside the folders, 1 .jpg beside the folders, 1 .heic; "
        "to use HEIC: convert them to JPEG or PNG, or install the extra: pip install 'breadcrumbs-longtail[formats]'"
    )
    assert folders == "folders not used: .git (1 file), @eaDir (1 file)"
    assert len(data.train) + len(data.test) + 3 + 2 == sum(path.is_file() for path in tmp_path.rglob("*"))
