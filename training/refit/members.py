"""The members of a head: linear heads that are fitted to the same rows in different ways, and averaged.

    plain       softmax regression in which every image weighs the same
    balanced    softmax regression in which every class weighs the same

An average of linear heads is one linear head. `training/solver/solver.py` fits both. It knows nothing of
hold-outs, or of how a penalty is chosen.

Letters: M rows, D feature dimensions, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.config import Member, RefitDevice
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit.pool import Pool
from breadcrumbs.training.solver.curvature import Spread
from breadcrumbs.training.solver.solver import Found, Progress, Solution, in_double, solve, solve_stream

FLOAT = 4  # bytes


@dataclass(frozen=True, eq=False)
class Fitted:
    """W (C, D) and b (C,), f32 and before any prior offset, and the solver's solution."""

    weight: Tensor
    bias: Tensor
    solution: Solution


class Fitter:
    """Fits members to a pool, whose features it reads once if they fit into memory."""

    def __init__(self, pool: Pool, classes: int, max_memory: int, device: RefitDevice = "cpu") -> None:
        self._pool, self._classes = pool, classes
        self._device = devices.choose(device, pool.size, classes)
        size = pool.size * FLOAT
        in_memory = size <= max_memory and devices.fits(self._device, size)
        self._features = pool.features.to(self._device) if in_memory else None
        self._scale = self._variance()
        self._spreads: dict[Member, Spread | None] = {}  # of the weighted rows, from a member's first solve on

    def fit(
        self,
        member: Member,
        penalty: float,
        gap: float,
        starts: Sequence[Found] = (),
        progress: Progress | None = None,
        rough: bool = False,
    ) -> Fitted:
        """Fit one member.

        Args:
            member: which.
            penalty: λ in units of the features' variance, so that it means the same for features of any size.
            gap: of the solver.
            starts: where the solver may begin.
            progress: hears the solver.
            rough: whether it need only be good enough to choose by.
        """
        weights = self._pool.plain() if member == "plain" else self._pool.balanced(self._classes)
        l2 = penalty * self._scale
        if self._features is not None:
            rows = (self._features, self._pool.labels.to(self._device), weights.to(self._device))
            found = solve(
                *rows, self._classes, l2, gap=gap, starts=starts, progress=progress, rough=rough,
                toward=self._pool.toward, spread=self._spreads.get(member),
            )  # fmt: skip
        else:
            source = devices.moved(self._pool.source(weights), self._device)
            double = in_double(self._pool.size, gap)
            found = solve_stream(
                source, self._classes, l2, double=double, gap=gap, starts=starts, progress=progress,
                rough=rough, toward=self._pool.toward, spread=self._spreads.get(member),
            )  # fmt: skip
        self._spreads[member] = found.spread
        return Fitted(found.weight.float().cpu(), found.bias.float().cpu(), found)

    def _variance(self) -> float:
        """Σ_i ‖z_i − z̄‖² / (M D), the mean variance of a dimension."""
        total, squares = torch.zeros(self._pool.feature_dim, dtype=torch.float64), 0.0
        rows = (
            [self._features]
            if self._features is not None
            else (z for z, _, _ in self._pool.source(self._pool.shares)())
        )
        for z in rows:
            total += z.sum(0, dtype=torch.float64).cpu()
            squares += float(z.square().sum(dtype=torch.float64))
        count = len(self._pool)
        return max((squares - float(total.square().sum()) / count) / (count * self._pool.feature_dim), 1e-30)
