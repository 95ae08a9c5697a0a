"""The convex problem of refit: weighted multinomial logistic regression, to a proven distance from its optimum.

    F(W, b) = Σ_i ω_i · −log softmax(W z_i + b)_{y_i}  +  (λ/2) ‖W − W₀‖²,     Σ_i ω_i = 1

W₀ is 0 unless something is known of the classes beforehand. With ω_i = 1 / (C · n_y) and W₀ = 0 this is
(1/C) Σ_y L_y + (λ/2) ‖W‖². It knows nothing of snapshots, classes' names or groups.

Newton steps whose Hessian comes from a sample of the rows (`training/solver/curvature.py`), first on the objective of a
small sample, then on that of all rows. A pass over all rows gives F, its gradient and a lower bound on the optimum
(`training/solver/dual.py`); the solver stops when the bound is close enough to F.

Features are centred: W z + b = W (z − z̄) + (b + W z̄), so b is shifted by W z̄ on the way in and back on the way out.

Of fewer rows than dimensions, Z − z̄ = U Qᵀ with Q of N orthonormal columns. Only W Q Qᵀ changes a logit, and the rest
of W − W₀ only costs penalty, so the optimum has W = W₀ + (W_r − W₀ Q) Qᵀ, and ‖W − W₀‖ = ‖W_r − W₀ Q‖: the problem is
solved in N dimensions, on U, toward W₀ Q.

Letters: N rows, D feature dimensions, C classes, P classes with rows; z̄ the weighted mean of the rows.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from breadcrumbs.training.solver.curvature import Curvature, Spread
from breadcrumbs.training.solver.dual import LowerBound
from breadcrumbs.training.solver.newton import Problem, View, descend
from breadcrumbs.training.solver.rows import Chunk, Source, cap_for, profile, sample, whole

TINY, DOUBLE_LIMIT = 1_000_000, 20_000_000  # elements of Z up to which float64 is used: always, and for a fine gap
FINE = 1e-4  # relative gap below which float32 may not do
SMALL = 50_000_000  # multiplications a pass, below which one thread is fastest
FEW = 4096  # rows that are not worth sampling
FIRST, SHARE = 1 / 12, 1 / 4  # shares of the rows: the sample to start on, and the one for the Hessian
SAMPLE_BYTES = 2**28  # limit on a sample's features and probabilities
START_GAIN = 0.02  # leave the small sample when a step gains less than this share of F: its optimum is not that of all
LITTLE, LOOSE = 0.03, 0.3  # of F, and of the gain in conjugate gradients: where a rough solution is enough
UNLIKELY = 40.0  # how far a class without rows stays below a row's log Σ exp(logit): e^−40 does not change F

Found = tuple[Tensor, Tensor]
"""Weight (C, D) and bias (C,)."""

Progress = Callable[[int, float, float], None]
"""Called with the pass's number, the gradient norm and the objective."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the solver stopped.

    Attributes:
        weight: (C, D).
        bias: (C,), of mean zero.
        objective: F at that point.
        gradient_norm: ‖∇F‖ at that point, features centred.
        gap_bound: F is at most this far above the optimum; see `training/solver/dual.py`.
        iterations: passes over all rows.
        converged: whether F is proven to be within the gap that was asked for.
        spread: of the first sample, for another solve on these rows; None: the problem was solved in fewer dimensions.
    """

    weight: Tensor
    bias: Tensor
    objective: float
    gradient_norm: float
    gap_bound: float
    iterations: int
    converged: bool
    spread: Spread | None = None


def solve(
    features: Tensor,
    labels: Tensor,
    row_weights: Tensor,
    classes: int,
    l2: float,
    *,
    gap: float = 1e-3,
    starts: Sequence[Found] = (),
    max_iterations: int = 500,
    rough: bool = False,
    half: bool | None = None,
    toward: Tensor | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Minimise F on rows in memory, in float64 where that costs little. See `solve_stream` for the rest.

    Args:
        features: (N, D), of any float type; no copy of the whole is made.
        labels: int64 (N,).
        row_weights: ω (N,), positive, of sum 1; a row of twice the weight counts as two equal rows.
        classes: C. A class without rows gets its row of W₀, and a bias that it can be predicted with
            (`_of_all_classes`); where that row is 0, a bias so low that it is never predicted.
        l2: λ > 0.
        gap: stop when F is proven to be within this share of the optimum.
        starts: weights (C, D) and biases (C,) to start from: the best of them, if its F is below that of W = b = 0.
        max_iterations: stop after this many passes, converged or not.
        rough: also stop, without proof, where a step gains little, and take less exact steps: enough to choose by.
        half: whether early products are in bf16. None means: if the device is fast at it and float64 is not used.
        toward: W₀ (C, D); None means 0.
        spread: of the solution of an earlier solve on these rows with these weights, with any λ; None: it is computed.
        progress: called for every point that is kept.
    """
    if len(features) < features.shape[1]:
        few, basis, centre = _in_row_space(features, row_weights)
        inner = [(weight.to(basis) @ basis, bias.to(basis) + weight.to(basis) @ centre) for weight, bias in starts]
        found = solve(
            few, labels, row_weights, classes, l2, gap=gap, starts=inner, max_iterations=max_iterations, rough=rough,
            half=half, toward=None if toward is None else toward.to(basis) @ basis, progress=progress,
        )  # fmt: skip
        weight = _out_of_row_space(found.weight, basis.to(found.weight), toward)  # (C, D)
        bias = found.bias - weight @ centre.to(weight)
        return replace(found, weight=weight, bias=bias - bias.mean(), spread=None)
    double = in_double(features.numel(), gap)
    with _threads(features.numel() * classes):
        return solve_stream(
            whole(features, labels, row_weights),
            classes,
            l2,
            double=double,
            gap=gap,
            starts=starts,
            max_iterations=max_iterations,
            rough=rough,
            half=half,
            toward=toward,
            spread=spread,
            progress=progress,
        )


