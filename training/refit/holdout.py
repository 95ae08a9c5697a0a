"""The rows that both heads are judged on: those of a hold-out, a share of the new images, and a share of the examples.

Nothing is fitted to them, or chosen by them. It knows nothing of how a head is fitted or judged.

Letters: N judged rows, D feature dimensions, C classes, I images, M rows of the base.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.refit.images import Images
from breadcrumbs.training.refit.rows import RefitError, Rows

LEFT = 5
"""Images that a class must have left to fit before any of its examples is set aside."""

Source = Literal["pinned", "snapshot", "bundle", "split"]
"""Whose the judged rows are: the operator's, the request's, the bundle's, or a share of the images."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows of the deployed backbone: features f32 (N, D), labels int64 (N,), and whose they are.

    The last `examples` of them are verified examples. Where there is a hold-out, the last `new` of them are new images
    that were set aside beside it, examples too; the others are its rows `index`. Of `mapped` ones the backbone never
    saw the images.
    """

    features: Floats
    labels: NDArray[np.int64]
    source: Source
    new: int = 0
    index: NDArray[np.int64] | None = None
    mapped: bool = False
    examples: int = 0


def split(base: Rows, images: Images, classes: int, spec: RefitSpec) -> tuple[Tensor, HeldOut]:
    """Set a share of each class's images aside: those left to fit (I,), and the rows set aside.

    A class of one image keeps it. Examples are not drawn.
    """
    allowed = (base.labels >= 0) & ~images.examples[base.images]
    counts = torch.bincount(base.labels[allowed], minlength=classes)
    share = torch.where(counts > 1, (counts * spec.holdout_fraction).round().long().clamp(min=1), 0)
    chosen = _drawn(base, allowed, share, spec.seed)
    fit = torch.ones(len(images.labels), dtype=torch.bool)
    fit[base.images[chosen]] = False
    mapped = any(look.present and look.mapped for look in images.looks)
    return fit, HeldOut(base.gather(chosen).numpy(), base.labels[chosen].numpy(), "split", mapped=mapped)


def _drawn(base: Rows, allowed: Tensor, share: Tensor, seed: int) -> Tensor:
    """Draw so many rows of each class (C,) among the allowed (M,); return their numbers."""
    rows = allowed.nonzero().squeeze(1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    labels = base.labels[rows]
    return rows[rank_in_class(labels, order) < share[labels]]


def set_aside(
    base: Rows, images: Images, aside: Rows, known: int, classes: int, source: Source, spec: RefitSpec
) -> tuple[Tensor, HeldOut]:
    """Set the hold-out's images aside, and a share of the new images of each known class that are no examples.

    An image that alone is left of its class is fitted and not judged: setting aside never empties a class.
    """
    fit = torch.ones(len(images.labels), dtype=torch.bool)
    mine = aside.take(aside.labels >= 0)
    fit[mine.images] = False
    left = torch.bincount(images.labels[fit & (images.labels >= 0)], minlength=classes)
    emptied = (left == 0)[mine.labels] & images.seen[mine.images]
    fit[mine.images[emptied]] = True
    mine = mine.take(~emptied)
    for look in images.uploads:
        plain = (look.labels >= 0) & ~images.examples[look.images]
        if plain.any() and not fit[look.images].any():  # unlabelled rows may be pairs for a map
            raise RefitError(
                f"every row of the snapshot of epoch {look.epoch} is in the hold-out too, so nothing of it can be "
                "fitted; name another hold-out, or none"
            )
    new = fit[base.images] & ~(images.stored | images.examples)[base.images]
    new &= (base.labels >= 0) & (base.labels < known)
    share = (torch.bincount(base.labels[new], minlength=classes) * spec.holdout_fraction).long()  # rounded down (C,)
    chosen = _drawn(base, new, share, spec.seed)
    fit[base.images[chosen]] = False
    features = torch.cat([mine.features, base.gather(chosen)])
    labels = torch.cat([mine.labels, base.labels[chosen]])
    rows = features.numpy(), labels.numpy()
    return fit, HeldOut(*rows, source, len(chosen), mine.index.numpy(), aside.mapped)


def with_examples(
    base: Rows, images: Images, classes: int, fit: Tensor, judged: HeldOut, *, judge: bool = True
) -> tuple[Tensor, HeldOut]:
    """Set the examples aside that a hash chose to judge, except those of a class that would have too few images left.

    Args:
        base: one row for each image.
        images: of all snapshots.
        classes: C.
        fit: bool (I,), the images that may be fitted so far.
        judged: what else is judged on.
        judge: whether they are judged on, too. A head of another backbone cannot answer for them.

    Returns:
        The images that may be fitted (I,), and what is judged on: the examples last.
    """
    usable = fit[base.images] & (base.labels >= 0)
    chosen = usable & images.judging[base.images]
    left = torch.bincount(base.labels[usable & ~chosen], minlength=classes)
    chosen &= (left >= LEFT)[base.labels]  # a row without a class is not chosen, whatever this says of it
    fit = fit.clone()
    fit[base.images[chosen]] = False
    rows = (chosen & images.made[base.images]).nonzero().squeeze(1)
    if not judge or not len(rows):
        return fit, judged
    features = np.concatenate([judged.features, base.gather(rows).numpy()])
    labels = np.concatenate([judged.labels, base.labels[rows].numpy()])
    new = 0 if judged.source == "split" else judged.new + len(rows)
    return fit, replace(judged, features=features, labels=labels, new=new, examples=len(rows))
