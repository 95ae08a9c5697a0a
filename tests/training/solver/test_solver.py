"""The solver against an independent one, and its promises about the optimum."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from breadcrumbs.training.solver.curvature import Curvature
from breadcrumbs.training.solver.rows import Chunk, Source, cap_for, profile, sample, whole
from breadcrumbs.training.solver.solver import solve, solve_stream


def objective(weight: Tensor, bias: Tensor, data: tuple[Tensor, Tensor, Tensor], l2: float) -> float:
    """F, written down plainly in float64."""
    features, labels, omega = data
    loss = cross_entropy(features.double() @ weight.double().T + bias.double(), labels, reduction="none")
    return float((omega.double() * loss).sum() + l2 / 2 * weight.double().square().sum())


@pytest.mark.parametrize("l2", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("seed", [0, 1])
def test_objective_equals_an_independent_solvers(seed: int, l2: float) -> None:
    """scikit-learn's Newton method in float64, run to the end, finds the same minimum."""
    data = problem(seed)
    features, labels, omega = (part.double().numpy() for part in data)

    ours = solve(*data, 4, l2, gap=1e-9)
    theirs = LogisticRegression(C=1 / l2, solver="newton-cg", tol=1e-7, max_iter=1000).fit(
        features, labels, sample_weight=omega
    )

    minimum = objective(torch.tensor(theirs.coef_), torch.tensor(theirs.intercept_), data, l2)
    assert ours.objective <= minimum * (1 + 1e-6) + 1e-9
    assert ours.objective == pytest.approx(objective(ours.weight, ours.bias, data, l2), rel=1e-9)


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-6])
def test_gap_bound_is_never_below_the_true_gap(gap: float) -> None:
    """Wherever the solver stops, the optimum is within the bound it states."""
    data = problem(2)

    stopped = solve(*data, 4, 1e-3, gap=gap)
    optimum = solve(*data, 4, 1e-3, gap=1e-9)

    assert stopped.converged
    assert stopped.objective - optimum.objective + 1e-12 >= 0
    assert stopped.objective - optimum.objective <= stopped.gap_bound
    assert optimum.gap_bound < 1e-8


def test_gradient_norm_is_the_gradients() -> None:
    """The norm reported is that of F's gradient in the plain W and b, by autograd."""
    features, labels, omega = problem(3)

    found = solve(features, labels, omega, 4, 1e-3, gap=1e-2)
    weight, bias = (t.clone().requires_grad_() for t in (found.weight, found.bias))
    centre = omega.double() @ features.double()
    centred = features.double() - centre
    shifted = bias + (weight @ centre).detach()
    loss = cross_entropy(centred @ weight.T + shifted, labels, reduction="none")
    ((omega.double() * loss).sum() + 1e-3 / 2 * weight.square().sum()).backward()

    norm = float((weight.grad.square().sum() + bias.grad.square().sum()).sqrt())
    assert found.gradient_norm == pytest.approx(norm, rel=1e-4, abs=1e-12)


def test_weights_are_repeats() -> None:
    """A row of twice the weight is a row that stands there twice."""
    features, labels, _ = problem(4, rows=60)
    weights = torch.ones(60)
    weights[:20] = 2
    doubled = torch.cat([torch.arange(60), torch.arange(20)])

    weighted = solve(features, labels, weights / weights.sum(), 4, 1e-2, gap=1e-9)
    repeated = solve(features[doubled], labels[doubled], torch.full((80,), 1 / 80), 4, 1e-2, gap=1e-9)

    assert torch.allclose(weighted.weight, repeated.weight, atol=1e-5)


def test_a_warm_start_needs_fewer_iterations() -> None:
    """Started from a near solution, it is there at once."""
    data = problem(5)

    cold = solve(*data, 4, 1e-3, gap=1e-9)
    warm = solve(*data, 4, 1e-3, gap=1e-9, starts=[(cold.weight, cold.bias)])

    assert warm.iterations < cold.iterations
    assert warm.objective == pytest.approx(cold.objective, abs=1e-9)


