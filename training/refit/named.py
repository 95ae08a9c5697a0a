"""The names of classes as a start: what a text tower says of them is W₀, toward which the heads are drawn.

How far it counts is a scale, 0 included, that cross-validation chooses. It knows nothing of texts or of towers.

Letters: C classes, D feature dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.refit.edits import Names
from breadcrumbs.training.refit.offset import balanced_accuracy
from breadcrumbs.training.refit.pool import Pool

if TYPE_CHECKING:
    from breadcrumbs.training.refit.looks import Looks
    from breadcrumbs.training.refit.selection import Part
    from breadcrumbs.training.refit.validation import Validation

SCALES = (0.0, 0.1, 0.3, 1.0)
"""By which what the names say is multiplied; at 1 it is what the text tower's own model answers with."""
UNSCORED = "the names of the classes count in full, since there was nothing to choose by"


@dataclass(frozen=True, eq=False)
class Begun:
    """Looks with their scale, the members chosen at it, on what they were scored, and what a reader should know."""

    looks: "Looks"
    parts: "list[Part]"
    validation: "Validation | None"
    notes: tuple[str, ...] = ()


Choose = Callable[["Looks"], "tuple[list[Part], Validation | None]"]
"""Chooses the members of the head, and says on what they were scored."""


def named_rows(head: LinearHead | None, became: Names, classes: Sequence[str]) -> Tensor | None:
    """Return what names say, f32 (C, D), for classes that were edited.

    Args:
        head: of the classes before; None: nothing is known.
        became: new names of old classes.
        classes: C names. One of several old ones gets the mean of their rows, an unknown one 0.
    """
    if head is None:
        return None
    place = {name: c for c, name in enumerate(classes)}
    rows = torch.zeros(len(classes), head.feature_dim)
    parts = torch.zeros(len(classes))
    for name, row in zip(head.classes, torch.from_numpy(head.weight), strict=True):
        own = place.get(became.get(name, name) or "")
        if own is not None and row.any():
            rows[own] += row
            parts[own] += 1
    return rows / parts.clamp(min=1).unsqueeze(1)


def begin(looks: "Looks", pool: Pool, choose: Choose) -> Begun:
    """Choose the members of the head, and with them the scale of what the names say, if they say anything.

    Of equal scales the smaller one is taken. Where a class has no row but a name, 0 is no choice. Without anything to
    score on, the scale is 1.
    """
    rows = looks.material.named
    if rows is None:
        return Begun(looks, *choose(looks))
    have = torch.bincount(pool.labels, minlength=len(rows)) > 0
    needed = bool((rows.any(1) & ~have).any())
    best: Begun | None = None
    scores: dict[float, float] = {}
    for scale in SCALES[needed:]:
        own = replace(looks, scale=scale)
        parts, validation = choose(own)
        if validation is None or not len(validation.labels):
            return Begun(replace(looks, scale=1.0), parts, validation, (UNSCORED,))
        score = _score(parts, validation)
        if score > max(scores.values(), default=-1.0):
            best = Begun(own, parts, validation)
        scores[scale] = score
    if best is None:
        raise ValueError("there is no scale to try")
    told = ", ".join(f"{score:.3f} at {scale:g}" for scale, score in scores.items())
    note = f"the names of the classes count {best.looks.scale:g} times, chosen by cross-validation: {told}"
    return replace(best, notes=(note,))


def _score(parts: "Sequence[Part]", validation: "Validation") -> float:
    """The balanced accuracy of the parts' average."""
    logits = sum((part.share * part.logits for part in parts if part.share), torch.zeros(1))
    return balanced_accuracy(logits, validation.labels)
