"""The second-order model of the softmax loss around a point, from a sample of the rows, and the step it asks for.

The Hessian's products need two matrix products of the sample and may be in bf16, since a step need not be exact:
what the step is worth is measured on all rows, by whoever takes it.

Two things differ from Newton's method.

*Secant curvature.* For a row whose own class has probability p < ½ the tangent curvature p (1 − p) along "own class
against the rest" says almost nothing of what is ahead: with p = 0.001 the model asks for a step of 1 / p logits where
about 14 do. There the curvature is that of the tight quadratic bound of log(1 + e^−m), m = log(p / (1 − p)):
(½ − p) / |m| (Jaakkola & Jordan 2000, "Bayesian parameter estimation via variational methods", eq. 5 ff.; their
2 λ(m)). `caution` in [0, 1] scales what this adds.

*Preconditioner.* The block of class c is Σ_i a_i [z_i; 1][z_i; 1]ᵀ with a_i = ω_i p_ic (1 − p_ic): its weight h_c and
its centre m_c differ by class, its covariance about m_c is about the within-class covariance S of the sample. With
S = V diag(s) Vᵀ the block (h_c S + λ I, h_c), centred at m_c, is inverted by two products with V: conjugate gradients
then need 5 to 10 products with the Hessian.

Letters: M rows of the sample, D feature dimensions, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.solver.rows import Chunk, rows_at_once

Pair = tuple[Tensor, Tensor]
"""What belongs to W (C, D) and to b (C,)."""

BOLD, TIMID = 0.75, 1.1  # actual by foreseen gain: outside, the secant's part changes


@dataclass(frozen=True, eq=False)
class Step:
    """ΔW (C, D), Δb (C,), and what the model says F will fall by."""

    weight: Tensor
    bias: Tensor
    gain: float


class Curvature:
    """A sample of centred rows and, once `move` was called, the model around a point.

    Args:
        rows: features (M, D) in the type of the products, labels (M,), weights (M,).
        classes: C.
        l2: λ.
    """

    def __init__(self, rows: Chunk, classes: int, l2: float) -> None:
        self.features, self.labels, self.weights = rows
        self.l2 = l2
        self.caution = 1.0
        kind, place = self.weights.dtype, self.features.device
        rows_count = len(self.labels)
        self._size = rows_at_once(self.features, classes)
        self._others = torch.empty(rows_count, classes, dtype=self.features.dtype, device=place)  # ω_i p_i, 0 at y_i
        self._own = torch.empty(rows_count, 1, dtype=kind, device=place)  # p_iy
        self._secant = torch.empty(rows_count, 1, dtype=kind, device=place)  # what is added along own against rest
        self._basis, self._spread = self._within(classes)
        self._height = torch.ones(classes, dtype=kind, device=place)  # h_c
        self._middle = torch.zeros(classes, self.features.shape[1], dtype=kind, device=place)  # m_c

    def _slices(self) -> list[slice]:
        return [slice(first, first + self._size) for first in range(0, len(self.labels), self._size)]

    def _within(self, classes: int) -> Pair:
        """Eigenvectors V (D, D) and eigenvalues s (D,) of the within-class covariance."""
        kind, dim = self.weights.dtype, self.features.shape[1]
        sums = torch.zeros(classes, dim, dtype=kind, device=self.features.device)
        second = torch.zeros(dim, dim, dtype=kind, device=self.features.device)
        total = torch.zeros(classes, dtype=kind, device=self.features.device)
        for rows in self._slices():
            z, omega = self.features[rows].to(kind), self.weights[rows]
            sums.index_add_(0, self.labels[rows], z * omega.unsqueeze(1))
            total.index_add_(0, self.labels[rows], omega)
            second += z.T @ (z * omega.unsqueeze(1))
        second -= sums.T @ (sums / total.clamp(min=torch.finfo(kind).tiny).unsqueeze(1))
        spread, basis = torch.linalg.eigh(second / total.sum())
        return basis, spread.clamp(min=0)

    def move(self, weight: Tensor, bias: Tensor) -> None:
        """Build the model around W (C, D), b (C,)."""
        kind = self.weights.dtype
        w = weight.T.to(self.features.dtype)
        self._height.zero_()
        self._middle.zero_()
        for rows in self._slices():
            z, omega, labels = self.features[rows], self.weights[rows].unsqueeze(1), self.labels[rows].unsqueeze(1)
            log_p = torch.log_softmax((z @ w).to(kind).add_(bias), 1)
            own_log = log_p.gather(1, labels)
            p = log_p.exp_()
            self._own[rows] = own_log.exp()
            self._secant[rows] = _secant(own_log) * self.caution
            self._others[rows] = (p * omega).scatter_(1, labels, 0)
            active = p.mul_(1 - p).scatter_add_(1, labels, self._secant[rows]).mul_(omega)
            self._height += active.sum(0)
            self._middle += (active.to(z.dtype).T @ z).to(kind)
        self._height.clamp_(min=torch.finfo(kind).tiny)
        self._middle /= self._height.unsqueeze(1)

    def product(self, weight: Tensor | None, bias: Tensor) -> Pair:
        """Multiply the Hessian with (ΔW (C, D), Δb (C,)); without ΔW, only the part of b, which costs far less."""
        kind, low = self.weights.dtype, self.features.dtype
        w, b = None if weight is None else weight.T.to(low), bias.to(low)
        to_weight = torch.zeros_like(self._middle)
        to_bias = torch.zeros_like(bias)
        for rows in self._slices():
            labels, p, omega = self.labels[rows].unsqueeze(1), self._others[rows], self.weights[rows].unsqueeze(1)
            z, own = self.features[rows], self._own[rows]
            u = b.expand(len(labels), -1).contiguous() if w is None else torch.addmm(b, z, w)
            own_u = u.gather(1, labels).to(kind)
            others = u.mul_(p).sum(1, keepdim=True, dtype=kind) / omega  # Σ p_c u_c over the others
            # own class against the rest: v = e_y − p_rest / (1 − p_y), and v · u
            rest = (1 - own).clamp(min=torch.finfo(kind).eps)
            extra = self._secant[rows] / rest * (own_u - others / rest)
            u.addcmul_(p, (own * own_u + others + extra).to(low), value=-1)
            # apart from the others: where p_y is nearly 1, p_y (u_y − p · u) is what would be lost in bf16
            own_u.mul_(rest).sub_(others).mul_(own).add_(rest * extra)
            u.scatter_(1, labels, (own_u * omega).to(low))
            to_bias += u.sum(0, dtype=kind)
            if w is not None:
                to_weight += (u.T @ z).to(kind)
        return (to_weight if weight is None else to_weight.add_(weight, alpha=self.l2)), to_bias

    def precondition(self, weight: Tensor, bias: Tensor) -> Pair:
        """Divide by about the Hessian; b is only known up to a constant, so its sum is left out."""
        bias = bias - bias.mean()
        about = weight - bias.unsqueeze(1) * self._middle
        scale = self._height.unsqueeze(1) * self._spread + self.l2
        to_weight = ((about @ self._basis) / scale) @ self._basis.T
        to_bias = bias / self._height - (to_weight * self._middle).sum(1)
        return to_weight, to_bias - to_bias.mean()

    def step(self, weight: Tensor, bias: Tensor, tolerance: float, limit: int = 100) -> Step:
        """Minimise the model by preconditioned conjugate gradients from a gradient in W (C, D) and b (C,).

        It stops once an iteration gains less than `tolerance` of the mean gain so far.
        """
        x = (torch.zeros_like(weight), torch.zeros_like(bias))
        r = (-weight, -bias)
        z = self.precondition(*r)
        p, rz, gain = z, _dot(r, z), 0.0
        for iteration in range(1, limit + 1):
            hp = self.product(*p)
            curvature = _dot(p, hp)
            if not (curvature > 0 and rz > 0):  # the products' precision is reached
                break
            alpha = rz / curvature
            x = (x[0] + alpha * p[0], x[1] + alpha * p[1])
            r = (r[0] - alpha * hp[0], r[1] - alpha * hp[1])
            gain += alpha * rz / 2
            if iteration * alpha * rz / 2 < tolerance * gain:
                break
            z = self.precondition(*r)
            rz, before = _dot(r, z), rz
            p = (z[0] + rz / before * p[0], z[1] + rz / before * p[1])
        return Step(*x, gain)

    def settle(self, bias: Tensor, tolerance: float = 1e-3, limit: int = 50) -> Step:
        """Minimise the model over b alone, from the gradient in b (C,)."""
        x, r = torch.zeros_like(bias), bias.mean() - bias
        z = r / self._height
        p, rz, gain = z - z.mean(), float(r @ z), 0.0
        first = rz
        for _ in range(limit):
            hp = self.product(None, p)[1]
            hp = hp - hp.mean()
            curvature = float(p @ hp)
            if not (curvature > 0 and rz > tolerance * tolerance * first):
                break
            gain += rz * rz / curvature / 2
            x, r = x + rz / curvature * p, r - rz / curvature * hp
            z = r / self._height
            rz, before = float(r @ z), rz
            p = z - z.mean() + rz / before * p
        return Step(torch.zeros_like(self._middle), x, gain)

    def learn(self, share: float) -> None:
        """Hear what share of the foreseen gain a step has had: above 1 the model is too careful, below it is not."""
        if share > TIMID:
            self.caution /= 4
        elif share < BOLD:
            self.caution = min(1.0, 4 * max(self.caution, 0.01))


def _secant(own_log: Tensor) -> Tensor:
    """What the bound's curvature is above the tangent's, from log p_y (M, 1); zero from p_y = ½ on."""
    own = own_log.exp()
    odds = own_log - torch.log1p(-own.clamp(max=0.5))
    found: Tensor = torch.where(own < 0.5, (0.5 - own) / odds.abs().clamp(min=1e-6) - own * (1 - own), 0.0)
    return found.clamp(min=0)


def _dot(one: Pair, two: Pair) -> float:
    return float((one[0] * two[0]).sum(dtype=torch.float64) + (one[1] * two[1]).sum(dtype=torch.float64))
