"""How well a feature is known, against a slow and obvious version; and every file that is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models import safetensor
from breadcrumbs.models.known import FORMAT, LIMIT, STEPS, Known, KnownError, from_bytes, to_bytes

HEAD = "7" * 64


def drawn(dim: int = 6, directions: int = 3, points: int = 9, seed: int = 0) -> Known:
    """Points at random."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(points, directions)).astype(np.float16).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, :directions].astype(np.float32)
    scales = np.sort(rng.uniform(-1, 1, (3, STEPS)), 1).astype(np.float32)
    return Known(basis, rows, rng.integers(0, 3, points), scales)


def slowly(known: Known, feature: np.ndarray[Any, Any]) -> float:
    """One feature, point by point."""
    inside = [sum(float(z) * float(b) for z, b in zip(feature, column, strict=True)) for column in known.basis.T]
    length = sum(value * value for value in inside) ** 0.5
    best, group = -2.0, 0
    for point, number in zip(known.points, known.group, strict=True):
        cosine = sum(value / length * float(p) for value, p in zip(inside, point, strict=True))
        if cosine > best:
            best, group = cosine, int(number)
    return float(np.interp(best, known.scales[group], np.linspace(0, 1, STEPS)))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 100), st.sampled_from([1e-20, 1.0, 1e25]))
def test_it_is_what_loops_say(directions: int, points: int, seed: int, scale: float) -> None:
    """Of any number of points and directions; the length of a feature does not count."""
    known = drawn(9, directions, points, seed)
    features = np.random.default_rng(seed + 1).normal(size=(5, 9)).astype(np.float32)

    found = known.of(features * np.float32(scale))

    assert found == pytest.approx([slowly(known, one) for one in features], abs=1e-4)
    assert all(0 <= one <= 1 for one in found)


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_many_features_are_what_each_is_alone(count: int) -> None:
    """And a feature of zeros is not known."""
    known = drawn()
    features = np.random.default_rng(3).normal(size=(count, 6)).astype(np.float32)
    features[:1] = 0

    found = known.of(features)

    assert found == pytest.approx([known.of(one[None])[0] for one in features])
    assert found[:1] == [0.0][:count]


@pytest.mark.parametrize("dim", [1, 6, 2048])
def test_a_file_is_read_as_it_was_written(dim: int) -> None:
    """For its own head only."""
    known = drawn(dim, min(3, dim))

    found = from_bytes(to_bytes(known, HEAD), HEAD, dim)

    assert found.basis.tolist() == known.basis.tolist()
    assert found.points == pytest.approx(known.points, abs=1e-3)
    assert found.group.tolist() == known.group.tolist()


def tensors() -> dict[str, Any]:
    """Those of a sound file."""
    known = drawn()
    return {
        "basis": known.basis, "points": known.points.astype(np.float16), "group": known.group, "scales": known.scales,
    }  # fmt: skip


def changed(name: str, value: Any) -> bytes:
    """A file with one tensor changed; without it, if the value is None."""
    made = {**tensors(), name: value}
    return safetensor.encode({k: v for k, v in made.items() if v is not None}, {"format": FORMAT, "head": HEAD})


REFUSED = {
    "no file": (lambda: b"", "known.safetensors: "),
    "cut short": (lambda: to_bytes(drawn(), HEAD)[:-1], "known.safetensors: "),
    "other head": (lambda: to_bytes(drawn(), "8" * 64), "expected that of head 777777777777"),
    "other width": (lambda: to_bytes(drawn(5), HEAD), "expected features of 6 dimensions, got 5"),
    "other format": (lambda: safetensor.encode(tensors(), {"head": HEAD}), "expected format"),
    "nothing": (lambda: changed("group", None), "tensor 'group' is missing"),
    "no points": (lambda: changed("points", np.zeros((0, 3), np.float16)), "points have shape (0, 3)"),
    "flat points": (lambda: changed("points", np.zeros(9, np.float16)), "points have shape (9,)"),
    "too many directions": (lambda: changed("points", np.zeros((9, 65), np.float16)), "points have shape (9, 65)"),
    "fewer groups": (lambda: changed("group", np.zeros(8, np.int64)), "(8,)"),
    "strange group": (lambda: changed("group", np.full(9, 3)), "groups 0, 1 or 2"),
    "NaN": (lambda: changed("points", np.full((9, 3), np.nan, np.float16)), "not finite"),
    "infinite": (lambda: changed("basis", np.full((6, 3), np.inf, np.float32)), "not finite"),
    "falling": (lambda: changed("scales", -np.sort(tensors()["scales"], 1)[:, :].cumsum(1)), "scales that rise"),
    "too large": (lambda: b" " * (LIMIT + 1), f"the limit is {LIMIT}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_none_is_refused(case: str) -> None:
    """In one sentence that says what was expected."""
    make, words = REFUSED[case]

    with pytest.raises(KnownError) as error:
        from_bytes(make(), HEAD, 6)

    assert words in str(error.value)
    assert "\n" not in str(error.value)
