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

from breadcrumbs.training.emanate import class_loss, class_means, transfer
from breadcrumbs.training.refit.rows import Rows

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


def certify(newest: Rows, older: Rows, classes: Sequence[str], fit: Fit, seed: int) -> dict[str, Any]:
    """Measure Lemma 1 for each class on features that the heads were not fitted on.

    Half of the images (by id, or by row) fit the two classifiers; the other half is measured.

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
    """Split by a hash of the image's id (or row), so that an image falls into the same half of every snapshot."""
    key = part.ids if part.ids is not None else torch.arange(len(part.labels))
    first = (((key + seed) * 2_654_435_761 >> 16) & 1).bool()  # Knuth's multiplicative hash
    return part.take(first), part.take(~first)
