"""Examples as a snapshot: who judges is said by a hash alone, and a file that is none is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.snapshots import examples
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError

BACKBONE = "a" * 64
LONG = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr 鳥"
NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=60).filter(str.strip)


def made(identities: list[str], *, verified: bool = True, dim: int = 3) -> Snapshot:
    """A snapshot of examples with these identities."""
    features = np.random.default_rng(0).normal(size=(len(identities), dim)).astype(np.float32)
    labels = [("oak", LONG)[len(name) % 2] for name in identities]
    return examples.snapshot(features, labels, identities, BACKBONE, verified=verified)


@given(st.lists(NAMES, min_size=2, max_size=40, unique=True), st.data())
def test_an_example_keeps_its_side_whatever_else_comes(identities: list[str], data: st.DataObject) -> None:
    """Neither order nor number decides: every part, in any order, says the same of each example."""
    part = data.draw(st.lists(st.sampled_from(identities), min_size=1, unique=True))

    sides = dict(zip(identities, examples.judging(made(identities)).tolist(), strict=True))

    assert examples.judging(made(part)).tolist() == [sides[name] for name in part]


@pytest.mark.parametrize("named", ["{}", "answer:{}", "{:064x}"])
def test_one_in_five_verified_examples_judges(named: str) -> None:
    """Of any kind of identity; and also of ids that count from 0."""
    shares = [
        examples.judging(made([named.format(k) for k in range(4000)])).mean(),
        np.mean([examples.judges(k) for k in range(4000)]),
    ]

    assert shares == pytest.approx([0.2, 0.2], abs=0.03)


def test_an_example_that_nobody_vouches_for_never_judges() -> None:
    """Not one of a thousand."""
    assert not examples.judging(made([str(k) for k in range(1000)], verified=False)).any()


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=8, unique_by=lambda one: one[1]))
def test_names_and_identities_may_be_any_text(rows: list[tuple[str, str]]) -> None:
    """Each row has its class and its id; the ids fit a file's."""
    labels, identities = zip(*rows, strict=True)
    features = np.arange(2 * len(rows), dtype=np.float32).reshape(-1, 2)

    found = examples.snapshot(features, labels, identities, BACKBONE, verified=True)

    assert [found.classes[label] for label in found.labels] == list(labels)
    assert found.ids is not None
    assert found.ids.tolist() == [examples.number(one) for one in identities]
    assert (found.ids >= 0).all()


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (7, 2048)])
@pytest.mark.parametrize("verified", [True, False])
def test_a_file_of_examples_comes_back(tmp_path: Path, count: int, dim: int, verified: bool) -> None:
    """The format is a snapshot's."""
    before = made([f"{k:x}" for k in range(count)], verified=verified, dim=dim)

    snapshots.write(tmp_path / "examples", before)
    after = snapshots.read(tmp_path / "examples")

    examples.check(after, "examples", BACKBONE, dim)
    assert np.array_equal(after.features, before.features)
    assert examples.judging(after).tolist() == examples.judging(before).tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": ""}, "data set not named, expected that of examples"),
        ({"dataset": "c" * 64}, "data set cccccccccccc, expected that of examples"),
        ({"backbone": "b" * 64}, "examples of backbone bbbbbbbbbbbb with 3 dimensions, expected the deployed aaaa"),
        ({"ids": None}, "examples with no ids, expected an id and a label in each row"),
        ({"labels": np.array([0, -1])}, "examples with 1 rows without a label"),
    ],
)
def test_what_is_no_file_of_examples_is_refused(change: dict[str, object], words: str) -> None:
    """The message says what came and what was expected, and names the file."""
    wrong = replace(made(["one", "two"]), **change)

    with pytest.raises(SnapshotError, match=rf"^mine: {words}"):
        examples.check(wrong, "mine", BACKBONE, 3)
