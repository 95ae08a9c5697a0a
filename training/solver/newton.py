"""Newton's descent on the softmax loss with a quadratic penalty: exact F and gradient, curvature from a sample.

It knows nothing of when to stop: `done` is asked after every pass over the rows.

Letters: N rows, D feature dimensions, C classes.
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

SHORTEST = 1e-4  # share of a step, below which it is given up
FORCING = 0.05  # how exactly a step's linear system is solved
ROUGH = 0.05  # share of F that the gap is below once passes are in full precision
FULFILLED = 0.6  # share of the foreseen gain, below which the sample is taken to be too small
STUCK = 0.02  # share of F, below which a gain says that bf16 has done what it can
DECREASE = 1e-4  # share of the slope that a step must gain (Armijo)
PATIENCE = 3  # steps that gain nothing, after which the precision of the numbers is reached
NOISE = {torch.float64: 1e-15, torch.float32: 1e-7, torch.bfloat16: 2e-3}  # relative error of F by type of products


@dataclass(frozen=True, eq=False)
class Problem:
    """F over all rows of a source.

    Attributes:
        source: the rows.
        known: their sums by class.
        l2: λ.
        kind: float64 or float32, what everything but early products is reckoned in.
    """

    source: Source
    known: Profile
    l2: float
    kind: torch.dtype

    def look(self, weight: Tensor, bias: Tensor, products: torch.dtype) -> "View":
        """Make one pass at W (C, D), b (C,), features centred."""
        found = sums(self.source, weight, bias, self.known, products)
        value = found.loss + self.l2 / 2 * float(weight.square().sum(dtype=torch.float64))
        to_weight = found.residual + self.l2 * weight
        return View(weight, bias, value, to_weight, found.mass - self.known.prior, found, products)


@dataclass(frozen=True, eq=False)
class View:
    """A point W (C, D), b (C,), with F and its gradient there, the pass's sums, and the products' type."""

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
"""Asked at every point that is kept; the bound is that of the passes in full precision."""

Sharper = Callable[[Curvature], Curvature]
"""From the curvature of a sample to that of a larger one; to the same one where there are no more rows."""


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
) -> tuple[View, LowerBound, int]:
    """Take steps from a point until `done`, until nothing more is gained, or after `passes` passes.

    Passes are in the type of `here` while F is far from its optimum and falls, then in the problem's.

    Args:
        problem: what to minimise.
        curvature: of a sample of its rows.
        here: where to start.
        done: when to stop.
        sharper: gives the curvature of more rows, once a step had far less than was foreseen.
        passes: at most as many.
        gap: relative gap that is asked for: where it is b that stands in its way, b takes a step of its own.
        enough: stop when a step is foreseen to gain less than this share of F.

    Returns:
        Where it stopped, the bound on the optimum, the passes made.
    """
    bound = LowerBound(problem.known.prior, problem.known.moments, problem.l2)
    made, idle, settled, stuck = 0, 0, False, False
    while True:
        exact = here.products == problem.kind
        if exact:
            bound.show(here.sums)
        if done(here, bound) or made >= passes or idle >= PATIENCE:
            break
        curvature.move(here.weight, here.bias)
        convex = here.convex_gap(problem.l2)
        settled = exact and not settled and here.value - bound.value > gap * here.value > 2 * convex
        step = curvature.settle(here.to_bias) if settled else curvature.step(here.to_weight, here.to_bias, FORCING)
        if step.gain <= enough * here.value:
            break
        exact = exact or convex < ROUGH * here.value or stuck
        products = problem.kind if exact else here.products
        there, tried = _take(problem, here, step, products, passes - made)
        made += tried
        gained = 0.0 if there is None else here.value - there.value
        share = gained / step.gain if tried == 1 else 0.0
        if not settled:
            curvature = sharper(curvature) if share < FULFILLED else curvature
            curvature.learn(share)
        idle = idle + 1 if gained <= NOISE[problem.kind] * here.value else 0
        stuck = gained < STUCK * here.value
        here = there or here
    return here, bound, made


def _take(problem: Problem, here: View, step: Step, products: torch.dtype, passes: int) -> tuple[View | None, int]:
    """Go along a step, by less where F would not fall as it should; none if it does not fall at all."""
    slope = float((here.to_weight * step.weight).sum(dtype=torch.float64) + here.to_bias @ step.bias)
    noise = max(NOISE[products], NOISE[here.products]) * abs(here.value)
    length, tried = 1.0, 0
    while tried < passes and length > SHORTEST:
        there = problem.look(here.weight + length * step.weight, here.bias + length * step.bias, products)
        tried += 1
        rise = there.value - here.value
        if rise <= DECREASE * length * slope + noise:
            return there, tried
        # the least of the parabola through both values and the slope
        best = -slope * length / (2 * (rise - slope * length)) if math.isfinite(rise) else 0.0
        length *= min(0.5, max(0.1, best))
    return None, tried


def _square(a: Tensor) -> float:
    return float(a.square().sum(dtype=torch.float64))