def test_progress_tells_the_gradient_norm() -> None:
    """Progress is the iteration, the gradient norm and the objective, which falls."""
    seen: list[tuple[int, float, float]] = []

    found = solve(*problem(6), 4, 1e-3, gap=1e-6, progress=lambda *values: seen.append(values))

    assert [iteration for iteration, _, _ in seen] == sorted({iteration for iteration, _, _ in seen})
    assert seen[-1] == (found.iterations, found.gradient_norm, found.objective)
    assert np.all(np.diff([value for _, _, value in seen]) <= 1e-12)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(4, 20),
    more=st.integers(1, 60),
    classes=st.integers(2, 6),
    twins=st.booleans(),
    started=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_fewer_rows_than_dimensions_have_the_same_solution(
    rows: int, more: int, classes: int, twins: bool, started: bool, seed: int
) -> None:
    """Solved in as many dimensions as there are rows, W and b are those of the whole space; a class may have no row."""
    generator = torch.Generator().manual_seed(seed)
    features = 2 * torch.randn(rows, rows + more, generator=generator, dtype=torch.float64) + 1
    if twins:
        features[1:3] = features[0]
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[:2] = torch.arange(2)  # of one class alone the optimum is 0, and no share of it is a gap
    omega = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    data = features, labels, omega / omega.sum()
    start = torch.randn(classes, rows + more, generator=generator) / 50, torch.randn(classes, generator=generator)
    starts = [start] if started else []

    few = solve(*data, classes, 1e-2, gap=1e-9, starts=starts)
    whole_space = solve_stream(whole(*data), classes, 1e-2, double=True, gap=1e-9, starts=starts)

    assert few.converged
    assert few.objective == pytest.approx(whole_space.objective, rel=1e-8)
    assert few.objective == pytest.approx(objective(few.weight, few.bias, data, 1e-2), rel=1e-9)
    assert few.weight.shape == (classes, rows + more)
    assert torch.allclose(few.weight, whole_space.weight, atol=2e-3)
    assert float(few.bias.mean()) == pytest.approx(0, abs=1e-9)


def test_a_start_is_of_use_with_fewer_rows_than_dimensions() -> None:
    """The solution is where it starts from: nothing is left to do."""
    data = problem(7, rows=30, dim=100)

    cold = solve(*data, 4, 1e-2, gap=1e-9)
    warm = solve(*data, 4, 1e-2, gap=1e-6, starts=[(cold.weight, cold.bias)])

    assert (warm.iterations, warm.converged) == (1, True)
    assert cold.iterations > 1


def test_thread_count_is_left_as_it_was() -> None:
    """A small problem runs on one thread and gives the others back."""
    before = torch.get_num_threads()

    solve(*problem(7), 4, 1e-2)

    assert torch.get_num_threads() == before


def independent_optimum(data: tuple[Tensor, Tensor, Tensor], classes: int, l2: float) -> float:
    """F's minimum by scipy's trust-region Newton in float64, with autograd's gradient and Hessian."""
    features, labels, omega = (part if part.dtype == torch.int64 else part.double() for part in data)
    dim = features.shape[1]

    def value(flat: Tensor) -> Tensor:
        weight, bias = flat[: classes * dim].reshape(classes, dim), flat[classes * dim :]
        loss = cross_entropy(features @ weight.T + bias, labels, reduction="none")
        return omega @ loss + l2 / 2 * weight.square().sum() + 1e-14 * bias.square().sum()

    found = minimize(
        lambda x: float(value(torch.tensor(x))),
        np.zeros(classes * (dim + 1)),
        jac=lambda x: torch.autograd.functional.jacobian(value, torch.tensor(x)).numpy(),
        hess=lambda x: torch.autograd.functional.hessian(value, torch.tensor(x)).numpy(),
        method="trust-exact",
        options={"gtol": 1e-12, "maxiter": 300},
    )
    return float(found.fun)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5, 60),
    power=st.floats(-3, 0),
    gap=st.sampled_from([0.5, 0.1, 1e-2, 1e-3]),
    empty=st.booleans(),
)
def test_gap_bound_holds_on_random_problems(seed: int, rows: int, power: float, gap: float, empty: bool) -> None:
    """Of any weights, with or without a class that has no rows, F is within the bound of an independent optimum."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    labels[:3] = torch.arange(3)
    features = 3 * torch.randn(rows, 4, generator=generator) + labels.unsqueeze(1)
    weights = torch.rand(rows, generator=generator) + 0.05
    weights /= weights.sum()
    asked = 4 if empty else 3

    found = solve(features, labels, weights, asked, 10**power, gap=gap)
    least = independent_optimum((features, labels, weights), 3, 10**power)

    assert found.converged
    assert found.gap_bound <= gap * found.objective
    assert -1e-9 <= found.objective - least <= found.gap_bound + 1e-9
    assert objective(found.weight, found.bias, (features, labels, weights), 10**power) == pytest.approx(
        found.objective, rel=1e-6
    )


def big_problem(seed: int = 0, classes: int = 40, dim: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """A long tail of about 10,000 rows, so that sampling matters, in float32."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.logspace(3.1, 0.7, classes).long()
    labels = torch.repeat_interleave(torch.arange(classes), counts)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.randn(classes, dim, generator=generator)
    features = (centres[labels] + torch.randn(len(labels), dim, generator=generator)) * torch.logspace(0.5, -1, dim)
    return features, labels, 1 / (classes * counts[labels])


