"""Choosing the penalty λ, τ and the prior offset t on held-out rows, the same way for ours and for every baseline.

It knows nothing of where the features come from.

Letters: N rows, D feature dimensions, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit.balanced_set import BalancedSet
from breadcrumbs.training.refit.without_training import logit_adjusted, tau_normalised
from breadcrumbs.training.solver.solver import Found, Solution, in_double, solve, solve_stream

L2_PATH = (1e-2, 1e-3, 1e-4, 1e-5)  # from strong to weak: each solution starts the next
NEARLY_WEAKEST = L2_PATH[-2]
PATH_GAP = 1e-2  # near enough to choose by; the chosen one is then solved as far as asked
OFFSETS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FLOAT = 4  # bytes
TAUS = tuple(i / 10 for i in range(11))

Choice = float | Literal["auto"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows of the deployed backbone that no candidate was fitted on.

    Attributes:
        features: f32 (N, D).
        labels: int64 (N,).
        groups: each class's group (C,).
        floor: recall that a group should keep, for the groups that have one: what the gate will ask for.
    """

    features: Floats
    labels: NDArray[np.int64]
    groups: tuple[Group, ...]
    floor: dict[Group, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A head with the λ and t it was chosen by; the solution where it was solved for; τ where it was normalised."""

    head: LinearHead
    l2: float | None
    prior_offset: float
    solution: Solution | None = None
    tau: float | None = None


Logits = Callable[[Chosen], Floats]
Progress = Callable[[float, int, float, float], None]
"""Hears λ, iteration, gradient norm and objective."""


def choose(
    pool: BalancedSet, classes: tuple[str, ...], log_prior: NDArray[np.float64], held: Holdout, spec: RefitSpec,
    progress: Progress = lambda *_: None, live: LinearHead | None = None, device: RefitDevice = "cpu",
) -> Chosen:  # fmt: skip
    """Fit heads along the path of λ and return the best on the hold-out, each with its best offset.

    The weakest penalty, which costs more than all others, is tried only where the one before it was the best so far.

    Args:
        pool: what to fit.
        classes: C names.
        log_prior: log π (C,), of the training counts.
        held: what to choose on.
        spec: λ and offset, or `auto`; the solver's stopping point; what may be in memory.
        progress: hears of the solver: λ, then what the solver tells.
        live: the head that may be near what is sought, at one λ or another; its classes are the first of `classes`.
        device: where to solve.

    Raises:
        RefitError: the device cannot be used.
    """
    solved = _solver(pool, len(classes), spec.max_memory, device)
    near_by = [] if live is None else [_without_offset(live, classes, log_prior, held)]

    def fit(l2: float, gap: float, t: Choice, before: Solution | None) -> Chosen:
        starts = near_by if before is None else [(before.weight, before.bias), *near_by]
        solution = solved(l2, gap=gap, starts=starts, progress=partial(progress, l2))
        weight, bias = (found.float().cpu().numpy() for found in (solution.weight, solution.bias))
        head = LinearHead(weight, bias, classes)
        best = with_offset(head, log_prior, held, t)
        return Chosen(best.head, l2, best.prior_offset, solution)

    if spec.l2 != "auto":
        return fit(spec.l2, spec.gap, spec.prior_offset, None)
    near = max(spec.gap, PATH_GAP)
    found: dict[float, Chosen] = {}
    before = None
    for value in L2_PATH:
        found[value] = fit(value, near, spec.prior_offset, before)
        before = found[value].solution
        if value == NEARLY_WEAKEST and _best(list(found.values()), held) is not found[value]:
            break
    best = _best(list(found.values()), held)
    value = next(value for value, chosen in found.items() if chosen is best)
    return fit(value, spec.gap, best.prior_offset, best.solution)


def _solver(pool: BalancedSet, classes: int, max_memory: int, wish: RefitDevice) -> Callable[..., Solution]:
    """The solver on a pool that is in memory, or, where it would take more than may be, read on every pass."""
    device, size = devices.choose(wish, pool.size, classes), pool.size * FLOAT
    if size <= max_memory and devices.fits(device, size):
        features, labels, weights = devices.to(device, (pool.features, pool.labels, pool.weights))
        return partial(solve, features, labels, weights, classes)
    source = devices.moved(pool.source(), device)

    def streamed(l2: float, gap: float, **more: Any) -> Solution:
        return solve_stream(source, classes, l2, double=in_double(pool.size, gap), gap=gap, **more)

    return streamed


def _without_offset(live: LinearHead, classes: tuple[str, ...], log_prior: NDArray[np.float64], held: Holdout) -> Found:
    """A head as it was solved for: a new class knows nothing yet, and the offset it was given is taken back.

    What that was is not known; it is the one without which the class-balanced loss on the hold-out is least.
    """
    new = len(classes) - len(live.classes)
    weight, bias = np.pad(live.weight, ((0, new), (0, 0))), np.pad(live.bias, (0, new))
    balance = 1 / np.bincount(held.labels, minlength=len(classes))[held.labels]
    logits, labels = torch.from_numpy(held.features @ weight.T), torch.from_numpy(held.labels)

    def loss(bias: NDArray[np.float32]) -> float:
        return float(balance @ cross_entropy(logits + torch.from_numpy(bias), labels, reduction="none").numpy())

    biases = [(bias + t * log_prior).astype(np.float32) for t in OFFSETS]
    return torch.from_numpy(weight), torch.from_numpy(min(biases, key=loss))


def with_offset(head: LinearHead, log_prior: NDArray[np.float64], held: Holdout, offset: Choice) -> Chosen:
    """Give a head the prior offset −t·log π (C,), t being a number or the best on the hold-out."""
    offsets = OFFSETS if offset == "auto" else (offset,)
    candidates = [Chosen(logit_adjusted(head, log_prior, t), None, t) for t in offsets]
    if len(candidates) == 1:
        return candidates[0]
    plain = held.features @ head.weight.T  # (N, C), the same for every offset
    return _best(candidates, held, lambda chosen: plain + chosen.head.bias)


def with_tau(head: LinearHead, log_prior: NDArray[np.float64], held: Holdout, offset: Choice) -> Chosen:
    """Normalise a head's weights by the best τ on the hold-out, each τ with its best offset as in `with_offset`."""
    candidates = [replace(with_offset(tau_normalised(head, tau), log_prior, held, offset), tau=tau) for tau in TAUS]
    return _best(candidates, held)


def _best(candidates: Sequence[Chosen], held: Holdout, logits: Logits | None = None) -> Chosen:
    """Of those that keep every group above its floor, if any do, the best in balanced accuracy; then in likelihood.

    Args:
        candidates: at least one.
        held: what to choose on.
        logits: gives a candidate's logits (N, C) where that is cheaper than its head on the features.
    """
    logits = logits or (lambda chosen: chosen.head.logits(held.features))
    ranks = [_rank(logits(chosen), held) for chosen in candidates]
    equals = [chosen for chosen, rank in zip(candidates, ranks, strict=True) if rank == max(ranks)]
    if len(equals) == 1:
        return equals[0]
    return min(equals, key=lambda chosen: evaluate(logits(chosen), held.labels, held.groups).nll)


def _rank(logits: Floats, held: Holdout) -> tuple[bool, float]:
    """Whether each group keeps its floor, and balanced accuracy, without the costly likelihood of `evaluate`."""
    classes = len(held.groups)
    rows = np.bincount(held.labels, minlength=classes)
    hits = np.bincount(held.labels, weights=logits.argmax(1) == held.labels, minlength=classes)
    recall, seen = hits / np.maximum(rows, 1), rows > 0
    own = {group: recall[np.array([g == group for g in held.groups]) & seen] for group in held.floor}
    keeps = all((own[group].mean() if len(own[group]) else 0) >= floor for group, floor in held.floor.items())
    return keeps, float(recall[seen].mean())
