"""The temperature T of a head, fitted to logits of rows that the head was not fitted to.

A head whose logits are z = Wx + b − t·log π says, all classes being equally frequent, that they are as probable as
softmax(z). It is often too sure of itself, or not sure enough, all over. One number repairs that: probabilities are

    p = softmax(z / T + log π)

for any prior π. With β = 1 / T, the loss of a row, ℓ(β) = −log p_y, is convex, since it is a log-sum-exp of lines in β
less a line:

    ℓ'(β) = E_p[z] − z_y                ℓ''(β) = Var_p(z)

What is fitted is the β of least

    F(β) = n Σ_i ω_i ℓ_i(β) + (β − 1)² / 2σ²

with π the classes' share of the images, and weights ω of sum 1 that make the rows' classes as frequent as π says. T is
no matter of the prior, so it is measured where most rows weigh most: with equal classes, a few rows of the smallest
ones would decide it (`docs/log.md`, 2026-11-28). n = 1 / Σ ω_i² equally weighted rows vary as these do. The second term
says what is known without rows: β is 1, ± σ. So few rows leave T near 1, rows that are all right do not send it to 0,
and no row leaves it at 1. The interval is β ± 1.96 / √F''.

T > 0 changes no order, so no answer and no accuracy; and z / T is again a linear head, of W / T and b / T. It knows
nothing of folds or of how a head is fitted.

Source: Guo et al., On calibration of modern neural networks, ICML 2017, for the one number.

Letters: N rows, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.solver.rows import cap_for

SPREAD = 0.5  # σ: how far 1 / T is from 1, before a row is seen
WEAKEST, STRONGEST = 0.05, 20.0  # of β: where the search ends
PASSES, CLOSE = 60, 1e-4  # of the search at most, and the step that ends it
ENOUGH = 5_000_000  # logits that T is fitted to: of more, equally many rows of each class at most
AT_ONCE = 1_000_000  # logits in memory in double precision
Z = 1.959964  # a normal distribution has 95 % within ± Z


@dataclass(frozen=True)
class Temperature:
    """T, and how well it is known.

    Attributes:
        value: T; 1 leaves the head as it is.
        low, high: the ends of its 95 % interval.
        rows: that it was fitted to.
        effective_rows: equally weighted rows that vary as these do.
    """

    value: float = 1.0
    low: float = 1.0
    high: float = 1.0
    rows: int = 0
    effective_rows: float = 0.0


UNKNOWN = Temperature()
"""Of a head that has no row to fit it to."""


def fit_temperature(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Temperature:
    """Fit T to rows that the head was not fitted to.

    Args:
        logits: z (N, C), for which all classes are equally frequent.
        labels: int64 (N,).
        log_prior: log π (C,), of the classes' share of the images.
    """
    if not len(labels):
        return UNKNOWN
    logits, labels = _enough(logits, labels)
    weights = class_weights(labels, log_prior)
    rows = 1 / float(weights.square().sum())  # n
    low, high, beta = WEAKEST, STRONGEST, 1.0
    for _ in range(PASSES):
        slope, bend = _derivatives(beta, logits, labels, weights, log_prior)
        slope = rows * slope + (beta - 1) / SPREAD**2
        bend = rows * bend + 1 / SPREAD**2
        low, high = (beta, high) if slope < 0 else (low, beta)  # F is convex: its least is where the slope is 0
        newton = beta - slope / bend
        following = newton if low < newton < high else (low + high) / 2
        done = abs(following - beta) < CLOSE * beta
        beta = following
        if done:
            break
    width = Z / math.sqrt(bend)
    ends = (1 / min(beta + width, STRONGEST), 1 / max(beta - width, WEAKEST))
    return Temperature(1 / beta, *ends, len(labels), rows)


def class_weights(labels: Tensor, log_prior: Tensor) -> Tensor:
    """Return ω float64 (N,) of sum 1, by which the classes of the rows are as frequent as the prior says.

    Args:
        labels: int64 (N,), N at least 1.
        log_prior: log π (C,). A class without rows has no weight.
    """
    counts = torch.bincount(labels, minlength=len(log_prior)).double()
    weights = (log_prior.double().exp() / counts)[labels]
    return weights / weights.sum()


def with_temperature(logits: Tensor, temperature: float, log_prior: Tensor | None = None) -> Tensor:
    """Return z / T + log π from logits z (N, C) and log π (C,), of which None adds nothing."""
    scaled = logits / temperature
    return scaled if log_prior is None else scaled + log_prior


def calibrated(head: LinearHead, temperature: float, log_prior: Tensor | None = None) -> LinearHead:
    """Return the linear head of logits z / T + log π, which knows log π (C,) as its own prior.

    Args:
        head: of the logits z.
        temperature: T.
        log_prior: log π (C,); None: all classes are equally frequent, and nothing is added.
    """
    weight = (head.weight / temperature).astype(np.float32)
    bias = head.bias / temperature
    own = None if log_prior is None else log_prior.numpy().astype(np.float32)
    return LinearHead(weight, (bias if own is None else bias + own).astype(np.float32), head.classes, own)


def _enough(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As many rows as are enough, of each class the first."""
    most = max(1, ENOUGH // logits.shape[1])
    if len(labels) <= most:
        return logits, labels
    kept = rank_in_class(labels, torch.arange(len(labels))) < cap_for(torch.bincount(labels), most)
    return logits[kept], labels[kept]


def _derivatives(
    beta: float, logits: Tensor, labels: Tensor, weights: Tensor, log_prior: Tensor
) -> tuple[float, float]:
    """Return Σ ω ℓ'(β) and Σ ω ℓ''(β)."""
    slope, bend = 0.0, 0.0
    step = max(1, AT_ONCE // logits.shape[1])
    for z, y, own in zip(*(torch.split(rows, step) for rows in (logits, labels, weights)), strict=True):
        apart = z.double() - z.double().gather(1, y[:, None])  # z − z_y (n, C)
        p = torch.softmax(beta * apart + log_prior.double(), 1)
        mean = (p * apart).sum(1)  # E_p[z] − z_y (n,)
        variance = (p * (apart - mean[:, None]).square()).sum(1)
        slope += float((own * mean).sum())
        bend += float((own * variance).sum())
    return slope, bend
