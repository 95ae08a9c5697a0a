"""The solver's penalty on the distance from given weights, against an independent solver, and its bound."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from breadcrumbs.training.solver.rows import whole
from breadcrumbs.training.solver.solver import solve, solve_stream

Data = tuple[Tensor, Tensor, Tensor]


def drawn(seed: int, rows: int, dim: int, classes: int) -> Data:
    """Random rows of every class but the last, with random weights."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - 1, (rows,), generator=generator)
    labels[: classes - 1] = torch.arange(classes - 1)
    features = 2 * torch.randn(rows, dim, generator=generator, dtype=torch.float64) + labels.unsqueeze(1)
    omega = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.05
    return features, labels, omega / omega.sum()


def rows_of(seed: int, classes: int, dim: int, scale: float) -> Tensor:
    """W₀ (C, D), drawn."""
    return scale * torch.randn(classes, dim, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)


def independent_optimum(data: Data, toward: Tensor, l2: float) -> float:
    """F's minimum over the classes of `toward` (P, D), by scipy's quasi-Newton method in float64."""
    features, labels, omega = data
    classes, dim = toward.shape

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(flat, requires_grad=True)
        weight, bias = point[: classes * dim].reshape(classes, dim), point[classes * dim :]
        loss = cross_entropy(features @ weight.T + bias, labels, reduction="none")
        value = omega @ loss + l2 / 2 * (weight - toward).square().sum()
        value.backward()
        assert point.grad is not None
        return float(value.detach()), point.grad.numpy()

    start = np.concatenate([toward.numpy().ravel(), np.zeros(classes)])
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9}
    return float(minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options).fun)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5, 40),
    dim=st.integers(1, 60),
    classes=st.integers(3, 6),
    power=st.floats(-3, 0),
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    gap=st.sampled_from([0.1, 1e-3, 1e-6]),
)
def test_the_bound_holds_beside_an_independent_optimum(
    seed: int, rows: int, dim: int, classes: int, power: float, scale: float, gap: float
) -> None:
    """Of more rows than dimensions or fewer, F is within the bound of the optimum that scipy finds."""
    data, l2 = drawn(seed, rows, dim, classes), 10.0**power
    toward = rows_of(seed, classes, dim, scale)

    found = solve(*data, classes, l2, gap=gap, toward=toward)
    optimum = independent_optimum(data, toward[:-1], l2)

    assert found.converged
    assert found.objective >= optimum - 1e-7 * max(1.0, optimum)
    assert found.objective - optimum <= found.gap_bound + 1e-7 * max(1.0, optimum)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(4, 20), more=st.integers(1, 40), seed=st.integers(0, 2**16), started=st.booleans())
def test_fewer_rows_than_dimensions_have_the_same_solution(rows: int, more: int, seed: int, started: bool) -> None:
    """Solved in as many dimensions as there are rows, W and b are those of the whole space, W₀ outside them kept."""
    data = drawn(seed, rows, rows + more, 4)
    toward = rows_of(seed, 4, rows + more, 0.3)
    starts = [(toward / 2, torch.zeros(4))] if started else []

    few = solve(*data, 4, 1e-2, gap=1e-10, toward=toward, starts=starts)
    whole_space = solve_stream(whole(*data), 4, 1e-2, double=True, gap=1e-10, toward=toward, starts=starts)
    centred = data[0] - data[2] @ data[0]
    outside = torch.linalg.qr(torch.cat([centred.T, torch.randn(rows + more, 1, dtype=torch.float64)], 1))[0][:, -1]

    assert few.objective == pytest.approx(whole_space.objective, rel=1e-9)
    assert torch.allclose(few.weight, whole_space.weight, atol=2e-4)
    assert torch.allclose(few.bias, whole_space.bias, atol=2e-3)
    assert torch.allclose(few.weight @ outside, toward @ outside, atol=1e-9)


@pytest.mark.parametrize("dim", [3, 100])
def test_a_class_without_rows_keeps_its_row_and_can_be_predicted(dim: int) -> None:
    """What lies where its row of W₀ points is of that class, however the features are shifted."""
    features, labels, omega = drawn(4, 60, dim, 3)
    toward = rows_of(4, 3, dim, 0.1)
    toward[-1] = 2 * torch.nn.functional.normalize(torch.ones(dim, dtype=torch.float64), dim=0)

    found = solve(features, labels, omega, 3, 1e-1, gap=1e-8, toward=toward)
    shifted = solve(features + 7, labels, omega, 3, 1e-1, gap=1e-8, toward=toward)
    far = omega @ features + 100 * toward[-1] - 50 * (found.weight[:-1] - toward[:-1]).sum(0)

    assert torch.allclose(found.weight[-1], toward[-1])
    assert int((found.weight @ far + found.bias).argmax()) == 2
    logits, others = (z @ own.weight.T + own.bias for z, own in ((features, found), (features + 7, shifted)))
    assert torch.allclose(logits - logits.mean(1, keepdim=True), others - others.mean(1, keepdim=True), atol=1e-2)


def test_nothing_is_what_a_zero_is() -> None:
    """Toward zero, W and b of classes with rows are those of the plain problem."""
    data = problem(3)

    plain = solve(*data, 4, 1e-3, gap=1e-9)
    same = solve(*data, 4, 1e-3, gap=1e-9, toward=torch.zeros(4, data[0].shape[1]))

    assert torch.equal(plain.weight, same.weight)
    assert plain.gap_bound == same.gap_bound


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_strong_penalty_leaves_the_given_weights(kind: torch.dtype) -> None:
    """With a penalty that outweighs all rows the solution is W₀, in either precision."""
    features, labels, omega = problem(5)
    toward = rows_of(5, 4, 8, 0.01).to(kind)

    found = solve_stream(
        whole(features.to(kind), labels, omega.to(kind)), 4, 1e6, double=kind == torch.float64, toward=toward
    )

    assert found.converged
    assert torch.allclose(found.weight.double(), toward.double(), atol=1e-5)
