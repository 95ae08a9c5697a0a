"""A change of backbone: where rows go, what judges, what the new bundle can do."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import OWN, PAIRS, TEST, Spaces

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import refit_report as reports
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.migrate.backbone import backbone_of
from breadcrumbs.training.migrate.migrate import migrate
from breadcrumbs.training.refit import files as refits
from breadcrumbs.training.refit.material import read
from breadcrumbs.training.refit.rows import RefitError

FEW = settings(max_examples=4, deadline=None)
GIVEN = RefitSpec(l2=1e-2, prior_offset=0.0, members=("plain",))
"""Nothing to choose: a quick refit."""
ANY = GIVEN.model_copy(update={"min_rows": 1})
"""The same, where one labelled pair of a group is enough to judge on."""


def moved(spaces: Spaces, folder: Path, pairs: int = 60, **more: object) -> tuple[RefitReport, Bundle]:
    """A migration with unlabelled pairs, and the new bundle."""
    old = spaces.bundle(folder / "old")
    report = migrate(old, spaces.to(), spaces.pairs(old, pairs, **more), folder / "out", GIVEN)
    return report, bundles.read(folder / "out" / "bundle")


@FEW
@given(seed=st.integers(0, 2**16), dims=st.sampled_from([(6, 6), (6, 9)]))
def test_mapped_rows_are_where_the_new_backbone_puts_them(seed: int, dims: tuple[int, int]) -> None:
    """Unlabelled pairs alone find a rotation with a scale, and a map to a wider space; classes and ids stay."""
    spaces = Spaces(dims=dims, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        report, new = moved(spaces, Path(folder))
        (rows,) = new.snapshots()
        held = new.holdout()

        assert held is not None
        assert np.allclose(rows.features, spaces.rows @ spaces.turn, atol=1e-2)
        assert np.allclose(held.features, spaces.tested @ spaces.turn, atol=1e-2)
        assert (rows.lineage, rows.dataset, rows.backbone) == (MAPPED, OWN, spaces.to().digest)
        assert (held.lineage, held.dataset) == (MAPPED, TEST)
        assert rows.counts().tolist() == list(spaces.counts)
        assert rows.ids is not None
        assert rows.ids.tolist() == list(range(sum(spaces.counts)))
    assert report.migration is not None
    assert report.migration.explained > 0.99
    assert report.migration.map == ("procrustes" if dims[0] == dims[1] else "ridge")


def test_the_new_bundle_has_the_new_backbone_and_the_old_classes(tmp_path: Path) -> None:
    """And counts, lineage and a report that reads back."""
    spaces = Spaces(dims=(6, 8))
    report, new = moved(spaces, tmp_path)
    old = bundles.read(tmp_path / "old")

    assert new.backbone() == spaces.models[1]
    assert (new.manifest.feature_dim, new.manifest.classes) == (8, old.manifest.classes)
    assert new.manifest.train_counts == old.manifest.train_counts
    assert new.manifest.lineage is not None
    assert new.manifest.lineage.live == old.head().digest
    assert new.head().feature_dim == 8
    assert reports.RefitReport.model_validate_json((tmp_path / "out" / "report.json").read_bytes()) == report
    assert "Change of backbone" in (tmp_path / "out" / "report.html").read_text()


def test_rows_of_a_bundle_without_a_backbone_are_moved_to_one(tmp_path: Path) -> None:
    """By pairs of its space; the new bundle takes images, and the old one cannot be what rows are moved to."""
    spaces = Spaces()
    whole = spaces.bundle(tmp_path / "whole")
    files = {name: (whole.folder / name).read_bytes() for name in whole.manifest.files if name != bundles.BACKBONE}
    manifest = whole.manifest.model_copy(update={"preprocess": None, "space": whole.backbone_digest})
    old = bundles.write(tmp_path / "old", manifest, files)

    report = migrate(old, spaces.to(), spaces.pairs(whole, 60), tmp_path / "out", GIVEN)

    new = bundles.read(tmp_path / "out" / "bundle")
    assert report.migration is not None
    assert report.migration.backbone == whole.backbone_digest
    assert (new.manifest.space, new.backbone()) == (None, spaces.models[1])
    assert new.preprocess == spaces.to().preprocess
    with pytest.raises(BundleError, match="takes no images"):
        backbone_of(old)


def test_a_mapped_hold_out_judges_and_proves_nothing(tmp_path: Path) -> None:
    """The gate may say no, and never yes, also where the new head is far better. What was kept is told by group."""
    report, _ = moved(Spaces(skilled=False), tmp_path)
    part = report.migration

    assert part is not None
    assert (report.holdout.source, report.rows) == ("bundle", 4 * 12)
    assert report.gate.answer == "not measured"
    assert any("proves nothing" in reason for reason in report.gate.reasons)
    assert any("higher than on real images" in note for note in report.notes)
    assert (part.kept_on, part.kept_rows, part.judged_pairs) == ("mapped hold-out", 48, 0)
    assert part.mapped == {"medium": 30, "few": 21}
    assert part.kept.keys() == {"balanced", "medium", "few"}
    assert part.kept["balanced"].old == pytest.approx(report.live.balanced)
    assert part.kept["balanced"].new == pytest.approx(report.candidate.balanced)


@FEW
@given(seed=st.integers(0, 2**16), each=st.integers(1, 9))
def test_labelled_pairs_judge_and_are_not_fitted(seed: int, each: int) -> None:
    """Half of each class, rounded up; the other half are rows of the new backbone itself."""
    spaces = Spaces(seed=seed)
    labels = np.concatenate([np.repeat(np.arange(4), each), np.full(12, -1)])
    with tempfile.TemporaryDirectory() as folder:
        old = spaces.bundle(Path(folder) / "old")
        pairs = spaces.pairs(old, len(labels), labels)
        report = migrate(old, spaces.to(), pairs, Path(folder) / "out", ANY)
        new = bundles.read(Path(folder) / "out" / "bundle")
        held = new.holdout()
        seen = [one for one in new.snapshots() if not one.lineage]

        assert held is not None
        assert held.lineage == ""
        assert held.counts().tolist() == [-(-each // 2)] * 4
        assert sum(len(one.labels) for one in seen) == 4 * (each // 2)
        fitted = {row.tobytes() for one in seen for row in np.asarray(one.features)}
        assert not fitted & {row.tobytes() for row in np.asarray(held.features)}
    assert report.migration is not None
    assert report.migration.judged_pairs == len(held.labels) == report.rows
    assert report.migration.pairs == 12 + 4 * (each // 2)
    assert not any("proves nothing" in reason for reason in report.gate.reasons)


def test_an_image_of_the_old_hold_out_brings_its_label(tmp_path: Path) -> None:
    """It is known by its row of the old backbone, judged on, and not used for the map."""
    spaces = Spaces()
    old = spaces.bundle(tmp_path / "old")
    pairs = spaces.pairs(old, 40)
    known = [0, 1, 12, 24, 25, 36]  # of each class
    for look, features in ((pairs.old, spaces.tested), (pairs.new, spaces.tested @ spaces.turn)):
        look.features[:6] = features[known]

    report = migrate(old, spaces.to(), pairs, tmp_path / "out", ANY)

    held = bundles.read(tmp_path / "out" / "bundle").holdout()
    assert held is not None
    assert np.allclose(held.features, spaces.tested[known] @ spaces.turn, atol=1e-4)
    assert report.migration is not None
    assert (report.migration.judged_pairs, report.migration.pairs) == (6, 34)
    assert report.migration.kept_on == "mapped hold-out"


def test_too_few_labelled_pairs_are_fitted_and_the_mapped_hold_out_judges(tmp_path: Path) -> None:
    """A hold-out of a few images would leave most classes unmeasured, now and later."""
    spaces = Spaces()
    old = spaces.bundle(tmp_path / "old")
    labels = np.array([0] * 30 + [1] * 6 + [-1] * 10)

    report = migrate(old, spaces.to(), spaces.pairs(old, 46, labels), tmp_path / "out", GIVEN)

    held = bundles.read(tmp_path / "out" / "bundle").holdout()
    assert held is not None
    assert held.lineage == MAPPED
    assert report.migration is not None
    assert (report.migration.pairs, report.migration.seen, report.migration.judged_pairs) == (46, 36, 0)


def test_a_row_that_the_new_backbone_made_is_in_place_of_a_mapped_one(tmp_path: Path) -> None:
    """Where a training image is among the pairs."""
    spaces = Spaces()
    old = spaces.bundle(tmp_path / "old")
    pairs = spaces.pairs(old, 40)
    for look, features in ((pairs.old, spaces.rows), (pairs.new, spaces.rows @ spaces.turn)):
        look.features[:5] = features[:5]

    report = migrate(old, spaces.to(), pairs, tmp_path / "out", GIVEN)

    rows = {one.dataset: len(one.labels) for one in bundles.read(tmp_path / "out" / "bundle").snapshots()}
    assert rows == {OWN: sum(spaces.counts) - 5, PAIRS: 5}
    assert report.migration is not None
    assert (report.migration.seen, report.migration.judged_pairs) == (5, 0)


def test_without_a_hold_out_a_share_of_the_rows_judges(tmp_path: Path) -> None:
    """Which is told, and not kept as the new bundle's hold-out."""
    report, new = moved(Spaces(holdout=0), tmp_path)

    assert new.holdout() is None
    assert (report.holdout.source, report.rows) == ("split", 6 + 3 + 1)
    assert any("favours it" in note for note in report.notes)
    assert any("proves nothing" in reason for reason in report.gate.reasons)


