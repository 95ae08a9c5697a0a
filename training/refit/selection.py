"""Choose the members of a head by cross-validation: penalty, prior offset and share of each.

It knows nothing of where features come from, nor of the rows that a head is judged on.

Letters: N scored rows, C classes; π_y the share of class y among the images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import Member, RefitSpec
from breadcrumbs.training.refit.members import Fitted
from breadcrumbs.training.refit.offset import balanced_accuracy, likeliest_offset
from breadcrumbs.training.refit.validation import Validation
from breadcrumbs.training.solver.solver import Found

PENALTIES = (1e-2, 1e-3, 1e-4)
"""Where the search begins, from strong to weak; it goes on by STEP while the best is at an end."""
STRONGEST, WEAKEST, STEP = 1e3, 1e-7, 10.0
WEAKEST_OF_ONE = 1e-4  # of all rows, where there is time for one fold only: a weaker one takes minutes at 1,000 classes
CLOSE = 1.5  # factor within which two penalties are the same: 1e-5 / 10 is not quite 1e-6
ENOUGH = 0.5  # standard errors by which what is less simple must be better
SHARES = 4  # the average is in parts of one fourth


@dataclass(frozen=True, eq=False)
class Part:
    """One member of a head.

    Attributes:
        member: which.
        penalty: λ, in units of the features' variance.
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


def usual(spec: RefitSpec) -> Part:
    """Return what is used where no image can be left out: a usual λ, and the t that makes the classes equal."""
    member = spec.members[0]
    t = (1.0 if member == "plain" else 0.0) if spec.prior_offset == "auto" else spec.prior_offset
    return Part(member, PENALTIES[1] if spec.l2 == "auto" else spec.l2, t)


def choose(validation: Validation, spec: RefitSpec, log_prior: Tensor) -> list[Part]:
    """Return each member at its best, with the shares of the best average; a share may be 0.

    Where there is time for one fold only, the first member is all: the average with the second has gained nothing
    beyond chance on pretrained features. Where the heads are fitted to a share of the images, the penalty is that share
    of the one chosen: λ weighs against a mean over the images, so that a prior of one strength has λ ∝ 1 / N.

    Args:
        validation: fits members without a fold, and gives the logits of the fold.
        spec: the members, and λ and t where they are given.
        log_prior: log π (C,).
    """
    found: list[Part] = []
    for member in spec.members if validation.thorough else spec.members[:1]:
        grid = PENALTIES if spec.l2 == "auto" else (spec.l2,)
        found.append(_member(validation, member, grid, log_prior, spec))
    if spec.l2 == "auto":
        found = [replace(part, penalty=part.penalty * validation.share) for part in found]
    return _shares(found, validation.labels)


def _member(
    validation: Validation, member: Member, penalties: Sequence[float], log_prior: Tensor, spec: RefitSpec
) -> Part:
    """Search along the penalties, and on at the end where the best is; a single one is taken as it is."""
    offset = None if spec.prior_offset == "auto" else spec.prior_offset
    weakest = WEAKEST if validation.thorough else WEAKEST_OF_ONE / validation.share
    tried: set[float] = set()
    best: Part | None = None  # the others' logits need not be in memory
    grid = [penalty for penalty in penalties if penalty >= weakest / CLOSE] or [weakest]
    while True:
        for penalty in sorted(set(grid) - tried, reverse=True):  # from strong to weak: each starts at the last
            logits, start = validation.logits(member, penalty)
            tried.add(penalty)
            t, score = likeliest_offset(logits, validation.labels, log_prior, offset)
            part = Part(member, penalty, t, 1.0, score, logits - t * log_prior, start)
            if best is None or _better(part, best, validation.labels):
                best = part
        if best is None:
            raise ValueError("there is no penalty to try")
        if len(grid) == 1:
            return best
        if best.penalty == min(grid) > CLOSE * weakest:
            grid.append(best.penalty / STEP)
        elif best.penalty == max(grid) < STRONGEST:
            grid.append(best.penalty * STEP)
        else:
            return best


def _better(part: Part, best: Part, labels: Tensor) -> bool:
    """Whether a part is to be preferred; one with a weaker penalty, which takes longer to solve, beyond chance only."""
    if part.penalty > best.penalty:
        return (part.score or 0.0) >= (best.score or 0.0)
    return _surely_better(part.logits, best.logits, labels)


def _surely_better(logits: Tensor, simple: Tensor, labels: Tensor) -> bool:
    """Whether logits (N, C) have a higher balanced accuracy than others by `ENOUGH` standard errors of the difference.

    With d_i of 1, 0 or −1 for a row that only the first, both or neither, or only the second has right, and
    q = mean d_i², the variance of the mean of the recalls is Σ_y q / n_y over the C classes with rows, by C².
    """
    rows = torch.bincount(labels)
    part = (1 / rows.double())[labels] / int((rows > 0).sum())  # of a row in the mean of the recalls (N,)
    first, second = ((own.argmax(1) == labels).double() for own in (logits, simple))
    apart = first - second  # d (N,)
    variance = apart.square().mean() * part.square().sum()
    return float((part * apart).sum()) > ENOUGH * math.sqrt(float(variance))


def _shares(parts: Sequence[Part], labels: Tensor) -> list[Part]:
    """Give each part its share: equal ones, unless cross-validation likes another average better beyond chance."""
    equal = tuple(SHARES // len(parts) for _ in parts)
    options = [own for own in product(range(SHARES + 1), repeat=len(parts)) if sum(own) == SHARES]

    def logits(own: tuple[int, ...]) -> Tensor:
        return sum((k / SHARES * part.logits for k, part in zip(own, parts, strict=True) if k), torch.zeros(1))

    def rank(own: tuple[int, ...]) -> tuple[float, int]:
        return balanced_accuracy(logits(own), labels), -sum(k > 0 for k in own)

    best = max(options, key=rank)
    if not _surely_better(logits(best), logits(equal), labels):
        best = equal
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