def pieces(data: tuple[Tensor, Tensor, Tensor], size: int) -> Source:
    """The rows as a stream, `size` at a time."""

    def read() -> Iterator[Chunk]:
        yield from zip(*(part.split(size) for part in data), strict=True)

    return read


@pytest.mark.parametrize("size", [1, 333, 5000])
def test_a_stream_gives_what_the_whole_gives(size: int) -> None:
    """How the rows are cut into chunks changes neither the sample nor the solution."""
    data = big_problem() if size > 1 else tuple(part[:500] for part in big_problem())

    streamed = solve_stream(pieces(data, size), 40, 1e-3, half=False)
    at_once = solve_stream(whole(*data), 40, 1e-3, half=False)
    known = profile(whole(*data), 40, torch.float64)
    drawn = [sample(source, known, 7, torch.float32) for source in (pieces(data, size), whole(*data))]

    assert streamed.iterations == at_once.iterations
    assert torch.allclose(streamed.weight, at_once.weight, atol=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_the_default_is_within_a_thousandth() -> None:
    """Float32 with a sampled Hessian stops within 0.1 % of the optimum, as float64 finds it."""
    data = big_problem()

    found = solve_stream(whole(*data), 40, 1e-3)
    optimum = solve(*data, 40, 1e-3, gap=1e-8)

    assert found.converged
    assert found.objective - optimum.objective <= 1e-3 * optimum.objective
    assert found.objective - optimum.objective <= found.gap_bound <= 1e-3 * found.objective
    assert optimum.gap_bound < 1e-7


def test_bf16_products_end_within_the_same_gap() -> None:
    """Early products in bf16, on whichever device, cost no accuracy: the last passes are in full precision."""
    data = big_problem(1)

    rough = solve_stream(whole(*data), 40, 1e-3, half=True)
    full = solve_stream(whole(*data), 40, 1e-3, half=False)

    assert rough.converged
    assert rough.objective == pytest.approx(full.objective, rel=1e-3)
    assert rough.gap_bound <= 1e-3 * rough.objective


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_may_be_stored_in_half(dtype: torch.dtype) -> None:
    """Half-precision features are taken as the numbers they are."""
    features, labels, omega = problem(8)

    half = solve(features.to(dtype), labels, omega, 4, 1e-2, gap=1e-9)
    same = solve(features.to(dtype).double(), labels, omega, 4, 1e-2, gap=1e-9)

    assert torch.allclose(half.weight, same.weight, atol=1e-7)


def test_a_class_without_rows_is_never_predicted() -> None:
    """It changes neither the others nor the objective, and the bound still holds."""
    features, labels, omega = problem(9)

    found = solve(features, labels * 2, omega, 8, 1e-3, gap=1e-9)
    plain = solve(features, labels, omega, 4, 1e-3, gap=1e-9)
    logits = features.double() @ found.weight.T + found.bias

    assert torch.allclose(found.weight[::2], plain.weight, atol=1e-5)
    assert found.objective == pytest.approx(plain.objective, rel=1e-10)
    assert found.gap_bound < 1e-7
    assert set(logits.argmax(1).tolist()) <= {0, 2, 4, 6}


def test_a_small_update_from_the_last_solution_takes_few_passes() -> None:
    """With 1 % new rows the last solution is nearly there; from a useless start it begins anew."""
    features, labels, omega = big_problem(2)
    most = int(0.99 * len(labels))
    counts = torch.bincount(labels[:most], minlength=40).clamp(min=1)

    before = solve_stream(whole(features[:most], labels[:most], 1 / (40 * counts[labels[:most]])), 40, 1e-3)
    cold = solve_stream(whole(features, labels, omega), 40, 1e-3)
    warm = solve_stream(whole(features, labels, omega), 40, 1e-3, starts=[(before.weight, before.bias)])
    useless = (100 * before.weight, -before.bias)
    lost = solve_stream(whole(features, labels, omega), 40, 1e-3, starts=[useless])
    both = solve_stream(whole(features, labels, omega), 40, 1e-3, starts=[useless, (before.weight, before.bias)])

    assert warm.converged
    assert lost.converged
    assert both.iterations == warm.iterations
    assert warm.iterations < cold.iterations


def test_half_precision_loses_nothing_where_classes_are_nearly_separable() -> None:
    """Where own classes are nearly certain, the products in bf16 still tell curvature and gradient."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20).repeat_interleave(20)
    features = torch.randn(20, 256, generator=generator)[labels] + torch.randn(400, 256, generator=generator)
    rows = whole(features, labels, torch.full((400,), 1 / 400))

    full, half = (solve_stream(rows, 20, 1e-4, half=half) for half in (False, True))

    assert full.converged
    assert half.converged
    assert half.objective == pytest.approx(full.objective, rel=1e-3)
    assert half.iterations < 2 * full.iterations


def test_a_sample_weighs_as_much_as_the_whole() -> None:
    """It has at most `cap` rows of a class, every class with rows, and each class's weight."""
    features, labels, omega = big_problem(3)
    known = profile(whole(features, labels, omega), 41, torch.float64)

    drawn, own, weights = sample(whole(features, labels, omega), known, 16, torch.float32)
    counts = torch.bincount(own, minlength=41)

    assert drawn.shape == (len(own), 24)
    assert torch.equal(counts, known.counts.clamp(max=16))
    assert torch.allclose(torch.zeros(41).double().index_add_(0, own, weights), known.prior)
    assert cap_for(known.counts, int(counts.sum())) == 16


def test_hessian_products_are_derivatives_of_the_gradient() -> None:
    """Without caution the model's product is the directional derivative of F's gradient, here by autograd."""
    features, labels, omega = (part if part.dtype == torch.int64 else part.double() for part in problem(10))
    curvature = Curvature((features, labels, omega), 4, 1e-2)
    curvature.caution = 0.0
    generator = torch.Generator().manual_seed(0)
    at, along = (torch.randn(4, 9, generator=generator, dtype=torch.float64) / 10 for _ in range(2))

    def value(both: Tensor) -> Tensor:
        loss = cross_entropy(features @ both[:, :8].T + both[:, 8], labels, reduction="none")
        return omega @ loss + 1e-2 / 2 * both[:, :8].square().sum()

    curvature.move(at[:, :8], at[:, 8])
    weight, bias = curvature.product(along[:, :8], along[:, 8])
    _, expected = torch.autograd.functional.hvp(value, at, along)
    only = curvature.product(None, along[:, 8])[1]
    _, of_bias = torch.autograd.functional.hvp(value, at, torch.cat([torch.zeros(4, 8), along[:, 8:]], 1).double())

    assert torch.allclose(torch.cat([weight, bias.unsqueeze(1)], 1), expected)
    assert torch.allclose(only, of_bias[:, 8])


@pytest.mark.parametrize("rough", [True, False])
@pytest.mark.parametrize("classes", [1, 10, 100])
def test_a_spread_that_is_known_changes_no_bit(classes: int, rough: bool) -> None:
    """It is the one that the solver would compute; above the limit of float64, where the Hessian is of a sample."""
    draw = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (8000,), generator=draw)
    features = torch.randn(8000, 130, generator=draw)
    features[torch.arange(8000), labels] += 2
    omega = torch.full((8000,), 1 / 8000)
    first = solve(features, labels, omega, classes, 1e-1, gap=1e-2, rough=rough)

    starts = ((first.weight, first.bias),)
    anew, known = (
        solve(features, labels, omega, classes, 1e-2, gap=1e-2, rough=rough, starts=starts, spread=spread)
        for spread in (None, first.spread)
    )

    assert first.spread is not None
    assert torch.equal(anew.weight, known.weight)
    assert torch.equal(anew.bias, known.bias)
