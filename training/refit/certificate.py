"""Lemma 1, evaluated on real snapshots: what the augmentation gained, and whether the bound held. Never assumed.

For class y, with the classifier (W^e, b^e) fitted to other images of Z^e and (W^{e'}, b^{e'}) to other images of
Z^{e'}:

    gain   L_y(A_y, W^e, b^e) − L_y(Z_y^e, W^e, b^e)                     A_y = Z_y^e ∪ Z_y^{e'→e}
    bound  ½ [ L_y(Z_y^{e'}, W^{e'}, b^{e'}) − L_y(Z_y^e, W^e, b^e) ]    Lemma 1 says gain >= bound
    floor  the loss at the class mean; L_y(A_y) is not below it (Jensen), for any head

The Lemma's second premise (the old classifier is the best there is for class y on Z^{e'}) does not hold for a joint
classifier, so the bound is measured. See `docs/certificate.md`. It knows nothing of files or of the head to be served.

Source: Lemma 1 and eq. 9 of the paper, which `training/emanate.py` names.

Letters: N rows, D feature dimensions, C classes; e the newest epoch, e' an older one.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.emanate import balanced_target, class_loss, class_means, rank_in_class, transfer
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit.material import Material
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.solver.solver import solve

L2 = 1e-3
SHARE, ROWS = 0.5, 20  # of n, or rows where that is less: of a class in each look

Fit = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""features (N, D), labels (N,) -> weight (C, D), bias (C,)."""


@dataclass(frozen=True)
class Evidence:
    """What was measured of one class, in nats.

    Attributes:
        name: the class.
        n: held-out rows of the class in Z^e.
        loss, augmented_loss: L_y(Z_y^e) and L_y(A_y) under (W^e, b^e).
        gain, bound: both sides of Lemma 1.
        held: gain >= bound.
        floor: the loss at the class mean, not above augmented_loss.
    """

    name: str
    n: int
    loss: float
    augmented_loss: float
    gain: float
    bound: float
    held: bool
    floor: float


def measured(material: Material, spec: RefitSpec, device: RefitDevice) -> dict[str, Any] | None:
    """Lemma 1 between the deployed backbone's rows and the oldest look that has as many classes; None if there is none.

    Each offers half of n = ceil(N / C) rows a class, those that come first: enough to measure a loss by.
    """
    base = material.base.take(material.fit[material.base.images] & (material.base.labels >= 0))
    classes = len(material.classes)
    seen = _count(base)
    own = [look.take(material.fit[look.images] & (look.labels >= 0)) for look in material.crumbs]
    whole = [rows for rows in own if rows.feature_dim == base.feature_dim and _count(rows) >= seen > 0]
    if not whole:
        return None

    def fit(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(labels, minlength=classes)
        weights = 1 / (counts[labels] * (counts > 0).sum())
        place = devices.choose(device, features.numel(), classes)
        solution = solve(*devices.to(place, (features, labels, weights)), classes, L2, gap=spec.proof)
        return solution.weight.cpu(), solution.bias.cpu()

    most = max(ROWS, round(SHARE * balanced_target(int(material.counts.sum()), classes)))
    newest, oldest = (
        rows.take(rank_in_class(rows.labels, torch.arange(len(rows))) < most) for rows in (base, whole[-1])
    )
    return certify(newest, oldest, material.classes, fit, spec.seed) | {"head": f"class-balanced, l2 {L2}"}


def _count(rows: Rows) -> int:
    """How many classes have rows."""
    return int((torch.bincount(rows.labels) > 0).sum())


def certify(newest: Rows, older: Rows, classes: Sequence[str], fit: Fit, seed: int) -> dict[str, Any]:
    """Measure Lemma 1 for each class on features that the heads were not fitted on.

    Half of the images fit the two classifiers; the other half is measured.

    Args:
        newest: Z^e.
        older: Z^{e'}.
        classes: C names.
        fit: how a classifier is fitted.
        seed: of the halves.

    Returns:
        The epochs, the share of classes for which the bound held, and the evidence of each class that is in both halves
        of both snapshots.
    """
    fit_new, new = _halves(newest, seed)
    fit_old, old = _halves(older, seed)
    weight, bias = fit(fit_new.features, fit_new.labels)  # W^e (C, D), b^e (C,)
    own_loss = class_loss(new.features.to(weight), new.labels, weight, bias)  # L_y(Z_y^e, W^e, b^e) (C,)
    means, counts = class_means(new.features, new.labels, len(classes))  # z̄^e (C, D), (C,)
    old_means, old_counts = class_means(old.features, old.labels, len(classes))  # z̄^{e'} (C, D), (C,)
    moved = transfer(old.features, old.labels, old_means, means)  # Z^{e'→e} (N, D)
    moved_loss = class_loss(moved.to(weight), old.labels, weight, bias)  # (C,)
    # L_y of a union is the size-weighted mean of its parts; the parts of eq. 9 are equal, so its share is one half
    share = counts / (counts + old_counts)  # (C,)
    augmented = share * own_loss + (1 - share) * moved_loss  # L_y(A_y, W^e, b^e) (C,)
    old_weight, old_bias = fit(fit_old.features, fit_old.labels)  # W^{e'} (C, D), b^{e'} (C,)
    old_loss = class_loss(old.features.to(weight), old.labels, old_weight, old_bias)  # L_y(Z_y^{e'}, …) (C,)
    gain = augmented - own_loss
    bound = (1 - share) * (old_loss - own_loss)
    floor = class_loss(means.to(weight), torch.arange(len(classes)), weight, bias)  # one row a class: its mean
    fitted = [torch.bincount(part.labels, minlength=len(classes)) > 0 for part in (fit_new, fit_old)]
    measurable = fitted[0] & fitted[1] & (counts > 0) & (old_counts > 0)  # (C,)
    evidence = [
        Evidence(
            name=classes[c],
            n=int(counts[c]),
            loss=float(own_loss[c]),
            augmented_loss=float(augmented[c]),
            gain=float(gain[c]),
            bound=float(bound[c]),
            held=bool(gain[c] >= bound[c]),
            floor=float(floor[c]),
        )
        for c in range(len(classes))
        if measurable[c]
    ]
    held = sum(item.held for item in evidence) / len(evidence) if evidence else None
    return {
        "epoch": newest.epoch,
        "older_epoch": older.epoch,
        "bound_held_share": held,
        "classes": [asdict(item) for item in evidence],
    }


def _halves(part: Rows, seed: int) -> tuple[Rows, Rows]:
    """Split by a hash of the image's number, so that an image falls into the same half of every look."""
    first = (((part.images + seed) * 2_654_435_761 >> 16) & 1).bool()  # Knuth's multiplicative hash
    return part.take(first), part.take(~first)
