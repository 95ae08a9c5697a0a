"""Files that are whole or absent."""

import hashlib
from pathlib import Path

import pytest

from breadcrumbs.models.files import sha256, write_whole


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    """Writing makes the folders above, and leaves nothing but the file."""
    path = tmp_path / "a" / "b" / "file.bin"

    write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    """Writing over a file replaces all of it, and a reader that holds the old one keeps it."""
    path = tmp_path / "file.bin"
    write_whole(path, b"a long old text")

    with path.open("rb") as reader:
        write_whole(path, b"new")

        assert reader.read() == b"a long old text"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("broken", [object(), "text"])
def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path: Path, broken: object) -> None:
    """When writing fails after the temporary file was opened, the old file stays and the temporary one goes."""
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    with pytest.raises(TypeError):
        write_whole(path, broken)  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_crash_at_the_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    """When the rename fails, what was there stays and the temporary file goes."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()

    with pytest.raises(OSError, match="irectory"):
        write_whole(tmp_path / "taken", b"new")

    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_sha256_is_hashlibs(tmp_path: Path, size: int) -> None:
    """The digest of a file is that of its bytes."""
    path = tmp_path / "x"
    path.write_bytes(b"ab" * size)

    assert sha256(path) == hashlib.sha256(b"ab" * size).hexdigest()