@pytest.mark.parametrize("counts", [(9, 4), (3,) * 1000], ids=["2 classes", "1,000 classes"])
def test_few_classes_and_many(counts: tuple[int, ...], tmp_path: Path) -> None:
    """All of their rows arrive."""
    report, new = moved(Spaces(counts, dims=(4, 5), holdout=1), tmp_path)

    assert sum(len(one.labels) for one in new.snapshots()) == sum(counts)
    assert len(new.head().classes) == len(counts)
    assert report.rows == len(counts)


def test_the_new_bundle_is_refitted_and_migrated_as_any_other(tmp_path: Path) -> None:
    """Rows that the backbone makes later take the place of mapped ones, by data set and id."""
    spaces = Spaces()
    _, new = moved(spaces, tmp_path)
    real = (spaces.rows @ spaces.turn + 0.5).astype(np.float32)
    ids = np.arange(len(real))
    look = Snapshot(real, new.snapshots()[0].labels, new.manifest.classes, new.backbone_digest, 9, ids=ids, dataset=OWN)

    path = tmp_path / "look.safetensors"
    snapshots.write(path, look)
    again = refits.run(tmp_path / "out" / "bundle", None, [path], None, GIVEN, tmp_path / "again")

    assert any("proves nothing" in reason for reason in again.gate.reasons)
    held = bundles.read(tmp_path / "again" / "bundle").holdout()
    assert held is not None
    assert held.lineage == MAPPED
    material = read(new, new.head(), [look], new.holdout(), "bundle", GIVEN)
    assert np.array_equal(material.base.features.numpy()[:5], real[:5])


