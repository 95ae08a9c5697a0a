"""Choose the penalty λ, the exponent τ and the prior offset t on held-out rows, in the same way for every baseline.

It knows nothing of where the features come from.

Letters: N held-out rows, D feature dimensions, C classes; π_y the share of class y in the training counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit.balanced_set import BalancedSet
from breadcrumbs.training.refit.without_training import logit_adjusted, tau_normalised
from breadcrumbs.training.solver.solver import Found, Solution, in_double, solve, solve_stream

L2_PATH = (1e-2, 1e-3, 1e-4, 1e-5)  # from strong to weak: the next solve starts at the last solution
NEARLY_WEAKEST = L2_PATH[-2]
PATH_GAP = 1e-2  # precise enough to choose λ; the chosen one is then solved to the gap of the spec
OFFSETS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FLOAT = 4  # bytes
TAUS = tuple(i / 10 for i in range(11))

Choice = float | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows of the deployed backbone that no candidate was fitted on.

    Attributes:
        features: f32 (N, D).
        labels: int64 (N,).
        groups: each class's group (C,).
        floor: the recall that the gate will ask of a group, for the groups that have one.
    """

    features: Floats
    labels: NDArray[np.int64]
    groups: tuple[Group, ...]
    floor: dict[Group, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A head with its λ and t, the solution if it was solved for, and τ if it was normalised."""

    head: LinearHead
    l2: float | None
    prior_offset: float
    solution: Solution | None = None
    tau: float | None = None


Logits = Callable[[Chosen], Floats]
Progress = Callable[[float, int, float, float], None]
"""Called with λ, the pass's number, the gradient norm and the objective."""


def choose(
    pool: BalancedSet,
    classes: tuple[str, ...],
    log_prior: NDArray[np.float64],
    held: Holdout,
    spec: RefitSpec,
    progress: Progress = lambda *_: None,
    live: LinearHead | None = None,
    device: RefitDevice = "cpu",
) -> Chosen:
    """Fit a head for each λ of the path and return the best on the hold-out, each with its best offset.

    The weakest penalty, which takes longer than all others, is tried only if the one before it was the best so far.

    Args:
        pool: what to fit.
        classes: C names.
        log_prior: log π (C,), of the training counts.
        held: what to choose on.
        spec: λ and offset, or `auto`; the solver's gap; the limit on memory.
        progress: called with λ and what the solver reports.
        live: a head that may be close to the solution, to start from; its classes are the first of `classes`.
        device: where to solve.

    Raises:
        RefitError: the device cannot be used.
    """
    solved = _solver(pool, len(classes), spec.max_memory, device)
    nearby = [] if live is None else [_without_offset(live, classes, log_prior, held)]

    def fit(l2: float, gap: float, t: Choice, before: Solution | None) -> Chosen:
        starts = nearby if before is None else [(before.weight, before.bias), *nearby]
        solution = solved(l2, gap=gap, starts=starts, progress=partial(progress, l2))
        weight, bias = (found.float().cpu().numpy() for found in (solution.weight, solution.bias))
        head = LinearHead(weight, bias, classes)
        best = with_offset(head, log_prior, held, t)
        return Chosen(best.head, l2, best.prior_offset, solution)

    if spec.l2 != "auto":
        return fit(spec.l2, spec.gap, spec.prior_offset, None)
    path: list[Chosen] = []
    before = None
    for l2 in L2_PATH:
        chosen = fit(l2, max(spec.gap, PATH_GAP), spec.prior_offset, before)
        path.append(chosen)
        before = chosen.solution
        if l2 == NEARLY_WEAKEST and _best(path, held) is not chosen:
            break
    best = _best(path, held)
    return fit(L2_PATH[path.index(best)], spec.gap, best.prior_offset, best.solution)


def _solver(pool: BalancedSet, classes: int, max_memory: int, wish: RefitDevice) -> Callable[..., Solution]:
    """Return the solver for a pool: on features in memory if they fit, else on rows that are read on every pass."""
    device = devices.choose(wish, pool.size, classes)
    size = pool.size * FLOAT
    if size <= max_memory and devices.fits(device, size):
        features, labels, weights = devices.to(device, (pool.features, pool.labels, pool.weights))
        return partial(solve, features, labels, weights, classes)
    source = devices.moved(pool.source(), device)

    def streamed(l2: float, gap: float, **more: Any) -> Solution:
        return solve_stream(source, classes, l2, double=in_double(pool.size, gap), gap=gap, **more)

    return streamed


def _without_offset(live: LinearHead, classes: tuple[str, ...], log_prior: NDArray[np.float64], held: Holdout) -> Found:
    """Return W (C, D) and b (C,) of a head before its prior offset, with zeros for new classes.

    A head does not store its t. Undoing t is b + t log π; of all t, the one with the least class-balanced loss on the
    hold-out is undone, as that is the loss the solver minimises.
    """
    new = len(classes) - len(live.classes)
    weight = np.pad(live.weight, ((0, new), (0, 0)))  # (C, D)
    bias = np.pad(live.bias, (0, new))  # (C,)
    balance = 1 / np.bincount(held.labels, minlength=len(classes))[held.labels]  # 1 / n_y of each row (N,)
    logits = torch.from_numpy(held.features @ weight.T)  # (N, C)
    labels = torch.from_numpy(held.labels)  # (N,)

    def loss(bias: NDArray[np.float32]) -> float:
        losses = cross_entropy(logits + torch.from_numpy(bias), labels, reduction="none")  # (N,)
        return float(balance @ losses.numpy())

    biases = [(bias + t * log_prior).astype(np.float32) for t in OFFSETS]
    return torch.from_numpy(weight), torch.from_numpy(min(biases, key=loss))


def with_offset(head: LinearHead, log_prior: NDArray[np.float64], held: Holdout, offset: Choice) -> Chosen:
    """Add the prior offset −t·log π (C,) to a head's bias; t is a given number, or the best on the hold-out."""
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
    """Return the candidate with the best balanced accuracy, and of equal ones the likeliest.

    If any candidate keeps every group above its floor, only such candidates count.

    Args:
        candidates: at least one.
        held: what to choose on.
        logits: returns a candidate's logits (N, C); None means its head applied to the features.
    """
    logits = logits or (lambda chosen: chosen.head.logits(held.features))
    ranks = [_rank(logits(chosen), held) for chosen in candidates]
    top = max(ranks)
    equals = [chosen for chosen, rank in zip(candidates, ranks, strict=True) if rank == top]
    if len(equals) == 1:
        return equals[0]
    return min(equals, key=lambda chosen: evaluate(logits(chosen), held.labels, held.groups).nll)


def _rank(logits: Floats, held: Holdout) -> tuple[bool, float]:
    """Return whether every group keeps its floor, and balanced accuracy, from logits (N, C).

    `evaluate` returns the same numbers, but also computes the likelihood, which takes longer than all else.
    """
    classes = len(held.groups)
    rows = np.bincount(held.labels, minlength=classes)  # (C,)
    hits = np.bincount(held.labels, weights=logits.argmax(1) == held.labels, minlength=classes)  # (C,)
    recall, seen = hits / np.maximum(rows, 1), rows > 0  # (C,), (C,)

    def group_recall(group: Group) -> float:
        own = recall[seen & (np.array(held.groups) == group)]
        return float(own.mean()) if len(own) else 0.0

    keeps = all(group_recall(group) >= floor for group, floor in held.floor.items())
    return keeps, float(recall[seen].mean())
