"""`breadcrumbs demo` deals the embedded images out so that nothing is reported that anything was learned of."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from breadcrumbs.demo.demo import write_photos
from breadcrumbs.demo.photos import ARRIVING, NEW, REPORTED, TESTED, Photo, deal, lay


def pixels(data: bytes) -> bytes:
    """Of an image file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tobytes()


def test_photos_are_dealt_out_once(tmp_path: Path) -> None:
    """Folders have every class but the new one; what arrives and what is reported is in neither, nor in both.

    What arrives can be laid into folders of its own, with the new class.
    """
    photos = deal(tmp_path)
    lay(tmp_path / "new", photos.arriving)

    def in_folder(part: str) -> list[Photo]:
        return [Photo(path.read_bytes(), path.parent.name) for path in (tmp_path / part).glob("*/*.png")]

    train, test = in_folder("train"), in_folder("test")
    classes = {photo.cls for photo in photos.reported}
    assert {photo.cls for photo in train} == {photo.cls for photo in test} == classes - {NEW} == set(photos.trained)
    assert {name: sum(photo.cls == name for photo in train) for name in photos.trained} == photos.trained
    assert len(test) == TESTED * len(photos.trained)
    assert (len(photos.reported), len(photos.arriving)) == (REPORTED * len(classes), ARRIVING * len(classes))
    assert sorted(in_folder("new"), key=repr) == sorted(photos.arriving, key=repr)
    seen = [{pixels(photo.data) for photo in part} for part in (train, test, photos.arriving, photos.reported)]
    assert sum(map(len, seen)) == len(set().union(*seen)) > 4000


def test_photos_alone_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below a folder of any length, told in two lines, however narrow the place is where they are printed."""
    out = tmp_path / ("a-folder-with-a-long-name-" * 5) / "tour"
    write_photos(out)
    told = capsys.readouterr().out.splitlines()

    assert [line.partition(":")[0] for line in told] == [str(out / "photos"), str(out / "new-photos")]
    assert {path.name for path in (out / "photos/train").iterdir()} == {
        path.name for path in (out / "new-photos").iterdir()
    } - {NEW}
    assert len(list((out / "new-photos" / NEW).glob("*.png"))) == ARRIVING
