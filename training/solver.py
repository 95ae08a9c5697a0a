"""The convex problem of refit: weighted multinomial logistic regression, to a stated gradient norm.

    F(W, b) = Σ_i ω_i · −log softmax(W z_i + b)_{y_i}  +  (λ/2) ‖W‖²,     Σ_i ω_i = 1

With ω_i = 1 / (C · n_y) this is (1/C) Σ_y L_y + (λ/2) ‖W‖². It knows nothing of snapshots, classes' names or groups.

Letters: N rows, D feature dimensions, C classes.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

DOUBLE_LIMIT = 20_000_000  # elements of Z up to which float64 costs little
SMALL = 50_000_000  # products a pass, below which one thread is fastest
BIAS_STEPS = 3
ROUND = 10  # iterations between two looks at the gradient
CURVATURE = 0.5  # of the softmax at most (Böhning 1992): how much of the covariance the Hessian holds

Progress = Callable[[int, float, float], None]
"""Called with the iteration, the gradient norm and the objective."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the solver stopped.

    Attributes:
        weight: (C, D).
        bias: (C,), of mean zero.
        objective: F there.
        gradient_norm: ‖∇F‖ there.
        gap_bound: F is at most this far above the optimum; see `_gap_bound`.
        iterations: of L-BFGS.
        converged: whether the gradient norm asked for was reached.
    """

    weight: Tensor
    bias: Tensor
    objective: float
    gradient_norm: float
    gap_bound: float
    iterations: int
    converged: bool


def solve(
    features: Tensor,
    labels: Tensor,
    row_weights: Tensor,
    classes: int,
    l2: float,
    *,
    gradient_norm: float = 1e-5,
    start: tuple[Tensor, Tensor] | None = None,
    max_iterations: int = 2000,
    progress: Progress | None = None,
) -> Solution:
    """Minimise F by L-BFGS on centred and whitened features; the penalty stays that of the plain W.

    Args:
        features: (N, D).
        labels: int64 (N,).
        row_weights: ω (N,), positive, of sum 1.
        classes: C.
        l2: λ > 0.
        gradient_norm: stop below it.
        start: weight (C, D) and bias (C,) to start from; else zeros.
        max_iterations: stop after as many, converged or not.
        progress: told every few iterations.
    """
    with _threads(features.numel() * classes):
        return _solve(features, labels, row_weights, classes, l2, gradient_norm, start, max_iterations, progress)


@contextlib.contextmanager
def _threads(work: int) -> Iterator[None]:
    """Small problems run on one thread: waking the others costs more than they do, most of all beside a server."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before if work > SMALL else 1)
        yield
    finally:
        torch.set_num_threads(before)


def _solve(
    features: Tensor, labels: Tensor, row_weights: Tensor, classes: int, l2: float, gradient_norm: float,
    start: tuple[Tensor, Tensor] | None, max_iterations: int, progress: Progress | None,
) -> Solution:  # fmt: skip
    dtype = torch.float64 if features.numel() <= DOUBLE_LIMIT else torch.float32
    omega = row_weights.to(dtype)
    centre = omega @ features.to(dtype)  # W z + b = W (z − c) + (b + W c): the penalty stays the same
    z = features.to(dtype) - centre
    root = _preconditioner(z, omega, l2)
    z_white = torch.linalg.solve_triangular(root, z.T, upper=False).T.contiguous()  # W z = V z̃ with V = W L, z̃ = L⁻¹ z
    v = torch.zeros(classes, z.shape[1], dtype=dtype, device=z.device)
    b = torch.zeros(classes, dtype=dtype, device=z.device)
    if start is not None:
        v.copy_(start[0].to(v) @ root)
        b.copy_(start[1].to(b) + start[0].to(b) @ centre)
    here = _State(v, b)

    def closure() -> Tensor:
        return _evaluate(here, z_white, labels, omega, l2, root)

    optimizer = torch.optim.LBFGS(
        [v, b], max_iter=ROUND, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )
    iterations, previous = 0, math.inf
    while True:
        closure()
        if progress is not None:
            progress(iterations, here.norm, here.value)
        # A round that no longer lowers F has met the precision of the numbers.
        if here.norm <= gradient_norm / 2 or iterations >= max_iterations or here.value >= previous:
            break
        previous = here.value
        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        iterations += ROUND
    _settle_bias(here, closure, z_white, omega)
    weight = _unwhiten(v, root)
    bias = b - weight @ centre
    return Solution(
        weight, bias - bias.mean(), here.value, here.norm, _gap_bound(z, b, l2, here), iterations,
        here.norm <= gradient_norm,
    )  # fmt: skip


