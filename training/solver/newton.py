"""Newton's method on the softmax loss with a quadratic penalty: exact F and gradient, curvature from a sample.

    F(W, b) = Σ_i ω_i · −log softmax(W z_i + b)_{y_i}  +  (λ/2) ‖W − W₀‖²

The Hessian is subsampled and each step inexact (Newton–CG: Byrd, Chin, Neveitt & Nocedal 2011, "On the use of
stochastic Hessian information in optimization methods for machine learning"). The line search is on F itself.

It knows nothing of when to stop: `done` is called at every point that is kept.

Letters: N rows, D feature dimensions, C classes; ω_i, z_i, y_i the weight, features and label of row i; π the prior.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.solver.curvature import Curvature, Step
from breadcrumbs.training.solver.dual import LowerBound
from breadcrumbs.training.solver.objective import Sums, sums
from breadcrumbs.training.solver.rows import Profile, Source

SHORTEST = 1e-4  # share of a step below which it is given up
FORCING = 0.05  # tolerance of conjugate gradients in a step
ROUGH = 0.05  # gap as a share of F; below it, passes are in full precision
FULFILLED = 0.6  # actual gain over predicted gain; below it, the sample is too small
STUCK = 0.02  # gain as a share of F; below it, bf16 is no longer precise enough
DECREASE = 1e-4  # share of the slope that a step must gain (Armijo's c₁)
PATIENCE = 3  # steps without a gain, after which the precision of the numbers is reached
NOISE = {torch.float64: 1e-15, torch.float32: 1e-7, torch.bfloat16: 2e-3}  # relative error of F by type of products


@dataclass(frozen=True, eq=False)
class Problem:
    """F over all rows of a source.

    Attributes:
        source: the rows.
        known: their sums by class.
        l2: λ.
        kind: float64 or float32, the type of everything but early products.
        toward: W₀ (C, D).
    """

    source: Source
    known: Profile
    l2: float
    kind: torch.dtype
    toward: Tensor

    def look(self, weight: Tensor, bias: Tensor, products: torch.dtype) -> "View":
        """Make one pass over all rows at W (C, D), b (C,), features centred."""
        found = sums(self.source, weight, bias, self.known, products)
        apart = weight - self.toward  # W − W₀ (C, D)
        value = found.loss + self.l2 / 2 * _square(apart)
        to_weight = found.residual + self.l2 * apart  # ∂F/∂W = Σ ω_i (q_i − e_{y_i}) z_iᵀ + λ (W − W₀) (C, D)
        to_bias = found.mass - self.known.prior  # ∂F/∂b = Σ ω_i q_i − π (C,)
        return View(weight, bias, value, to_weight, to_bias, found, products)


@dataclass(frozen=True, eq=False)
class View:
    """A point W (C, D), b (C,), with F and its gradient (C, D), (C,), the sums of the pass, and its products' type."""

    weight: Tensor
    bias: Tensor
    value: float
    to_weight: Tensor
    to_bias: Tensor
    sums: Sums
    products: torch.dtype

    @property
    def norm(self) -> float:
        """‖∇F‖."""
        return math.sqrt(_square(self.to_weight) + _square(self.to_bias))

    def convex_gap(self, l2: float) -> float:
        """‖∂F/∂W‖² / (2 λ): how far F can be above its optimum if b is at its own."""
        return _square(self.to_weight) / (2 * l2)


Done = Callable[[View, LowerBound], bool]
"""Called at every point that is kept; returns whether to stop. The bound is from the passes in full precision."""

Sharper = Callable[[Curvature], Curvature]
"""Takes the curvature of a sample and returns that of a larger one, or the same one if there are no more rows."""


def descend(
    problem: Problem,
    curvature: Curvature,
    here: View,
    done: Done,
    *,
    sharper: Sharper,
    passes: int,
    gap: float = 0.0,
    enough: float = 0.0,
    forcing: float = FORCING,
) -> tuple[View, LowerBound, int]:
    """Take steps from a point until `done`, until nothing more is gained, or after `passes` passes.

    The products of a pass are in the type of `here` while F is far from its optimum and falls, then in the problem's.

    Args:
        problem: what to minimise.
        curvature: of a sample of its rows.
        here: where to start.
        done: whether to stop.
        sharper: returns the curvature of more rows, after a step that gained far less than predicted.
        passes: the most passes to make.
        gap: the relative gap that is wanted; if only b keeps the bound from it, b takes a step of its own.
        enough: stop when a step gained, or is predicted to gain, less than this share of F.
        forcing: tolerance of conjugate gradients in a step.

    Returns:
        The last point, the bound on the optimum, and the number of passes.
    """
    bound = LowerBound(problem.known.prior, problem.known.moments, problem.l2, problem.toward)
    made, idle, settled, stuck, gained = 0, 0, False, False, math.inf
    while True:
        exact = here.products == problem.kind
        if exact:
            bound.show(here.sums)
        little = enough > 0 and gained <= enough * here.value
        if done(here, bound) or made >= passes or idle >= PATIENCE or little:
            break
        curvature.move(here.weight, here.bias)
        convex = here.convex_gap(problem.l2)
        # b alone, if the gap is too wide although W's part of it, ‖∂F/∂W‖² / (2 λ), is small; never twice in a row
        settled = exact and not settled and here.value - bound.value > gap * here.value > 2 * convex
        step = curvature.settle(here.to_bias) if settled else curvature.step(here.to_weight, here.to_bias, forcing)
        if step.gain <= enough * here.value:
            break
        exact = exact or convex < ROUGH * here.value or stuck
        products = problem.kind if exact else here.products
        there, tried = _take(problem, here, step, products, passes - made)
        made += tried
        gained = 0.0 if there is None else here.value - there.value
        share = gained / step.gain if tried == 1 else 0.0  # a shortened step kept little of its promise
        if not settled:
            if share < FULFILLED:
                curvature = sharper(curvature)
            curvature.learn(share)
        idle = idle + 1 if gained <= NOISE[problem.kind] * here.value else 0
        stuck = gained < STUCK * here.value
        here = there or here
    return here, bound, made


def _take(problem: Problem, here: View, step: Step, products: torch.dtype, passes: int) -> tuple[View | None, int]:
    """Search along a step, backtracking until F falls enough (Armijo: F(t) ≤ F(0) + c₁ t F′(0)).

    Returns:
        The new point, or None if F does not fall, and the passes made.
    """
    # F′(0) = ∂F/∂W · ΔW + ∂F/∂b · Δb
    slope = float((here.to_weight * step.weight).sum(dtype=torch.float64) + here.to_bias @ step.bias)
    noise = max(NOISE[products], NOISE[here.products]) * abs(here.value)
    length, tried = 1.0, 0
    while tried < passes and length > SHORTEST:
        there = problem.look(here.weight + length * step.weight, here.bias + length * step.bias, products)
        tried += 1
        rise = there.value - here.value
        if rise <= DECREASE * length * slope + noise:
            return there, tried
        # the parabola through F(0), F′(0) and F(t) is least at −F′(0) t² / (2 (F(t) − F(0) − F′(0) t))
        best = -slope * length / (2 * (rise - slope * length)) if math.isfinite(rise) else 0.0
        length *= min(0.5, max(0.1, best))
    return None, tried


def _square(a: Tensor) -> float:
    return float(a.square().sum(dtype=torch.float64))
