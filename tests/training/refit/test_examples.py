"""A refit from examples: which of them judge, which are fitted, and what becomes of a class that people taught."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from worlds import World

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit import files
from breadcrumbs.training.refit.holdout import LEFT
from breadcrumbs.training.refit.looks import Looks
from breadcrumbs.training.refit.material import Material, read
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.validation import folds_of

WORLD = World()
QUICK = RefitSpec(members=("plain",), l2=1e-2, prior_offset=1.0)
"""Nothing to choose."""
NEW = len(WORLD.counts)
"""The first class that the bundle does not know."""
LONG = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the world; nobody may change it."""
    return WORLD.bundle(tmp_path_factory.mktemp("world") / "bundle")


@pytest.fixture(scope="module")
def without_holdout(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same with no hold-out."""
    return WORLD.bundle(tmp_path_factory.mktemp("world") / "bundle", holdout=0)


def examples(
    bundle: Bundle, labels: NDArray[np.int64] | list[int], seed: int, *, verified: bool = True, first: int = 0
) -> Snapshot:
    """Examples of these classes, known by numbers from `first` on."""
    names = (*WORLD.classes, LONG, *(f"taught {k}" for k in range(3)))
    features = WORLD.draw(labels, seed)
    identities = [str(first + k) for k in range(len(labels))]
    return labelled.snapshot(
        features, [names[c] for c in labels], identities, bundle.backbone_digest, verified=verified
    )


def material(bundle: Bundle, *uploads: Snapshot, spec: RefitSpec = QUICK) -> Material:
    """What a refit of the bundle's head stands on."""
    source = "split" if bundle.holdout() is None else "bundle"
    return read(bundle, bundle.head(), uploads, bundle.holdout(), source, spec)  # type: ignore[arg-type]


def fitted(of: Material, spec: RefitSpec = QUICK) -> set[bytes]:
    """The rows that are fitted, byte for byte."""
    folds = folds_of(of.base, of.fit, len(of.classes), spec.seed)
    pool = Looks(of, {True: "none", False: "leave out"}, spec, folds).pool(of.fit)
    return {row.tobytes() for row in pool.features.numpy()}


def judged(of: Material) -> set[bytes]:
    """The examples that are judged on, byte for byte."""
    count = of.judged.examples
    return {row.tobytes() for row in of.judged.features[len(of.judged.features) - count :]}


def rows_of(snapshot: Snapshot) -> list[bytes]:
    """Its rows, byte for byte."""
    return [row.tobytes() for row in snapshot.features]


@settings(max_examples=12)
@given(counts=st.lists(st.integers(0, 12), min_size=NEW + 2, max_size=NEW + 2), seed=st.integers(100, 999))
@pytest.mark.parametrize("held", [True, False])
def test_no_judged_example_is_fitted(
    bundle: Bundle, without_holdout: Bundle, held: bool, counts: list[int], seed: int
) -> None:
    """Whatever the classes, each example is on one side; those of a class with too few images are all fitted."""
    own = bundle if held else without_holdout
    labels = np.repeat(np.arange(len(counts)), counts)
    if not len(labels):
        return
    given = examples(own, labels, seed)

    found = material(own, given, spec=QUICK.model_copy(update={"min_examples": 1}))

    rows = rows_of(given)
    chosen = {row for row, own in zip(rows, labelled.judging(given), strict=True) if own}
    scarce = {row for row, c in zip(rows, labels, strict=True) if c >= NEW and counts[c] < LEFT}
    assert not judged(found) & fitted(found)
    assert judged(found) | fitted(found) >= set(rows)
    assert judged(found) <= chosen
    assert not judged(found) & scarce
    assert {row for row, c in zip(rows, labels, strict=True) if c < NEW} & chosen <= judged(found)


@settings(max_examples=10)
@given(first=st.integers(1, 40), more=st.integers(1, 40))
def test_the_share_that_judges_only_grows(bundle: Bundle, first: int, more: int) -> None:
    """An example that judged once is judged on again however many come; one that was fitted is fitted again."""
    labels = np.arange(first + more) % NEW
    every = examples(bundle, labels, 3)
    before, after = (material(bundle, every.take(np.arange(n))) for n in (first, first + more))

    mine = set(rows_of(every)[:first])
    assert judged(before) == judged(after) & mine
    assert fitted(before) & mine == fitted(after) & mine


@pytest.mark.parametrize("verified", [True, False])
def test_only_verified_examples_judge(bundle: Bundle, verified: bool) -> None:
    """Those that nobody vouches for are all fitted, and not drawn as other new images are."""
    given = examples(bundle, WORLD.each(20), 4, verified=verified)

    found = material(bundle, given)

    assert (found.judged.examples > 0) == verified
    assert len(found.judged.labels) == 40 * NEW + (int(labelled.judging(given).sum()) if verified else 0)
    assert (set(rows_of(given)) <= fitted(found)) != verified


def test_an_example_that_was_labelled_twice_counts_once(bundle: Bundle) -> None:
    """One image under two identities: the first row's class holds, and if one of the two judges, none is fitted."""
    given = examples(bundle, WORLD.each(10), 5)
    again = examples(bundle, (WORLD.each(10) + 1) % NEW, 5, first=1000)
    both = replace(
        given, features=np.concatenate([again.features, given.features]),
        labels=np.concatenate([again.labels, given.labels]), ids=np.concatenate([again.ids, given.ids]),
    )  # fmt: skip
    both.features[:60] = both.features[60:]

    once, twice = material(bundle, given), material(bundle, both)

    assert len(once.images.labels) == len(twice.images.labels)
    assert judged(once) < judged(twice)
    assert not judged(twice) & fitted(twice)
    label = {row: int(c) for row, c in zip(rows_of(given), both.labels[:60], strict=True)}
    tail = len(twice.judged.labels) - twice.judged.examples
    for row, c in zip(twice.judged.features[tail:], twice.judged.labels[tail:], strict=True):
        assert label[row.tobytes()] == c


def test_an_image_of_the_holdout_is_judged_once(bundle: Bundle) -> None:
    """Labelled again by a person, it stays the hold-out's; other examples are fitted as ever."""
    held = bundle.holdout()
    assert held is not None
    own = np.asarray(held.features[:30])
    given = examples(bundle, [0] * 60, 6)
    both = replace(given, features=np.concatenate([own, given.features[30:]]).astype(np.float32))

    found = material(bundle, both)

    assert found.judged.examples == int(labelled.judging(given)[30:].sum())
    assert len(found.judged.labels) == len(held.labels) + found.judged.examples
    assert not {row.tobytes() for row in own} & fitted(found)


def taught(bundle: Bundle, count: int, old: int = 6, seed: int = 7) -> Snapshot:
    """So many examples of a new class, and some of each old one."""
    return examples(bundle, np.concatenate([np.full(count, NEW), WORLD.each(old)]), seed)


@pytest.mark.parametrize("count", [2, 5, 30])
def test_a_class_can_be_taught_by_examples_alone(bundle: Bundle, count: int) -> None:
    """Nothing else is needed: no snapshot, no setting; it is measured, and the old classes' recall is named."""
    candidate = refit(bundle, bundle.head(), [taught(bundle, count)], None, QUICK)

    report = candidate.complete().report
    new = candidate.judged.new_classes[0]
    assert candidate.head.classes == (*WORLD.classes, LONG)
    assert (new.name, new.rows >= count - 1) == (LONG, True)
    assert candidate.judged.judged_examples == report.judged_examples > 0
    assert report.rows == 40 * NEW + report.judged_examples
    assert all(recall is not None for recall in report.candidate.recall[:NEW])
    assert WORLD.recalls(candidate.head).mean() > WORLD.recalls(bundle.head()).mean() - 0.01


@pytest.mark.parametrize("count", [2, 5, 8, 30])
def test_a_taught_class_does_not_stop_later_refits(bundle: Bundle, count: int) -> None:
    """The bundle's hold-out has no row of it, and people gave few: the gate still measures, and the notes tell."""
    first = refit(bundle, bundle.head(), [taught(bundle, count)], None, QUICK)
    more = examples(bundle, np.concatenate([np.full(count, NEW), WORLD.each(20)]), 7)

    again = refit(bundle, first.head, [more], None, QUICK)

    assert again.head.classes == first.head.classes
    assert again.judged.gate.answer != "not measured"
    assert any("right on those that were left out" in note and LONG in note for note in again.judged.notes)


def test_a_class_without_any_measured_row_is_not_measured(bundle: Bundle) -> None:
    """One image of a class that came after the bundle cannot be left out and fitted both."""
    spec = QUICK.model_copy(update={"min_examples": 1})
    one = taught(bundle, 1)
    first = refit(bundle, bundle.head(), [one], None, spec)

    judged = refit(bundle, first.head, [one], None, spec).judged

    assert judged.gate.answer == "not measured"
    assert any(f"no judged row of: {LONG}" in reason for reason in judged.gate.reasons)


def test_a_snapshots_new_class_still_needs_leave(bundle: Bundle) -> None:
    """Only the classes of examples come in by themselves."""
    with pytest.raises(RefitError, match="classes unknown to the live head: new 0"):
        refit(bundle, bundle.head(), [taught(bundle, 5), WORLD.rows(bundle, [NEW] * 5, 3)], None, QUICK)


def from_files(folder: Path, bundle: Bundle, *paths: Path, spec: RefitSpec = QUICK) -> Path:
    """A refit from files of examples; returns what it left."""
    files.run(bundle.folder, None, [], None, spec, folder, examples=paths)
    return folder


def test_the_new_bundle_keeps_each_examples_side(bundle: Bundle, tmp_path: Path) -> None:
    """Its snapshots have the examples, its hold-out those that judge; a refit of it fits none of them."""
    given = taught(bundle, 30, 60)
    snapshots.write(tmp_path / "examples.safetensors", given)

    out = from_files(tmp_path / "out", bundle, tmp_path / "examples.safetensors")

    new = bundles.read(out / "bundle")
    assert any(labelled.are_examples(one) for one in new.snapshots())
    chosen = {row for row, own in zip(rows_of(given), labelled.judging(given), strict=True) if own}
    found = read(new, new.head(), [], new.holdout(), "bundle", QUICK)
    assert chosen
    assert not chosen & fitted(found)
    assert chosen <= {row.tobytes() for row in found.judged.features}
    assert set(rows_of(given)) - chosen <= fitted(found)


def test_a_file_that_has_no_examples_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A plain snapshot belongs to `--snapshot`."""
    snapshots.write(tmp_path / "plain", WORLD.rows(bundle, [0, 1], 3))

    with pytest.raises(snapshots.SnapshotError, match="plain: data set not named, expected that of examples"):
        from_files(tmp_path / "out", bundle, tmp_path / "plain")


@pytest.mark.slow
def test_corrections_make_the_head_better(bundle: Bundle) -> None:
    """A hundred examples a class, everything chosen: the head gains, and the gate says yes."""
    candidate = refit(bundle, bundle.head(), [examples(bundle, WORLD.each(100), 9)], None, RefitSpec())

    assert WORLD.recalls(candidate.head).mean() > WORLD.recalls(bundle.head()).mean()
    assert candidate.judged.gate.answer == "yes"