@dataclass(eq=False)
class _State:
    """The parameters V (C, D), b (C,), and what was found there: F and its gradient in W and b."""

    v: Tensor
    b: Tensor
    value: float = math.inf
    norm: float = math.inf
    squared_weight_gradient: float = math.inf
    absolute_bias_gradient: float = math.inf


def _preconditioner(z: Tensor, omega: Tensor, l2: float) -> Tensor:
    """The Cholesky factor L (D, D) of h·Cov + λI: about the Hessian of F in each row of W, which becomes about I."""
    covariance = z.T @ (z * omega.unsqueeze(1))
    scale = float(covariance.diagonal().mean())
    ridge = max(l2, 1e-6 * scale) * torch.eye(len(covariance), dtype=z.dtype, device=z.device)
    root: Tensor = torch.linalg.cholesky(CURVATURE * covariance + ridge)
    return root


def _unwhiten(v: Tensor, root: Tensor) -> Tensor:
    """W = V L⁻¹."""
    weight: Tensor = torch.linalg.solve_triangular(root, v, upper=False, left=False)
    return weight


def _settle_bias(here: _State, closure: Callable[[], Tensor], z_white: Tensor, omega: Tensor) -> None:
    """Minimise F over b alone by Newton's method, so that the gap's bound is left with the gradient in W."""
    for _ in range(BIAS_STEPS):
        p = torch.softmax(torch.addmm(here.b, z_white, here.v.T), 1)
        hessian = torch.diag(omega @ p) - p.T @ (p * omega.unsqueeze(1))
        closure()
        gradient = here.b.grad if here.b.grad is not None else torch.zeros_like(here.b)
        here.b -= torch.linalg.pinv(hessian, hermitian=True) @ gradient  # b is only known up to a constant
    closure()


def _evaluate(here: _State, z_white: Tensor, labels: Tensor, omega: Tensor, l2: float, root: Tensor) -> Tensor:
    """F and its gradient at (V, b), by hand: softmax minus the label, times the features."""
    log_p = torch.log_softmax(torch.addmm(here.b, z_white, here.v.T), 1)
    weight = _unwhiten(here.v, root)
    own = log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
    value = l2 / 2 * weight.square().sum() - omega @ own
    residual = log_p.exp_()
    residual.scatter_add_(1, labels.unsqueeze(1), torch.full_like(own, -1).unsqueeze(1))
    residual *= omega.unsqueeze(1)
    # dF/dV = (dF/dW) L⁻ᵀ, and the penalty's part of dF/dW is λ W
    penalty = torch.linalg.solve_triangular(root.T, l2 * weight, upper=True, left=False)
    here.v.grad = residual.T @ z_white + penalty
    here.b.grad = residual.sum(0)
    in_weight = here.v.grad @ root.T
    here.squared_weight_gradient = float(in_weight.square().sum())
    here.absolute_bias_gradient = float(here.b.grad.abs().sum())
    here.norm = math.sqrt(here.squared_weight_gradient + float(here.b.grad.square().sum()))
    here.value = float(value)
    return value


def _gap_bound(z: Tensor, bias: Tensor, l2: float, here: _State) -> float:
    """Bound F − F* from the gradient, by strong convexity in W and a bound on how far b* can be.

    F* ≥ F + ⟨g_W, ΔW⟩ + ⟨g_b, Δb⟩ + (λ/2)‖ΔW‖² ≥ F − ‖g_W‖²/(2λ) − ½ ‖g_b‖₁ · (range of b* − b); g_b sums to zero.
    At the optimum F* ≤ log C, so ‖W*‖ ≤ √(2 log C / λ); and each class has a row of loss at most C log C, so no two
    entries of b* are further apart than C log C + 2 ‖W*‖ · max‖z‖. This takes every class to have rows of weight 1/C.
    """
    classes = len(bias)
    radius = float(z.square().sum(1).max().sqrt())
    farthest = classes * math.log(classes) + 2 * math.sqrt(2 * math.log(classes) / l2) * radius
    reach = farthest + float(bias.max() - bias.min())
    return here.squared_weight_gradient / (2 * l2) + 0.5 * here.absolute_bias_gradient * reach
