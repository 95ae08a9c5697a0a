"""Refit on a real small run: what comes out, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.selection import OFFSETS, TAUS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    """The bundle of the small run."""
    return bundles.read(run / "bundle")


@pytest.fixture(scope="module")
def holdout(bundle: Bundle) -> Snapshot:
    """Some rows under the deployed backbone: the newest snapshot, jittered."""
    newest = bundle.snapshots()[0]
    noise = np.random.default_rng(0).normal(scale=0.05, size=newest.features.shape)
    return replace(newest, features=(newest.features + noise).astype(np.float32), ids=None)


def test_a_refit_gives_a_head_and_a_whole_report(run: Path, bundle: Bundle, holdout: Snapshot) -> None:
    """Solver, pool, comparison, gate, baselines and certificate are in the report; events tell the stages in order."""
    uploads = [snapshots.read(path) for path in sorted((run / "snapshots").glob("*"))]
    heard: list[dict[str, object]] = []

    made = refit(bundle, bundle.head(), uploads, holdout, RefitSpec(), heard.append)

    report = made.report.model_dump(mode="json")
    assert report["solver"]["converged"]
    assert report["solver"]["gap_bound"] <= 1e-3 * report["solver"]["objective"]
    assert report["pool"]["rows"] == [15, 15, 12]
    assert report["pool"]["transferred"][2] == 9
    assert report["holdout"]["source"] == "snapshot"
    assert set(report["baselines"]) == {
        "crt", "nearest_class_mean", "joint", "joint_logit_adjusted", "tau_normalised",
    }  # fmt: skip
    assert report["baselines"]["tau_normalised"]["tau"] in TAUS
    assert all(b["prior_offset"] in OFFSETS for b in report["baselines"].values())
    assert report["candidate"]["balanced"] > 0.8
    assert report["certificate"]["classes"]
    assert [e["stage"] for e in heard if e["event"] == "stage"] == [
        "read", "transfer", "solve", "evaluate", "certificate", "report",
    ]  # fmt: skip
    assert any(e["event"] == "progress" for e in heard)
    json.dumps(report, allow_nan=False)


def test_the_same_inputs_give_the_same_head(bundle: Bundle, holdout: Snapshot) -> None:
    """A refit is decided by its inputs and its seed."""
    spec = RefitSpec(l2=1e-3, prior_offset=0.0)

    one, two = (refit(bundle, bundle.head(), [], holdout, spec).head for _ in range(2))

    assert one.digest == two.digest


def test_a_refit_goes_on_from_the_live_head(bundle: Bundle, holdout: Snapshot) -> None:
    """The head of a refit, made live, is there at the first look when the same rows are refitted, offset or not."""
    spec = RefitSpec(l2=1e-3, prior_offset=0.5)

    first = refit(bundle, bundle.head(), [], holdout, spec)
    second = refit(bundle, first.head, [], holdout, spec)

    assert second.report.solver.iterations == 1 < first.report.solver.iterations
    assert np.allclose(second.head.weight, first.head.weight, atol=1e-6)


def test_class_means_are_of_the_newest_part_that_has_the_class(bundle: Bundle, holdout: Snapshot) -> None:
    """An upload of one class moves that class's mean; the others keep the mean of the bundle's own snapshot."""
    newest = bundle.snapshots()[0]
    upload = newest.take(newest.labels == 2)
    upload = replace(upload, features=upload.features + 1, epoch=newest.epoch + 1, ids=None)

    found = refit(bundle, bundle.head(), [upload], holdout, RefitSpec(l2=1e-2)).baselines["nearest_class_mean"]

    means = np.stack([newest.features[newest.labels == c].mean(0) + (c == 2) for c in range(3)])
    assert np.allclose(found.weight, means, atol=1e-5)


def test_the_offset_is_minus_t_log_prior(bundle: Bundle, holdout: Snapshot) -> None:
    """Two refits that differ in t differ in the bias by −t·log π and in nothing else."""
    prior = np.array(bundle.manifest.train_counts) / sum(bundle.manifest.train_counts)

    plain, moved = (
        refit(bundle, bundle.head(), [], holdout, RefitSpec(l2=1e-2, prior_offset=t)).head for t in (0.0, 0.7)
    )

    assert np.array_equal(plain.weight, moved.weight)
    assert np.allclose(moved.bias - plain.bias, -0.7 * np.log(prior), atol=1e-5)


def test_a_new_class_grows_the_head(bundle: Bundle, holdout: Snapshot) -> None:
    """A name the live head does not know becomes a class where allowed; old indices stay; it is then recognised."""
    rng = np.random.default_rng(1)
    centre = bundle.snapshots()[0].features.max(0) * 3
    features = (centre + rng.normal(scale=0.1, size=(8, len(centre)))).astype(np.float32)
    upload = Snapshot(features, np.zeros(8, np.int64), ("violet",), bundle.backbone_digest, 9)
    both = replace(
        holdout,
        features=np.concatenate([holdout.features, features]),
        labels=np.concatenate([holdout.labels, np.full(8, 3)]),
        classes=(*holdout.classes, "violet"),
    )

    with pytest.raises(RefitError, match="violet; set allow_new_classes"):
        refit(bundle, bundle.head(), [upload], both, RefitSpec())
    made = refit(bundle, bundle.head(), [upload], both, RefitSpec(allow_new_classes=True))

    assert made.head.classes == (*bundle.manifest.classes, "violet")
    assert (made.head.logits(features).argmax(1) == 3).all()
    assert made.report.live.recall[3] == 0
    assert made.report.classes.new == ["violet"]


def test_permuted_labels_do_not_pass_the_gate(bundle: Bundle, holdout: Snapshot) -> None:
    """An upload whose class numbers are moved on by one loses to the live head on a hold-out that is not its own."""
    newest = bundle.snapshots()[0]
    moved = replace(newest, labels=(newest.labels + 1) % len(newest.classes), epoch=newest.epoch + 1, ids=None)

    made = refit(bundle, bundle.head(), [moved], holdout, RefitSpec(use_bundle_snapshots=False))

    assert made.report.gate.answer != "yes"
    assert made.report.candidate.balanced < made.report.live.balanced
    assert made.report.gate.reasons


def test_held_out_images_are_in_no_part_of_the_pool(run: Path, bundle: Bundle) -> None:
    """Without a hold-out snapshot a share of the images is held out, in every epoch by id."""
    uploads = [snapshots.read(path) for path in sorted((run / "snapshots").glob("*"))]

    report = refit(bundle, bundle.head(), uploads, None, RefitSpec(holdout_fraction=0.34, target=1000)).report

    assert report.holdout.source == "split"
    assert report.rows == 10 + 4 + 1
    assert report.pool.rows[2] == 2 * 4  # 3 images less 1, in the newest look and three epochs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((45, 7), np.float32), "weight": None, "bias": None}, "7 dimensions"),
        ({"backbone": "0" * 64}, "not made with the deployed backbone"),
    ],
)
def test_a_holdout_that_does_not_fit_is_refused(
    bundle: Bundle, holdout: Snapshot, change: dict[str, object], message: str
) -> None:
    """A hold-out of another dimension or backbone cannot compare heads."""
    with pytest.raises(RefitError, match=message):
        refit(bundle, bundle.head(), [], replace(holdout, **change), RefitSpec())


def test_nothing_to_refit_from_is_refused(bundle: Bundle) -> None:
    """Without uploads and without the bundle's own snapshots there is nothing to do."""
    with pytest.raises(RefitError, match="no snapshot"):
        refit(bundle, bundle.head(), [], None, RefitSpec(use_bundle_snapshots=False))


def test_an_old_backbones_classes_need_a_present_mean(bundle: Bundle) -> None:
    """A class known only from another backbone has nowhere to be transferred to, and is named."""
    foreign = Snapshot(
        np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32),
        np.zeros(6, np.int64),
        ("violet",),
        "1" * 64,
        1,
    )

    with pytest.raises(RefitError, match=r"violet.*present mean is unknown"):
        refit(bundle, bundle.head(), [foreign], None, RefitSpec(allow_new_classes=True))


def test_a_class_without_a_present_mean_is_skipped_where_the_spec_says_so(bundle: Bundle, holdout: Snapshot) -> None:
    """The rest is refitted as if the class had not come, and the report lists it."""
    strange = Snapshot(
        np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32),
        np.zeros(6, np.int64),
        ("violet",),
        "1" * 64,
        1,
    )
    spec = RefitSpec(allow_new_classes=True, missing_mean="skip", l2=1e-2, prior_offset=0.0)

    made = refit(bundle, bundle.head(), [strange], holdout, spec)
    without = refit(bundle, bundle.head(), [], holdout, spec)

    assert made.head.digest == without.head.digest
    assert made.report.pool.skipped == ["violet"]
