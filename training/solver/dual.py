"""A lower bound on the optimum from any point, by Fenchel duality: it needs no more than one pass's sums.

For class probabilities q_i of every row that meet Σ_i ω_i q_i = π, the prior (the bias, which is not penalised, asks
for it), every W and b have

    F(W, b) ≥ Σ_i ω_i H(q_i) − ‖U‖² / (2 λ),     U = Σ_i ω_i (e_{y_i} − q_i) z_iᵀ,  H the entropy.

With q_i = softmax(W z_i + b), and b at its minimum, F less this bound is ‖∂F/∂W‖² / (2 λ): the bound of strong
convexity. Where b is not at its minimum, q misses π by ∂F/∂b, and a little mass is moved so that it meets it: class c
gives the share f_c of its probability in every row, and what a row gives goes to the classes that lack mass, in fixed
proportions v. What the entropy may lose by that is bounded from the sums as well (`_entropy_lost`).

The bound is concave in q, so two points found on the way give a better one between them.

Letters: C classes, D feature dimensions.
"""

import math

import torch
from torch import Tensor

from breadcrumbs.training.solver.objective import Sums


class LowerBound:
    """The best bound so far on the least F, from every pass that was shown to it."""

    def __init__(self, prior: Tensor, moments: Tensor, l2: float) -> None:
        self._prior, self._moments, self._l2 = prior, moments, l2
        self._entropy = 0.0  # q_i = e_{y_i}: entropy 0 and U = 0, so F ≥ 0
        self._residual = torch.zeros_like(moments)

    @property
    def value(self) -> float:
        """No F is below this."""
        return self._entropy - _square(self._residual) / (2 * self._l2)

    def show(self, sums: Sums) -> None:
        """Add the probabilities of one pass."""
        surplus = (sums.mass - self._prior).clamp(min=0)
        lack = (self._prior - sums.mass).clamp(min=0)
        moved = float(surplus.sum())
        given = surplus / sums.mass.clamp(min=torch.finfo(surplus.dtype).tiny)
        taken = lack / max(float(lack.sum()), torch.finfo(surplus.dtype).tiny)
        moments = sums.moments - given.unsqueeze(1) * sums.moments + taken.unsqueeze(1) * (given @ sums.moments)
        entropy = float(sums.entropy.sum(dtype=torch.float64))
        if moved > 0:
            entropy -= _entropy_lost(sums, given, lack, self._prior, moved)
        self._join(entropy, self._moments - moments)

    def _join(self, entropy: float, residual: Tensor) -> None:
        """Go to the best point between the present one and another: a parabola's maximum on [0, 1]."""
        change = residual - self._residual
        curve = _square(change) / self._l2
        slope = entropy - self._entropy - _inner(self._residual, change) / self._l2
        share = min(1.0, max(0.0, slope / curve)) if curve > 0 else float(slope > 0)
        self._residual = self._residual + share * change
        self._entropy += share * (entropy - self._entropy)


def _entropy_lost(sums: Sums, given: Tensor, lack: Tensor, prior: Tensor, moved: float) -> float:
    """Bound what Σ ω_i H(q_i) falls by when mass moves: f = `given` (C,), X = `lack` (C,), both of weight `moved`.

    A class that gives: −(1−f) q log((1−f) q) = (1−f)(−q log q) − q (1−f) log(1−f), exactly. One that takes x_i: by
    concavity at least −q log q − x_i (1 + log(q + x_i)), and by Jensen Σ ω_i x_i log(q_i + x_i) ≤
    X log(Σ ω_i x_i (q_i + x_i) / X) ≤ X log(f_max π / moved), since x_i ≤ f_max X / moved.
    """
    kept = (1 - given).clamp(min=0)
    lost = given * sums.entropy + torch.special.xlogy(kept, kept) * sums.mass
    densest = float(given.max()) * prior / moved
    lost += torch.where(lack > 0, lack * (1 + densest.clamp(min=math.exp(-60)).log()), 0)
    return float(lost.sum(dtype=torch.float64))


def _square(a: Tensor) -> float:
    return float(a.square().sum(dtype=torch.float64))


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum(dtype=torch.float64))
