"""Features that were computed once are found again, and nothing that lies in their folder can do harm."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.adopt import cache as caches
from breadcrumbs.training.adopt.cache import DIGEST, Cache

NAMES = st.lists(st.binary(min_size=DIGEST, max_size=DIGEST), unique=True, max_size=20)


@given(NAMES, st.integers(1, 5), st.integers(0, 99))
def test_what_was_added_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], width: int, seed: int
) -> None:
    """In the same process and the next, in any order; zero bytes at the end of a digest included."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(len(names), width)).astype(np.float32)
    half = len(names) // 2

    with Cache(folder, width) as cache:
        cache.add(names[:half], features[:half])
    with Cache(folder, width) as cache:
        cache.add(names[half:], features[half:])
        assert np.array_equal(cache.read(names), features)

    order = rng.permutation(len(names))
    again = Cache(folder, width)
    assert np.array_equal(again.read([names[row] for row in order]), features[order])
    assert all(name in again for name in names)
    assert b"?" * DIGEST not in again


def test_features_are_on_disk_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed loses a few seconds."""
    monkeypatch.setattr(caches, "SECONDS", -1)

    Cache(tmp_path, 2).add([b"a" * DIGEST], np.ones((1, 2), np.float32))

    assert b"a" * DIGEST in Cache(tmp_path, 2)


@pytest.mark.parametrize("content", [b"", b"no array", np.lib.format.magic(1, 0) + b"\xff" * 40], ids=str)
def test_a_damaged_segment_is_computed_again(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and the others are used."""
    with Cache(tmp_path, 1) as cache:
        cache.add([b"a" * DIGEST], np.ones((1, 1), np.float32))
    (tmp_path / "damaged.npy").write_bytes(content)

    again = Cache(tmp_path, 1)

    assert b"a" * DIGEST in again
    assert "computed again" in caplog.text


def test_a_truncated_segment_is_computed_again(tmp_path: Path) -> None:
    """At any length."""
    with Cache(tmp_path / "whole", 3) as cache:
        cache.add([b"a" * DIGEST, b"b" * DIGEST], np.ones((2, 3), np.float32))
    whole = next((tmp_path / "whole").glob("*.npy")).read_bytes()
    (tmp_path / "part").mkdir()

    for length in range(0, len(whole), 7):
        (tmp_path / "part" / "segment.npy").write_bytes(whole[:length])
        assert b"a" * DIGEST not in Cache(tmp_path / "part", 3)


@pytest.mark.parametrize("other", [np.zeros((2, 3)), np.zeros(3, [("digest", "V16"), ("feature", "<f4", (9,))])])
def test_features_of_another_width_are_not_used(tmp_path: Path, other: object) -> None:
    """Nor what is no segment at all."""
    np.save(tmp_path / "other.npy", other)  # type: ignore[arg-type]

    assert bytes(DIGEST) not in Cache(tmp_path, 3)
