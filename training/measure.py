"""A bundle, measured on test images: its heads and what becomes of them without training, each with its intervals.

Features are computed by ONNX Runtime from the exported backbone, as on the server. A head whose τ or prior
offset t has to be chosen is cross-fitted: chosen on one half of the test rows and measured on the other, then the other
way round, so that no row is measured by a head that was chosen on it. It knows nothing of how results are shown.

Letters: N test rows, D feature dimensions, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.groups import GROUPS, Convention, Group, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training import export
from breadcrumbs.training.comparison import check_related, difference, in_common, same_images
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.coverage import coverage_of, told
from breadcrumbs.training.data.class_names import listed
from breadcrumbs.training.data.dataset import Data, DataError, Split, load
from breadcrumbs.training.data.loader import evaluation_batches
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.feature_rows import FeatureRows, among
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.metrics import as_json, evaluate, resample
from breadcrumbs.training.refit.images import identified
from breadcrumbs.training.refit.offset import Labelled, with_offset, with_tau
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean, tau_normalised
from breadcrumbs.training.terminal.bars import step, track

CONVENTIONS: tuple[Convention, ...] = ("A", "B")
SOURCE = ("data", "test_data", "images", "holdout", "seed")  # what decides which images are test images
LOADING = ("batch_size", "workers", "prefetch", "max_pixels")

Integers = NDArray[np.int64]
Choose = Callable[[Labelled], tuple[LinearHead, float, float | None]]
"""Returns a head that was chosen on labelled rows, its t, and its τ."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """The test rows under one bundle's backbone: features (N, D), labels (N,), and a mask (N,) of one half of them."""

    features: Floats
    labels: Integers
    half: NDArray[np.bool_]


def config_of(bundle: Bundle, **changed: str | int | Path | None) -> TrainConfig:
    """The configuration that finds a bundle's test images: of its recipe what says where they are, and changes of that.

    Args:
        bundle: its recipe may be of an earlier version; fields that have gone are passed over.
        changed: fields of `TrainConfig`; none: as in the recipe.

    Raises:
        BundleError: it takes no images.
    """
    bundle.check_backbone()
    known = {k: v for k, v in bundle.manifest.recipe.items() if k in (*SOURCE, *LOADING)}
    return TrainConfig.model_validate(known | {k: v for k, v in changed.items() if v is not None})


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What `measure` returns, and the test images that it was measured on."""

    found: dict[str, Any]
    looked: Looked


def measure(
    bundle: Bundle, config: TrainConfig, against: tuple[Bundle, TrainConfig] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return what `evaluated` finds, without the images. Arguments and errors are the same."""
    return evaluated(bundle, config, against, seed).found


def evaluated(
    bundle: Bundle, config: TrainConfig, against: tuple[Bundle, TrainConfig] | None = None, seed: int = 0
) -> Evaluated:
    """Measure a bundle's heads, and compare its exported head with another bundle's on the same test images.

    Args:
        bundle: what to measure; its training counts decide the groups.
        config: where the test images are.
        against: another bundle, and where its test images are.
        seed: of the halves and the bootstrap.

    Returns:
        The test images, and in JSON's own types: `heads`, the exported one first, each with `metrics` and `groups` as
        intervals, `recall` and what was chosen; `classes` with their training and test images and groups; `notes` of
        the data; `coverage`, where the bundle has a taxonomy; `against`, where asked for.

    Raises:
        DataError: the images are not as they should be, or are of classes that the bundle does not know; or neither
            bundle has all classes of the other, or they have other test images.
        BundleError: the backbone's features are not finite.
    """
    if against is not None:
        check_related(bundle, against[0])
    data = load(config)
    labels = among(bundle.manifest.classes, data.classes)[data.test.labels]
    rows = _Rows(_features(bundle, data.test, config), labels, _half(labels, seed))
    found, by_class = _found(bundle, rows, data.notes, seed)
    if against is not None:
        other = _others_logits(*against, config, data)
        found["against"] = _apart(bundle, against[0], rows, other, by_class)
    return Evaluated(found, Looked(rows.features, labels, data.test))


