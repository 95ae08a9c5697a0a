"""How far the names of classes count: what they say, times a scale, is W₀, toward which the heads are drawn.

Cross-validation chooses the scale, 0 included. It knows nothing of texts or of towers.

Letters: C classes, D feature dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from breadcrumbs.training.refit.looks import Looks
from breadcrumbs.training.refit.offset import balanced_accuracy
from breadcrumbs.training.refit.pool import Pool
from breadcrumbs.training.refit.selection import Part, average_logits
from breadcrumbs.training.refit.validation import Validation

SCALES = (0.0, 0.1, 0.3, 1.0)
"""By which what the names say is multiplied; at 1 it is what the text tower's own model answers with."""
UNSCORED = "the names of the classes count in full, since there was nothing to choose by"


@dataclass(frozen=True, eq=False)
class Begun:
    """Looks with their scale, the members chosen at it, on what they were scored, and what a reader should know."""

    looks: Looks
    parts: list[Part]
    validation: Validation | None
    notes: tuple[str, ...] = ()


Choose = Callable[[Looks], tuple[list[Part], Validation | None]]
"""Chooses the members of the head, and says on what they were scored."""


def begin(looks: Looks, pool: Pool, choose: Choose) -> Begun:
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


def _score(parts: Sequence[Part], validation: Validation) -> float:
    """The balanced accuracy of the parts' average."""
    return balanced_accuracy(average_logits(parts), validation.labels)