@torch.no_grad()
def _in_row_space(features: Tensor, row_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (N, N), Q (D, N) and z̄ (D,) of Z = U Qᵀ + z̄, in float64: the QR decomposition of (Z − z̄)ᵀ."""
    rows, weights = features.double(), row_weights.double()
    centre = weights @ rows / weights.sum()
    basis, triangle = torch.linalg.qr((rows - centre).T)
    return triangle.T, basis, centre


def _out_of_row_space(inner: Tensor, basis: Tensor, toward: Tensor | None) -> Tensor:
    """Return W (C, D) from W_r (C, N) and Q (D, N): W = W₀ + (W_r − W₀ Q) Qᵀ."""
    if toward is None:
        return inner @ basis.T
    start = toward.to(basis)
    return start + (inner - start @ basis) @ basis.T


def in_double(elements: int, gap: float) -> bool:
    """Whether to use float64 for N · D elements: always where they are few, and up to a higher limit for a fine gap."""
    return elements <= (DOUBLE_LIMIT if gap < FINE else TINY)


@torch.no_grad()
def solve_stream(
    source: Source,
    classes: int,
    l2: float,
    *,
    double: bool = False,
    gap: float = 1e-3,
    starts: Sequence[Found] = (),
    max_iterations: int = 500,
    rough: bool = False,
    half: bool | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    toward: Tensor | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Minimise F on rows that are read chunk by chunk, on the chunks' device.

    Memory is the source's own, the sample's, and about twenty (C, D) arrays. Arguments as for `solve`, and:

    Args:
        source: reads all rows.
        double: whether to compute in float64 instead of float32.
        sample_bytes: limit on the memory of the sample.
    """
    kind = torch.float64 if double else torch.float32
    known = profile(source, classes, kind)
    start = torch.zeros_like(known.moments) if toward is None else toward.to(known.moments)  # W₀ (C, D)
    # solve for the P classes that have rows; the others follow at the end
    present = (known.counts > 0).nonzero().squeeze(1)  # their numbers (P,)
    place = torch.full((classes,), -1, device=present.device)  # from a class's number among C to that among P (C,)
    place[present] = torch.arange(len(present), device=present.device)
    if len(present) < classes:
        source, known = _relabelled(source, place), known.only(present)
    weights = [weight.to(known.moments)[present] for weight, _ in starts]  # (P, D) each
    biases = [bias.to(known.prior)[present] for _, bias in starts]  # (P,) each
    centred = [(weight, bias + weight @ known.centre) for weight, bias in zip(weights, biases, strict=True)]
    if half is None:
        half = _fast_at_bf16(known.centre)
    low = torch.bfloat16 if half and not double else kind  # type of the early products
    told = 0

    def near(here: View, bound: LowerBound) -> bool:
        # F − bound ≤ gap · bound; as bound ≤ F*, it follows that F − F* ≤ gap · F*
        return here.products == kind and here.value - bound.value <= gap * bound.value

    def done(here: View, bound: LowerBound) -> bool:
        nonlocal told
        told += 1
        if progress is not None:
            progress(told, here.norm, here.value)
        return near(here, bound)

    problem = Problem(source, known, l2, kind, start[present])
    draw = _sampler(problem, low, sample_bytes)
    curvature = Curvature(draw(SHARE), len(present), l2, spread)
    here = _begin(problem, centred, draw, low)
    rows = int(known.counts.sum())

    def sharper(current: Curvature) -> Curvature:
        have = len(current.labels)
        if have == rows:
            return current
        more = draw(2 * have / rows)
        more_rows = len(more[1])
        return Curvature(more, len(present), l2) if more_rows > have else current

    exactness = {"enough": LITTLE, "forcing": LOOSE} if rough else {}
    here, bound, passes = descend(
        problem, curvature, here, done, sharper=sharper, passes=max_iterations, gap=gap, **exactness
    )
    weight, bias = _of_all_classes(here, known.prior, present, start)  # features centred
    bias = bias - weight @ known.centre
    return Solution(
        weight=weight,
        bias=bias - bias.mean(),
        objective=here.value,
        gradient_norm=here.norm,
        gap_bound=max(here.value - bound.value, 0.0),
        iterations=passes + 1,
        converged=near(here, bound),
        spread=curvature.spread,
    )


def _of_all_classes(here: View, prior: Tensor, present: Tensor, toward: Tensor) -> Found:
    """Return W (C, D) and b (C,) for centred features, from those of the P classes with rows and from W₀ (C, D).

    At the mean row b_c − log π_c is what the features say of class c, its prior apart. A class that is known by W₀
    alone gets the mean of this, and the prior of the rarest class.
    """
    log_prior = prior.log()  # log π (P,)
    as_others = (here.bias - log_prior).mean() + log_prior.min()
    bias = torch.where(toward.any(1), as_others, here.sums.lowest - UNLIKELY)
    return toward.index_copy(0, present, here.weight), bias.index_copy(0, present, here.bias)


def _sampler(problem: Problem, low: torch.dtype, sample_bytes: int) -> Callable[[float], Chunk]:
    """Return a function that draws about a share of the rows, centred: all if they are few, never more than fit."""
    rows, known = int(problem.known.counts.sum()), problem.known
    row_bytes = sum(known.moments.shape) * low.itemsize  # D features and P probabilities
    most = max(1, sample_bytes // row_bytes)

    def draw(share: float) -> Chunk:
        wanted = rows if problem.kind == torch.float64 else max(FEW, math.ceil(share * rows))
        return sample(problem.source, known, cap_for(known.counts, min(most, wanted)), low)

    return draw


def _begin(problem: Problem, starts: Sequence[Found], draw: Callable[[float], Chunk], low: torch.dtype) -> View:
    """Return where to start: the best of `starts`, if better than W = b = 0; else the optimum of a small sample."""
    known = problem.known
    classes = len(known.counts)
    views = [problem.look(*start, problem.kind) for start in starts]
    best = min(views, key=lambda view: view.value, default=None)
    if best is not None and best.value < math.log(classes):  # F(0, 0) = log P
        return best
    weight, bias = problem.toward, known.prior.log()  # W = W₀ and b = log π: of W₀ = 0 the best without features
    rows = draw(FIRST)
    if len(rows[1]) <= 0.5 * int(known.counts.sum()):
        source = whole(*rows)
        part = replace(problem, source=source, known=profile(source, classes, problem.kind))
        found, _, _ = descend(
            part,
            Curvature(rows, classes, problem.l2),
            part.look(weight, bias, low),
            lambda *_: False,
            sharper=lambda same: same,
            passes=12,
            enough=START_GAIN,
        )
        # the sample has a centre of its own
        weight, bias = found.weight, found.bias - found.weight @ part.known.centre
    return problem.look(weight, bias, low)


def _relabelled(source: Source, place: Tensor) -> Source:
    """Return the same rows with the labels place[y]."""

    def read() -> Iterator[Chunk]:
        for features, labels, weights in source():
            yield features, place[labels], weights

    return read


def _fast_at_bf16(like: Tensor) -> bool:
    """Whether the device multiplies bf16 matrices faster than f32 ones."""
    if like.is_cuda:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return like.device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001  # no other way to ask


@contextlib.contextmanager
def _threads(work: int) -> Iterator[None]:
    """Run small problems on one thread: waking the others costs more than they save, above all beside a server."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before if work > SMALL else 1)
        yield
    finally:
        torch.set_num_threads(before)