def evaluated_rows(bundle: Bundle, tested: FeatureRows, against: Bundle | None = None, seed: int = 0) -> Evaluated:
    """Measure a bundle's heads as `evaluated` does, on rows of its space that were read from a file.

    Raises:
        DataError: the other bundle is of another space, or neither has all classes of the other.
    """
    if against is not None:
        check_related(bundle, against)
        if against.backbone_digest != bundle.backbone_digest:
            raise DataError(
                f"{against.folder} is of another backbone than {bundle.folder}, so its head takes other features; "
                "compare the two on images, with --data"
            )
    labels = tested.rows.labels
    rows = _Rows(tested.features, labels, _half(labels, seed))
    found, by_class = _found(bundle, rows, tested.notes, seed)
    if against is not None:
        found["against"] = _apart(bundle, against, rows, against.head().logits(rows.features), by_class)
    return Evaluated(found, Looked(rows.features, labels, tested.rows))


def _found(
    bundle: Bundle, rows: _Rows, notes: Sequence[str], seed: int
) -> tuple[dict[str, Any], dict[Convention, tuple[Group, ...]]]:
    """What is measured of a bundle's own heads, and each convention's groups of its classes."""
    manifest, labels = bundle.manifest, rows.labels
    tested = np.bincount(labels, minlength=len(manifest.classes))
    by_class = {name: groups(manifest.train_counts, name) for name in CONVENTIONS}
    own: dict[str, Any] = {}
    with step("measure the heads"):
        for name, logits, chosen in _scores(bundle, rows):
            own[name] = {"chosen": chosen, **_measured(logits, labels, by_class, manifest.classes, seed)}
    found = {
        "bundle": str(bundle.folder),
        "test_images": len(labels),
        "exported": next(iter(own)),
        "classes": {
            "names": list(manifest.classes),
            "train_images": list(manifest.train_counts),
            "test_images": tested.tolist(),
            "groups": {name: list(members) for name, members in by_class.items()},
        },
        "notes": [*notes, *_untested(manifest.classes, tested)],
        "heads": own,
    }
    if bundle.taxonomy is not None:
        found["coverage"] = told(coverage_of(bundle, rows.features, labels))
    return found, by_class


def _apart(
    bundle: Bundle, other: Bundle, rows: _Rows, logits: Floats, by_class: dict[Convention, tuple[Group, ...]]
) -> dict[str, Any]:
    """The difference from another bundle, whose exported head gives `logits` (N, C) for the same rows."""
    own = bundle.head().logits(rows.features)
    return {"bundle": str(other.folder)} | difference(
        *in_common(logits, own, rows.labels, other, bundle), by_class
    )  # fmt: skip


def _untested(classes: Sequence[str], tested: Integers) -> Iterator[str]:
    without = [name for name, count in zip(classes, tested, strict=True) if not count]
    if without:
        count = f"{len(without)} of {len(classes)} classes"
        yield f"no test image of {count}, whose recall is not measured: {listed(without)}"


def _features(bundle: Bundle, test: Split, config: TrainConfig) -> Floats:
    loader = evaluation_batches(test, bundle.preprocess, config)
    batches = (images for images, _, _ in track(loader, len(loader), f"features of {len(test)} test images"))
    features = export.run_onnx(bundle.backbone(), batches)
    bad = int((~np.isfinite(features).all(1)).sum())
    if bad:
        raise BundleError(f"{bundle.folder}: the backbone's features of {bad} test images are not finite")
    return features