def test_the_deployment_prior_of_the_old_head_stays(tmp_path: Path) -> None:
    """The new head has it as its own, too."""
    spaces = Spaces()
    first = spaces.bundle(tmp_path / "old")
    training = GIVEN.model_copy(update={"deployment_prior": "training"})
    refits.run(first.folder, None, [], None, training, tmp_path / "refitted")
    old = bundles.read(tmp_path / "refitted" / "bundle")

    migrate(old, spaces.to(), spaces.pairs(old, 60), tmp_path / "out", GIVEN)

    new = bundles.read(tmp_path / "out" / "bundle").head()
    assert old.head().log_prior is not None
    assert new.log_prior == pytest.approx(old.head().log_prior, abs=0.3)  # of about the same rows


def test_what_cannot_be_migrated_is_told_in_a_sentence(tmp_path: Path) -> None:
    """The same backbone, too few pairs, a bundle without rows, edited classes."""
    spaces = Spaces()
    old = spaces.bundle(tmp_path / "old")
    bare = spaces.bundle(tmp_path / "bare", stored=False)
    same = Spaces().bundle(tmp_path / "same")
    pairs, out = spaces.pairs(old, 30), tmp_path / "out"
    wide = Spaces(dims=(6, 7))
    wide.models = spaces.models

    with pytest.raises(RefitError, match="nothing to do"):
        migrate(old, replace(spaces.to(), model=same.backbone()), pairs, out, GIVEN)
    with pytest.raises(RefitError, match="7 pairs are left to fit a map to, expected 8"):
        migrate(old, spaces.to(), spaces.pairs(old, 7), out, GIVEN)
    with pytest.raises(RefitError, match="no image under both backbones"):
        migrate(old, spaces.to(), None, out, GIVEN)
    with pytest.raises(RefitError, match="nothing to map"):
        migrate(bare, spaces.to(), pairs, out, GIVEN)
    with pytest.raises(RefitError, match="keeps the classes"):
        migrate(old, spaces.to(), pairs, out, RefitSpec(classes={"oak": "elm"}))
    with pytest.raises(RefitError, match="6 dimensions, expected 7"):
        migrate(old, wide.to(), pairs, out, GIVEN)
    assert not out.exists()
