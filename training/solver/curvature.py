"""The second-order model of the softmax loss around a point, from a sample of the rows, and the step it suggests.

It knows nothing of all rows, of line searches or of when to stop. The Hessian is never formed: conjugate gradients need
only its products (Newton–CG; Nocedal & Wright 2006, "Numerical Optimization", ch. 7). A product takes two matrix
products of the sample. They may be in bf16, since a step need not be exact: `newton` measures it on all rows.

Two things differ from Newton's method.

*Secant curvature.* For a row whose own class has probability p < ½, the tangent curvature p (1 − p) along "own class
against the rest" says almost nothing of what is ahead: at p = 0.001 the model asks for a step of 1 / p logits where
about 14 are enough. There the curvature is that of the tight quadratic bound of log(1 + e^−m), m = log(p / (1 − p)):
(½ − p) / |m| (Jaakkola & Jordan 2000, "Bayesian parameter estimation via variational methods", eq. 5 ff.; their
2 λ(m)). `caution` in [0, 1] scales what this adds.

*Preconditioner.* The Hessian's block of class c is Σ_i a_ic [z_i; 1][z_i; 1]ᵀ with a_ic = ω_i p_ic (1 − p_ic). Its
weight h_c = Σ_i a_ic and its centre m_c differ by class; its covariance about m_c is close to the sample's within-class
covariance S. With S = V diag(s) Vᵀ, the block (h_c S + λ I, h_c), centred at m_c, is inverted by two products with V.
Conjugate gradients then need 5 to 10 products with the Hessian.

Letters: M rows of the sample, B rows of a chunk, D feature dimensions, C classes; z_i, y_i, ω_i the features, label and
weight of row i; p_i = softmax(W z_i + b).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.solver.rows import Chunk, rows_at_once

Pair = tuple[Tensor, Tensor]
"""The part of W (C, D) and the part of b (C,)."""

BOLD, TIMID = 0.75, 1.1  # actual gain over predicted gain; outside this range, `caution` changes


@dataclass(frozen=True, eq=False)
class Step:
    """ΔW (C, D), Δb (C,), and how much the model predicts that F falls."""

    weight: Tensor
    bias: Tensor
    gain: float


@dataclass(frozen=True, eq=False)
class Spread:
    """The within-class covariance S = V diag(s) Vᵀ of some rows: V (D, D) and s (D,).

    It only preconditions, so S of nearly the same rows, or of the same rows with other weights, does as well.
    """

    basis: Tensor
    values: Tensor


class Curvature:
    """A sample of centred rows and, after `move`, the model around a point.

    Args:
        rows: features (M, D) in the type of the products, labels (M,), weights (M,).
        classes: C.
        l2: λ.
        spread: of these rows or of others like them; None: it is computed, which costs as much as ten products.
    """

    def __init__(self, rows: Chunk, classes: int, l2: float, spread: Spread | None = None) -> None:
        self.features, self.labels, self.weights = rows
        self.l2 = l2
        self.caution = 1.0
        kind, place = self.weights.dtype, self.features.device
        rows_count = len(self.labels)
        self._size = rows_at_once(self.features, classes)
        self._others = torch.empty(rows_count, classes, dtype=self.features.dtype, device=place)  # ω_i p_ic, 0 at y_i
        self._own = torch.empty(rows_count, 1, dtype=kind, device=place)  # p_iy
        self._secant = torch.empty(rows_count, 1, dtype=kind, device=place)  # curvature added along own against rest
        self.spread = self._within(classes) if spread is None else spread
        self._basis, self._values = self.spread.basis.to(kind), self.spread.values.to(kind)  # V (D, D), s (D,)
        self._height = torch.ones(classes, dtype=kind, device=place)  # h_c
        self._middle = torch.zeros(classes, self.features.shape[1], dtype=kind, device=place)  # m_c

    def _slices(self) -> list[slice]:
        return [slice(first, first + self._size) for first in range(0, len(self.labels), self._size)]

    def _within(self, classes: int) -> Spread:
        """Return V (D, D) and s (D,) of the rows' own within-class covariance S."""
        kind, dim = self.weights.dtype, self.features.shape[1]
        sums = torch.zeros(classes, dim, dtype=kind, device=self.features.device)
        second = torch.zeros(dim, dim, dtype=kind, device=self.features.device)
        total = torch.zeros(classes, dtype=kind, device=self.features.device)
        for rows in self._slices():
            z = self.features[rows].to(kind)  # (B, D)
            omega = self.weights[rows]  # (B,)
            weighted = z * omega.unsqueeze(1)  # (B, D)
            sums.index_add_(0, self.labels[rows], weighted)  # Σ_{y_i = c} ω_i z_i
            total.index_add_(0, self.labels[rows], omega)  # π_c = Σ_{y_i = c} ω_i
            second += z.T @ weighted  # Σ ω_i z_i z_iᵀ
        # S = (Σ_i ω_i z_i z_iᵀ − Σ_c π_c μ_c μ_cᵀ) / Σ_c π_c, with the class means μ_c
        means = sums / total.clamp(min=torch.finfo(kind).tiny).unsqueeze(1)  # (C, D)
        second -= sums.T @ means
        values, basis = torch.linalg.eigh(second / total.sum())
        return Spread(basis, values.clamp(min=0))  # rounding can make an eigenvalue negative

    def move(self, weight: Tensor, bias: Tensor) -> None:
        """Build the model around W (C, D), b (C,)."""
        kind = self.weights.dtype
        w = weight.T.to(self.features.dtype)  # (D, C)
        self._height.zero_()
        self._middle.zero_()
        for rows in self._slices():
            z = self.features[rows]  # (B, D)
            omega = self.weights[rows].unsqueeze(1)  # (B, 1)
            labels = self.labels[rows].unsqueeze(1)  # (B, 1)
            log_p = torch.log_softmax((z @ w).to(kind).add_(bias), 1)  # (B, C)
            own_log = log_p.gather(1, labels)  # log p_iy (B, 1)
            p = log_p.exp_()  # (B, C)
            self._own[rows] = own_log.exp()
            self._secant[rows] = _secant(own_log) * self.caution
            self._others[rows] = (p * omega).scatter_(1, labels, 0)
            # a_ic = ω_i p_ic (1 − p_ic), and at the own class the secant's part as well
            active = p.mul_(1 - p)  # (B, C)
            active.scatter_add_(1, labels, self._secant[rows]).mul_(omega)
            self._height += active.sum(0)  # h_c = Σ_i a_ic
            self._middle += (active.to(z.dtype).T @ z).to(kind)  # Σ_i a_ic z_i
        self._height.clamp_(min=torch.finfo(kind).tiny)
        self._middle /= self._height.unsqueeze(1)  # m_c = Σ_i a_ic z_i / h_c

    def product(self, weight: Tensor | None, bias: Tensor) -> Pair:
        """Multiply the Hessian with (ΔW (C, D), Δb (C,)); without ΔW, only the part of b, which is far cheaper.

        With the change of logits u_i = ΔW z_i + Δb, the tangent's part of row i is ω_i (diag(p) − p pᵀ) u_i. The
        secant's part is ω_i σ_i v (v · u_i) along v = e_y − p_rest / (1 − p_y), σ_i being `_secant`. Their sum g_i (C,)
        gives Σ_i g_i z_iᵀ + λ ΔW and Σ_i g_i.
        """
        kind, low = self.weights.dtype, self.features.dtype
        w = None if weight is None else weight.T.to(low)  # (D, C)
        b = bias.to(low)  # (C,)
        to_weight = torch.zeros_like(self._middle)
        to_bias = torch.zeros_like(bias)
        for rows in self._slices():
            z, labels = self.features[rows], self.labels[rows].unsqueeze(1)  # (B, D), (B, 1)
            omega, own = self.weights[rows].unsqueeze(1), self._own[rows]  # (B, 1), p_y (B, 1)
            p = self._others[rows]  # ω p_c, 0 at the own class (B, C)
            u = b.expand(len(labels), -1).contiguous() if w is None else torch.addmm(b, z, w)  # (B, C)
            own_u = u.gather(1, labels).to(kind)  # u_y (B, 1)
            others = u.mul_(p).sum(1, keepdim=True, dtype=kind) / omega  # Σ_{c≠y} p_c u_c (B, 1); u is now ω p_c u_c
            rest = (1 - own).clamp(min=torch.finfo(kind).eps)  # 1 − p_y
            # σ (v · u) / (1 − p_y), as v · u = u_y − Σ_{c≠y} p_c u_c / (1 − p_y)
            extra = self._secant[rows] / rest * (own_u - others / rest)
            # for c ≠ y: g_c = ω p_c (u_c − p · u − extra), with p · u = p_y u_y + others
            u.addcmul_(p, (own * own_u + others + extra).to(low), value=-1)
            # g_y on its own: ω (p_y ((1 − p_y) u_y − others) + (1 − p_y) extra). Where p_y is nearly 1, bf16 would
            # lose the difference u_y − p · u.
            own_u.mul_(rest).sub_(others).mul_(own).add_(rest * extra)
            u.scatter_(1, labels, (own_u * omega).to(low))  # u is now g (B, C)
            to_bias += u.sum(0, dtype=kind)
            if w is not None:
                to_weight += (u.T @ z).to(kind)
        if weight is not None:
            to_weight.add_(weight, alpha=self.l2)
        return to_weight, to_bias

    def precondition(self, weight: Tensor, bias: Tensor) -> Pair:
        """Multiply (C, D) and (C,) with the inverse of the blocks (h_c S + λ I, h_c), each centred at m_c.

        A constant added to b changes no probability, so the mean is taken out of b's part, before and after.
        """
        bias = bias - bias.mean()
        about = weight - bias.unsqueeze(1) * self._middle  # the gradient in W about m_c (C, D)
        scale = self._height.unsqueeze(1) * self._values + self.l2  # eigenvalues h_c s_d + λ (C, D)
        to_weight = ((about @ self._basis) / scale) @ self._basis.T  # (h_c S + λ I)⁻¹ about_c (C, D)
        to_bias = bias / self._height - (to_weight * self._middle).sum(1)  # from b at m_c back to b at 0 (C,)
        return to_weight, to_bias - to_bias.mean()

    def step(self, weight: Tensor, bias: Tensor, tolerance: float, limit: int = 100) -> Step:
        """Minimise the model by preconditioned conjugate gradients, from the gradient in W (C, D) and b (C,).

        The letters are the method's own (Nocedal & Wright, algorithm 5.3): solution x, residual r, z = M⁻¹ r,
        direction p. It stops once an iteration gains less than `tolerance` of the mean gain so far.
        """
        x = (torch.zeros_like(weight), torch.zeros_like(bias))
        r = (-weight, -bias)
        z = self.precondition(*r)
        p, rz, gain = z, _dot(r, z), 0.0
        for iteration in range(1, limit + 1):
            hp = self.product(*p)
            curvature = _dot(p, hp)
            if not (curvature > 0 and rz > 0):  # the precision of the products is reached
                break
            alpha = rz / curvature
            x = (x[0] + alpha * p[0], x[1] + alpha * p[1])
            r = (r[0] - alpha * hp[0], r[1] - alpha * hp[1])
            gained = alpha * rz / 2  # the model falls by (r · z)² / (2 pᵀHp)
            gain += gained
            if iteration * gained < tolerance * gain:
                break
            z = self.precondition(*r)
            rz, before = _dot(r, z), rz
            beta = rz / before
            p = (z[0] + beta * p[0], z[1] + beta * p[1])
        return Step(*x, gain)

    def settle(self, bias: Tensor, tolerance: float = 1e-3, limit: int = 50) -> Step:
        """Minimise the model over b alone, from the gradient in b (C,).

        Conjugate gradients as in `step`, preconditioned by h_c, on vectors of mean zero. They stop once √(r · z) has
        fallen to `tolerance` of its first value.
        """
        x = torch.zeros_like(bias)
        r = bias.mean() - bias
        z = r / self._height
        p = z - z.mean()
        rz = first = float(r @ z)
        gain = 0.0
        for _ in range(limit):
            hp = self.product(None, p)[1]
            hp = hp - hp.mean()
            curvature = float(p @ hp)
            if not (curvature > 0 and rz > tolerance * tolerance * first):
                break
            gain += rz * rz / curvature / 2
            alpha = rz / curvature
            x = x + alpha * p
            r = r - alpha * hp
            z = r / self._height
            rz, before = float(r @ z), rz
            p = z - z.mean() + rz / before * p
        return Step(torch.zeros_like(self._middle), x, gain)

    def learn(self, share: float) -> None:
        """Adapt `caution` to the share of the predicted gain that a step had: above 1, the model was too careful."""
        if share > TIMID:
            self.caution /= 4
        elif share < BOLD:
            self.caution = min(1.0, 4 * max(self.caution, 0.01))


def _secant(own_log: Tensor) -> Tensor:
    """Return σ = (½ − p) / |m| − p (1 − p), what the bound's curvature has over the tangent's, from log p (B, 1)."""
    own = own_log.exp()
    odds = own_log - torch.log1p(-own.clamp(max=0.5))  # m = log p − log(1 − p)
    bound = (0.5 - own) / odds.abs().clamp(min=1e-6)
    tangent = own * (1 - own)
    found: Tensor = torch.where(own < 0.5, bound - tangent, 0.0)  # from p = ½ on, the tangent will do
    return found.clamp(min=0)


def _dot(one: Pair, two: Pair) -> float:
    """Return the inner product over W and b, summed in float64."""
    return float((one[0] * two[0]).sum(dtype=torch.float64) + (one[1] * two[1]).sum(dtype=torch.float64))
