"""A bundle, measured on test images: its heads and what becomes of them without training, each with its intervals.

Features are computed by ONNX Runtime from the exported backbone, as on the server. A head whose τ or prior
offset t has to be chosen is cross-fitted: chosen on one half of the test rows and measured on the other, then the other
way round, so that no row is measured by a head that was chosen on it. It knows nothing of how results are shown.

Letters: N test rows, D feature dimensions, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
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
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.class_names import plain
from breadcrumbs.training.data.dataset import Data, DataError, Split, load
from breadcrumbs.training.data.loader import evaluation_batches
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.metrics import Interval, evaluate, resample
from breadcrumbs.training.pairs import pairs
from breadcrumbs.training.refit.rows import rows_of
from breadcrumbs.training.refit.selection import Chosen, Holdout, with_offset, with_tau
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean, tau_normalised
from breadcrumbs.training.terminal.bars import step, track

CONVENTIONS: tuple[Convention, ...] = ("A", "B")
SOURCE = ("data", "test_data", "images", "holdout", "seed")  # what decides which images are test images
LOADING = ("batch_size", "workers", "prefetch", "max_pixels")

Integers = NDArray[np.int64]
Choose = Callable[[Holdout], Chosen]


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
    """
    known = {k: v for k, v in bundle.manifest.recipe.items() if k in (*SOURCE, *LOADING)}
    return TrainConfig.model_validate(known | {k: v for k, v in changed.items() if v is not None})


def measure(
    bundle: Bundle, config: TrainConfig, against: tuple[Bundle, TrainConfig] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure a bundle's heads, and compare its exported head with another bundle's on the same test images.

    Args:
        bundle: what to measure; its training counts decide the groups.
        config: where the test images are.
        against: another bundle, and where its test images are.
        seed: of the halves and the bootstrap.

    Returns:
        JSON's own types: `heads`, the exported one first, each with `metrics` and `groups` as intervals, `recall` and
        what was chosen; `classes` with their training and test images and groups; `notes` of the data; `against`,
        where asked for.

    Raises:
        DataError: the images are not as they should be, or are of other classes; or the two bundles have other classes
            or other test images.
        BundleError: the backbone's features are not finite.
    """
    manifest = bundle.manifest
    if against is not None:
        _check_classes(manifest.classes, against[0].manifest.classes, f"the bundle {against[0].folder}")
    data = load(config)
    _check_classes(manifest.classes, data.classes, "the data")
    labels = data.test.labels
    rows = _Rows(_features(bundle, data.test, config), labels, _half(labels, seed))
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
            "test_images": np.bincount(labels, minlength=len(data.classes)).tolist(),
            "groups": {name: list(members) for name, members in by_class.items()},
        },
        "notes": list(data.notes),
        "heads": own,
    }
    if against is not None:
        other = _others_logits(*against, config, data)
        found["against"] = {"bundle": str(against[0].folder)} | _difference(
            other, bundle.head().logits(rows.features), labels, by_class
        )
    return found


def _check_classes(own: Sequence[str], other: Sequence[str], whose: str) -> None:
    if [plain(name) for name in own] != [plain(name) for name in other]:
        differ = [f"{a!r} and {b!r}" for a, b in zip(own, other, strict=False) if a != b]
        first = f"; the first that differ are {differ[0]:.120}" if differ else ""
        raise DataError(f"{whose} has other classes: expected {len(own)}, in the same order, got {len(other)}{first}")


def _features(bundle: Bundle, test: Split, config: TrainConfig) -> Floats:
    loader = evaluation_batches(test, bundle.manifest.preprocess, config)
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
    class_groups = groups(bundle.manifest.train_counts, bundle.manifest.groups)
    for name, choose in chosen.items():
        logits, both = _cross_fitted(choose, rows, class_groups, len(counts))
        yield f"{name}_chosen", logits, both


def _heads(bundle: Bundle, log_prior: NDArray[np.float64]) -> tuple[dict[str, LinearHead], dict[str, Choose]]:
    """The heads that are as they are, and how those that have something to choose are chosen."""
    head, joint = bundle.head(), bundle.joint_head()
    means = _class_means(bundle)
    fixed = {"joint" if joint is not None and joint.digest == head.digest else "balanced": head}
    offset = partial(with_offset, log_prior=log_prior, offset="auto")
    chosen: dict[str, Choose] = {}
    if "balanced" in fixed:
        chosen["balanced"] = lambda held: offset(head, held=held)
    if joint is not None:
        fixed |= {"joint": joint, "joint_logit_adjusted": logit_adjusted(joint, log_prior)}
        fixed["tau_normalised"] = tau_normalised(joint, 1)
        chosen["joint_logit_adjusted"] = lambda held: offset(joint, held=held)
        chosen["tau_normalised"] = lambda held: with_tau(joint, log_prior, held, "auto")
    if means is not None:
        fixed["nearest_class_mean"] = means
        chosen["nearest_class_mean"] = lambda held: offset(means, held=held)
    return fixed, chosen


def _class_means(bundle: Bundle) -> LinearHead | None:
    """The nearest-class-mean head of the newest stored snapshot that the bundle's own backbone made."""
    classes, digest = bundle.manifest.classes, bundle.backbone_digest
    newest = next((s for s in bundle.snapshots() if s.backbone == digest), None)
    if newest is None:
        return None
    known = rows_of(newest, classes, bundle.manifest.feature_dim, digest).known()
    return nearest_class_mean(known.features.numpy(), known.labels.numpy(), classes)


def _cross_fitted(
    choose: Choose, rows: _Rows, class_groups: tuple[Group, ...], classes: int
) -> tuple[Floats, list[dict[str, float | None]]]:
    """Logits (N, C), each row's by the head chosen on the half it is not in, and the two choices."""
    logits = np.empty((len(rows.labels), classes), np.float32)
    found = []
    for own in (rows.half, ~rows.half):
        made = choose(Holdout(rows.features[own], rows.labels[own], class_groups))
        logits[~own] = made.head.logits(rows.features[~own])
        found.append({"tau": made.tau, "prior_offset": made.prior_offset})
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
    found = {name: _json(drawn.intervals(members)) for name, members in by_class.items()}
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
        if not _same_images(data.test, theirs):
            raise DataError(
                f"the test images of {other.folder} are others: {len(theirs)} of {other_config.data}, expected "
                f"{len(data.test)} of {config.data}; name one set for both with --data and --test-data"
            )
    return other.head().logits(_features(other, data.test, other_config))


def _same_images(one: Split, two: Split) -> bool:
    if not np.array_equal(one.labels, two.labels):
        return False
    if one.pixels is not None and two.pixels is not None:
        return np.array_equal(one.pixels, two.pixels)
    paths = ([path.resolve() for path in split.paths or ()] for split in (one, two))
    return one.pixels is None and two.pixels is None and next(paths) == next(paths)


def _difference(
    other: Floats, own: Floats, labels: Integers, by_class: dict[Convention, tuple[Group, ...]]
) -> dict[str, Any]:
    """This bundle's recall less the other's, balanced and by group, on the same rows."""
    both = pairs(other, own, labels)
    found = {name: _json(both.difference(members)) for name, members in by_class.items()}
    return {"balanced": found["A"]["balanced"], "groups": {n: {g: v.get(g) for g in GROUPS} for n, v in found.items()}}


def _json(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}
