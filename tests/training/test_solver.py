"""The solver against an independent one, and its promises about the optimum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.solver import solve


def problem(seed: int, rows: int = 300, dim: int = 8, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Ill-conditioned features, imbalanced labels, class-balanced weights."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([0.6, 0.25, 0.1, 0.05])[:classes]
    labels = torch.multinomial(share, rows, replacement=True, generator=generator)
    labels[:classes] = torch.arange(classes)
    scale = 10.0 ** torch.linspace(-1.5, 1, dim)
    centres = torch.randn(classes, dim, generator=generator)
    features = (torch.randn(rows, dim, generator=generator) + centres[labels]) * scale + 3
    counts = torch.bincount(labels, minlength=classes)
    return features, labels, 1 / (counts[labels] * classes)


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

    ours = solve(*data, 4, l2, gradient_norm=1e-8)
    theirs = LogisticRegression(C=1 / l2, solver="newton-cg", tol=1e-7, max_iter=1000).fit(
        features, labels, sample_weight=omega
    )

    minimum = objective(torch.tensor(theirs.coef_), torch.tensor(theirs.intercept_), data, l2)
    assert ours.objective <= minimum * (1 + 1e-6) + 1e-9
    assert ours.objective == pytest.approx(objective(ours.weight, ours.bias, data, l2), rel=1e-9)


@pytest.mark.parametrize("norm", [1e-2, 1e-4, 1e-6])
def test_gap_bound_is_never_below_the_true_gap(norm: float) -> None:
    """Wherever the solver stops, the optimum is within the bound it states."""
    data = problem(2)

    stopped = solve(*data, 4, 1e-3, gradient_norm=norm)
    optimum = solve(*data, 4, 1e-3, gradient_norm=1e-10)

    assert stopped.gradient_norm <= norm
    assert stopped.objective - optimum.objective + 1e-12 >= 0
    assert stopped.objective - optimum.objective <= stopped.gap_bound
    assert optimum.gap_bound < 1e-6


def test_gradient_norm_is_the_gradients() -> None:
    """The norm reported is that of F's gradient in the plain W and b, by autograd."""
    features, labels, omega = problem(3)

    found = solve(features, labels, omega, 4, 1e-3, gradient_norm=1e-3)
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

    weighted = solve(features, labels, weights / weights.sum(), 4, 1e-2, gradient_norm=1e-9)
    repeated = solve(features[doubled], labels[doubled], torch.full((80,), 1 / 80), 4, 1e-2, gradient_norm=1e-9)

    assert torch.allclose(weighted.weight, repeated.weight, atol=1e-5)


def test_a_warm_start_needs_fewer_iterations() -> None:
    """Started from a near solution, it is there at once."""
    data = problem(5)

    cold = solve(*data, 4, 1e-3, gradient_norm=1e-6)
    warm = solve(*data, 4, 1e-3, gradient_norm=1e-6, start=(cold.weight, cold.bias))

    assert warm.iterations < cold.iterations
    assert warm.objective == pytest.approx(cold.objective, abs=1e-9)


def test_progress_tells_the_gradient_norm() -> None:
    """Progress is the iteration, the gradient norm and the objective, which falls."""
    seen: list[tuple[int, float, float]] = []

    solve(*problem(6), 4, 1e-3, gradient_norm=1e-6, progress=lambda *values: seen.append(values))

    assert [iteration for iteration, _, _ in seen] == sorted({iteration for iteration, _, _ in seen})
    assert seen[-1][1] <= 1e-6
    assert np.all(np.diff([value for _, _, value in seen]) <= 1e-12)


def test_thread_count_is_left_as_it_was() -> None:
    """A small problem runs on one thread and gives the others back."""
    before = torch.get_num_threads()

    solve(*problem(7), 4, 1e-2)

    assert torch.get_num_threads() == before
