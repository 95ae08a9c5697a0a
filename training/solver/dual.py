"""A lower bound on the optimum from any point, by Fenchel duality: it needs only the sums of one pass.

Let every row have class probabilities q_i with Σ_i ω_i q_i = π, the prior. (The bias is not penalised, so the dual has
this constraint.) Then for every W and b

    F(W, b) ≥ Σ_i ω_i H(q_i) − ⟨W₀, U⟩ − ‖U‖² / (2 λ),     U = Σ_i ω_i (e_{y_i} − q_i) z_iᵀ,  H the entropy.

For log Σ_c exp(u_c) ≥ q · u + H(q) in every row, so that F(W, b) ≥ Σ_i ω_i H(q_i) − ⟨W, U⟩ + (λ/2) ‖W − W₀‖², in which
the bias cancels; this is least at W = W₀ + U / λ.

With q_i = softmax(W z_i + b) and b at its minimum, F less this bound is ‖∂F/∂W‖² / (2 λ): the bound of strong
convexity. Where b is not at its minimum, Σ_i ω_i q_i misses π by ∂F/∂b, and a little mass is moved to meet it: class c
gives the share f_c of its probability in every row, and what a row gives goes to the classes that lack mass, in fixed
proportions v. How much entropy this may cost is bounded from the sums, too (`_entropy_lost`).

The bound is concave in q, so the best point between two known ones is at least as good as either.

It knows nothing of steps or of when to stop. See Boyd & Vandenberghe 2004, "Convex Optimization", ch. 5, for duality.

Letters: C classes, D feature dimensions; ω_i, z_i, y_i the weight, features and label of row i.
"""

import math

import torch
from torch import Tensor

from breadcrumbs.training.solver.objective import Sums


class LowerBound:
    """The best lower bound on F so far, from the passes shown to it.

    Args:
        prior: π (C,).
        moments: Σ_{y_i = c} ω_i z_iᵀ (C, D), features centred.
        l2: λ.
        toward: W₀ (C, D).
    """

    def __init__(self, prior: Tensor, moments: Tensor, l2: float, toward: Tensor) -> None:
        self._prior, self._moments, self._l2, self._toward = prior, moments, l2, toward
        # q_i = e_{y_i} has entropy 0 and U = 0: the bound F ≥ 0
        self._entropy = 0.0  # Σ ω_i H(q_i)
        self._residual = torch.zeros_like(moments)  # U (C, D)

    @property
    def value(self) -> float:
        """Σ ω_i H(q_i) − ⟨W₀, U⟩ − ‖U‖² / (2 λ): no F is below it."""
        return self._entropy - _inner(self._toward, self._residual) - _square(self._residual) / (2 * self._l2)

    def show(self, sums: Sums) -> None:
        """Add the probabilities of one pass."""
        tiny = torch.finfo(sums.mass.dtype).tiny
        surplus = (sums.mass - self._prior).clamp(min=0)  # (C,)
        lack = (self._prior - sums.mass).clamp(min=0)  # (C,)
        moved = float(surplus.sum())
        given = surplus / sums.mass.clamp(min=tiny)  # f (C,)
        taken = lack / max(float(lack.sum()), tiny)  # v (C,)
        # q_i becomes (1 − f) q_i + v (f · q_i), and so do the moments Σ ω_i q_i z_iᵀ (C, D)
        moments = sums.moments - given.unsqueeze(1) * sums.moments + taken.unsqueeze(1) * (given @ sums.moments)
        entropy = float(sums.entropy.sum(dtype=torch.float64))
        if moved > 0:
            entropy -= _entropy_lost(sums, given, lack, self._prior, moved)
        self._join(entropy, self._moments - moments)

    def _join(self, entropy: float, residual: Tensor) -> None:
        """Go to the best point between the present one and another, of entropy Σ ω_i H(q_i) and residual U (C, D).

        Entropy is concave: at the share t of the way it is at least linear in t. So the bound is at least a parabola
        in t, value + slope · t − curve · t² / 2, whose maximum on [0, 1] is at slope / curve.
        """
        change = residual - self._residual  # ΔU (C, D)
        curve = _square(change) / self._l2
        slope = entropy - self._entropy - _inner(self._toward + self._residual / self._l2, change)
        share = min(1.0, max(0.0, slope / curve)) if curve > 0 else float(slope > 0)
        self._residual = self._residual + share * change
        self._entropy += share * (entropy - self._entropy)


def _entropy_lost(sums: Sums, given: Tensor, lack: Tensor, prior: Tensor, moved: float) -> float:
    """Bound how far Σ ω_i H(q_i) falls when mass moves: f = `given` (C,), X = `lack` (C,), of total mass `moved`.

    A class that gives: −(1−f) q log((1−f) q) = (1−f)(−q log q) − q (1−f) log(1−f), exactly. A class that takes x_i: by
    concavity at least −q log q − x_i (1 + log(q + x_i)), and by Jensen Σ ω_i x_i log(q_i + x_i) ≤
    X log(Σ ω_i x_i (q_i + x_i) / X) ≤ X log(f_max π / moved), since x_i ≤ f_max X / moved.
    """
    kept = (1 - given).clamp(min=0)  # 1 − f (C,)
    lost = given * sums.entropy + torch.special.xlogy(kept, kept) * sums.mass  # classes that give (C,)
    densest = float(given.max()) * prior / moved  # f_max π / moved (C,)
    log_densest = densest.clamp(min=math.exp(-60)).log()  # finite; the clamp only loosens the bound
    lost += torch.where(lack > 0, lack * (1 + log_densest), 0)  # classes that take (C,)
    return float(lost.sum(dtype=torch.float64))


def _square(a: Tensor) -> float:
    return float(a.square().sum(dtype=torch.float64))


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum(dtype=torch.float64))
