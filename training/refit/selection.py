"""Choose the members of a head by cross-validation: penalty, prior offset and share of each.

It knows nothing of where features come from, nor of the rows that a head is judged on.

Letters: N scored rows, C classes; π_y the share of class y among the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import Member, RefitSpec
from breadcrumbs.training.refit.members import Fitted
from breadcrumbs.training.refit.offset import balanced_accuracy, best_offset
from breadcrumbs.training.refit.validation import Validation
from breadcrumbs.training.solver.solver import Found

PENALTIES: dict[Member, tuple[float, ...]] = {
    "plain": (1e-2, 1e-3, 1e-4),
    "balanced": (1e-2, 1e-3, 1e-4),
    "lda": (0.9, 0.5, 0.2, 0.05),
}
"""Where the search begins, from strong to weak; it goes on while the best is at an end."""
ENDS: dict[Member, tuple[float, float]] = {"plain": (1e3, 1e-8), "balanced": (1e3, 1e-8), "lda": (1.0, 1e-4)}
STEP = {"plain": 10.0, "balanced": 10.0, "lda": 4.0}
SHARES = 4  # the average is in parts of one fourth


@dataclass(frozen=True, eq=False)
class Part:
    """One member of a head.

    Attributes:
        member: which.
        penalty: λ, in units of the features' variance, or γ of `lda`.
        prior_offset: t.
        share: its weight in the average.
        score: what cross-validation gives it alone; None if nothing was chosen.
        logits: of the scored rows (N, C), prior offset included.
        start: a head that is close, to begin from.
    """

    member: Member
    penalty: float
    prior_offset: float
    share: float = 1.0
    score: float | None = None
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    start: Found | None = None


def given(spec: RefitSpec) -> Part | None:
    """Return the head that a spec leaves nothing to choose of, or None."""
    if len(spec.members) > 1 or spec.l2 == "auto" or spec.prior_offset == "auto":
        return None
    return Part(spec.members[0], spec.l2, spec.prior_offset)


def choose(validation: Validation, spec: RefitSpec, log_prior: Tensor) -> list[Part]:
    """Return each member at its best, with the shares of the best average; a share may be 0.

    Args:
        validation: fits members without a fold, and gives the logits of the fold.
        spec: the members, and λ and t where they are given.
        log_prior: log π (C,).
    """
    found = [_member(validation, member, log_prior, spec) for member in spec.members]
    return _shares(found, validation.labels)


def _member(validation: Validation, member: Member, log_prior: Tensor, spec: RefitSpec) -> Part:
    """Search along the penalties, and on at the end where the best is."""
    offset = None if spec.prior_offset == "auto" else spec.prior_offset
    best: Part | None = None
    scores: dict[float, float] = {}

    def rank(penalty: float) -> tuple[float, float]:
        nonlocal best
        if penalty not in scores:
            logits, start = validation.logits(member, penalty)
            t, score = best_offset(logits, validation.labels, log_prior, offset)
            scores[penalty] = score
            if best is None or (score, penalty) > (best.score, best.penalty):
                best = Part(member, penalty, t, 1.0, score, logits - t * log_prior, start)
        return scores[penalty], penalty  # of equals the strongest

    grid = list(PENALTIES[member]) if spec.l2 == "auto" else [spec.l2]
    strongest, weakest = ENDS[member]
    while True:
        top = max(grid, key=rank)
        if spec.l2 == "auto" and top == grid[-1] > weakest:
            grid.append(max(weakest, top / STEP[member]))
        elif spec.l2 == "auto" and top == grid[0] < strongest:
            grid.insert(0, min(strongest, top * STEP[member]))
        elif best is not None:
            return best


def _shares(parts: Sequence[Part], labels: Tensor) -> list[Part]:
    """Give each part its share in the average that cross-validation likes best; of equals the one of fewer members."""
    options = [own for own in product(range(SHARES + 1), repeat=len(parts)) if sum(own) == SHARES]

    def rank(own: tuple[int, ...]) -> tuple[float, int]:
        logits = sum((k / SHARES * part.logits for k, part in zip(own, parts, strict=True) if k), torch.zeros(1))
        return balanced_accuracy(logits, labels), -sum(k > 0 for k in own)

    best = max(options, key=rank)
    return [replace(part, share=k / SHARES) for k, part in zip(best, parts, strict=True)]


def average_logits(parts: Sequence[Part]) -> Tensor:
    """Return what the average says of the scored rows (N, C)."""
    return sum((part.share * part.logits for part in parts if part.share), torch.zeros(1))


def average(parts: Sequence[tuple[Part, Fitted]], log_prior: Tensor, classes: tuple[str, ...]) -> LinearHead:
    """Return the one linear head that the parts' average is, prior offsets −t log π included."""
    total = sum(part.share for part, _ in parts)
    weight = sum((part.share / total * own.weight for part, own in parts), torch.zeros(1))
    bias = sum((part.share / total * (own.bias - part.prior_offset * log_prior) for part, own in parts), torch.zeros(1))
    return LinearHead(weight.numpy(), bias.numpy(), classes)