def _half(labels: Integers, seed: int) -> NDArray[np.bool_]:
    """Mark every other row of each class in a drawn order (N,); classes begin in turn with one half or the other."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = rank_in_class(torch.from_numpy(labels), torch.from_numpy(order)).numpy()
    return np.asarray((rank + labels) % 2 == 0)


def _scores(bundle: Bundle, rows: _Rows) -> Iterator[tuple[str, Floats, list[dict[str, float | None]] | None]]:
    """Yield each head's name, logits (N, C) and what was chosen on each half; the exported head comes first.

    A bundle without a joint head, or without a snapshot of its own backbone, has fewer heads.
    """
    counts = np.maximum(bundle.manifest.train_counts, 1)
    log_prior = np.log(counts / counts.sum())
    fixed, chosen = _heads(bundle, log_prior)
    for name, head in fixed.items():
        yield name, head.logits(rows.features), None
    if rows.half.all() or not rows.half.any():
        return
    for name, choose in chosen.items():
        logits, both = _cross_fitted(choose, rows, len(counts))
        yield f"{name}_chosen", logits, both


def _heads(bundle: Bundle, log_prior: NDArray[np.float64]) -> tuple[dict[str, LinearHead], dict[str, Choose]]:
    """The heads that are as they are, and how those that have something to choose are chosen."""
    head, joint = bundle.head(), bundle.joint_head()
    means = _class_means(bundle)
    fixed = {"joint" if joint is not None and joint.digest == head.digest else "balanced": head}

    def offset(head: LinearHead) -> Choose:
        return lambda rows: (*with_offset(head, log_prior, rows), None)

    def tau(joint: LinearHead, rows: Labelled) -> tuple[LinearHead, float, float | None]:
        found, exponent, t = with_tau(joint, log_prior, rows)
        return found, t, exponent

    chosen: dict[str, Choose] = {}
    if "balanced" in fixed:
        chosen["balanced"] = offset(head)
    if joint is not None:
        fixed |= {"joint": joint, "joint_logit_adjusted": logit_adjusted(joint, log_prior)}
        fixed["tau_normalised"] = tau_normalised(joint, 1)
        chosen["joint_logit_adjusted"] = offset(joint)
        chosen["tau_normalised"] = partial(tau, joint)
    if means is not None:
        fixed["nearest_class_mean"] = means
        chosen["nearest_class_mean"] = offset(means)
    return fixed, chosen


def _class_means(bundle: Bundle) -> LinearHead | None:
    """The nearest-class-mean head of all images of which the bundle has a row of its own backbone."""
    classes, digest = bundle.manifest.classes, bundle.backbone_digest
    own = [snapshot for snapshot in bundle.snapshots() if snapshot.backbone == digest]
    if not own:
        return None
    base = identified(own, [], None, {name: c for c, name in enumerate(classes)}, digest).base()
    known = base.take(base.labels >= 0)
    return nearest_class_mean(known.features.numpy(), known.labels.numpy(), classes) if len(known) else None


def _cross_fitted(choose: Choose, rows: _Rows, classes: int) -> tuple[Floats, list[dict[str, float | None]]]:
    """Logits (N, C), each row's by the head chosen on the half it is not in, and the two choices."""
    logits = np.empty((len(rows.labels), classes), np.float32)
    found = []
    for own in (rows.half, ~rows.half):
        head, t, tau = choose(Labelled(rows.features[own], rows.labels[own]))
        logits[~own] = head.logits(rows.features[~own])
        found.append({"tau": tau, "prior_offset": t})
    return logits, found


def _measured(
    logits: Floats,
    labels: Integers,
    by_class: dict[Convention, tuple[Group, ...]],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """One head's metrics and groups as intervals, its likelihood, worst class and recalls."""
    metrics = evaluate(logits, labels, by_class["A"])
    drawn = resample(logits, labels, seed)
    found = {name: as_json(drawn.intervals(members)) for name, members in by_class.items()}
    seen = {name: recall for name, recall in zip(classes, metrics.recall, strict=True) if recall is not None}
    return {
        "metrics": {name: interval for name, interval in found["A"].items() if name not in GROUPS},
        "groups": {name: {g: own.get(g) for g in GROUPS} for name, own in found.items()},
        "worst_class": min(seen, key=lambda name: seen[name]),
        "nll": metrics.nll,
        "recall": list(metrics.recall),
    }


def _others_logits(other: Bundle, other_config: TrainConfig, config: TrainConfig, data: Data) -> Floats:
    """The logits (N, C) of another bundle's exported head on the same test images.

    Raises:
        DataError: it was tested on other images.
    """
    if any(getattr(config, name) != getattr(other_config, name) for name in SOURCE):
        theirs = load(other_config).test
        if not same_images(data.test, theirs):
            raise DataError(
                f"the test images of {other.folder} are others: {len(theirs)} of {other_config.data}, expected "
                f"{len(data.test)} of {config.data}; name one set for both with --data and --test-data"
            )
    return other.head().logits(_features(other, data.test, other_config))
