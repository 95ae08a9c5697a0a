"""The temperature of a head, on draws whose temperature is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from breadcrumbs.models.head import LinearHead, softmax
from breadcrumbs.models.prior import Prior
from breadcrumbs.training import temperature as temperatures
from breadcrumbs.training.temperature import SPREAD, calibrated, class_weights, fit_temperature, with_temperature


def log_shares(counts: list[int]) -> Tensor:
    """Log π of classes with so many images."""
    return torch.tensor(counts).double().div(sum(counts)).log().float()


def drawn(seed: int, labels: Tensor, truth: float, dim: int = 5) -> Tensor:
    """Logits z (N, C) of images of these classes, whose true probabilities are softmax(z / truth + log π), for any π.

    A class's features are a Gaussian around its mean μ, so its true logit is μ · x − ½‖μ‖².
    """
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(int(labels.max()) + 1, dim, generator=draw)
    features = means[labels] + torch.randn(len(labels), dim, generator=draw)
    return truth * (features @ means.T - means.square().sum(1) / 2)


@given(st.integers(0, 1000), st.floats(0.5, 3), st.lists(st.integers(20, 2000), min_size=2, max_size=12))
@settings(deadline=None, max_examples=30)
def test_the_temperature_of_a_draw_is_found(seed: int, truth: float, counts: list[int]) -> None:
    """For any classes and any long tail, within five standard errors, however many rows of a class are scored."""
    scored = torch.tensor(counts).clamp(max=500)
    labels = torch.repeat_interleave(torch.arange(len(counts)), scored)

    found = fit_temperature(drawn(seed, labels, truth), labels, log_shares(counts))

    width = (1 / found.low - 1 / found.high) / (2 * 1.96)
    toward = (1 - 1 / truth) * (width / SPREAD) ** 2  # what is known without rows draws it so far to 1
    assert abs(1 / found.value - 1 / truth) < 5 * width + abs(toward)
    assert found.low < found.value < found.high
    assert found.rows == len(labels)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 9))
@settings(deadline=None, max_examples=40)
def test_it_is_the_least_of_its_objective(seed: int, rows: int, classes: int) -> None:
    """Against a search on a grid, written as the docstring has it; also of one row, and of rows that are all right."""
    rng = np.random.default_rng(seed)
    log_prior = log_shares(rng.integers(1, 100, classes).tolist())
    logits = torch.from_numpy(rng.normal(size=(rows, classes)) * rng.choice([0.1, 3, 30]))
    labels = logits.argmax(1) if seed % 3 == 0 else torch.from_numpy(rng.integers(0, classes, rows))

    found = fit_temperature(logits, labels, log_prior)

    weights = class_weights(labels, log_prior)

    def objective(beta: float) -> float:
        losses = -torch.log_softmax(beta * logits + log_prior, 1)[torch.arange(rows), labels]
        return float((weights * losses).sum() / weights.square().sum()) + (beta - 1) ** 2 / 0.5

    least = min(objective(beta) for beta in np.linspace(0.05, 4, 400))
    assert objective(1 / found.value) <= least + 1e-3 * (1 + abs(least))
    assert found.effective_rows == pytest.approx(1 / float(weights.square().sum()))


def test_no_row_leaves_the_head_as_it_is() -> None:
    """There is nothing to fit T to."""
    found = fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), torch.zeros(3))

    assert (found.value, found.rows) == (1.0, 0)


@given(st.integers(0, 1000), st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=30)
def test_few_rows_move_it_less_than_many(seed: int, sign: int) -> None:
    """Rows that are all wrong, or all right, send it only as far as their number allows."""
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
    labels = (sign * z).argmax(1)
    z, labels = z.repeat(2, 1), labels.repeat(2)
    flat = torch.full((3,), -np.log(3))

    distances = [abs(1 / fit_temperature(z[:n], labels[:n], flat).value - 1) for n in (1, 128)]

    assert distances[0] < distances[1]


def test_rows_are_weighed_as_their_classes_are_frequent() -> None:
    """Whatever the number of rows that were scored of each class."""
    labels = torch.tensor([0, 0, 0, 1])
    weights = class_weights(labels, torch.tensor([0.9, 0.1]).log())

    assert weights.tolist() == pytest.approx([0.3, 0.3, 0.3, 0.1])


def test_of_many_rows_some_of_every_class_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a thousand classes take no minutes."""
    log_prior = log_shares([900, 90, 10])
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([900, 90, 10]))
    logits = drawn(0, labels, 2.0)
    whole = fit_temperature(logits, labels, log_prior)
    monkeypatch.setattr(temperatures, "ENOUGH", 3 * 300)

    part = fit_temperature(logits, labels, log_prior)

    assert part.rows <= 300
    assert part.low < whole.value < part.high


@given(st.integers(0, 1000), st.floats(0.1, 10), st.integers(2, 30), st.sampled_from([1, 3, 2048]))
@settings(deadline=None, max_examples=30)
def test_a_temperature_changes_no_answer(seed: int, value: float, classes: int, dim: int) -> None:
    """The order of the classes stays, up to what float32 can tell apart."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{c} {'ß' * 60}" for c in range(classes))
    head = LinearHead(rng.normal(size=(classes, dim)).astype("f4"), rng.normal(size=classes).astype("f4"), names)
    features = rng.normal(size=(50, dim))

    before, after = head.logits(features), calibrated(head, value).logits(features)

    top = before.max(1) - np.take_along_axis(before, after.argmax(1)[:, None], 1)[:, 0]
    assert (top <= 1e-4 * np.abs(before).max(1)).all()
    assert np.allclose(softmax(after), softmax(before / value), atol=1e-4)


@given(st.integers(0, 1000), st.floats(0.3, 4), st.integers(2, 9), st.booleans())
@settings(deadline=None, max_examples=50)
def test_a_requests_prior_follows_the_temperature(seed: int, value: float, classes: int, own: bool) -> None:
    """The answer is softmax(z / T + log π) in closed form, whatever prior the head has of its own."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {c}" for c in range(classes))
    plain = LinearHead(rng.normal(size=(classes, 4)).astype("f4"), rng.normal(size=classes).astype("f4"), names)
    features, weights = rng.normal(size=(5, 4)), dict(zip(names, rng.uniform(0.01, 9, classes), strict=True))
    deployment = torch.from_numpy(rng.dirichlet(np.ones(classes)) + 1e-4).log() if own else None

    head = calibrated(plain, value, deployment)
    found = softmax(head.logits(features) + Prior(weights).log(head))

    powers = np.exp(plain.logits(features).astype(float) / value) * np.array(list(weights.values()))
    assert found == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-5)


@given(st.integers(0, 1000), st.floats(0.3, 4))
@settings(deadline=None, max_examples=20)
def test_head_and_logits_are_calibrated_alike(seed: int, value: float) -> None:
    """What is measured out of fold is what the head says."""
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(3, 4)).astype("f4"), rng.normal(size=3).astype("f4"), ("a", "b", "c"))
    features, log_prior = rng.normal(size=(6, 4)), torch.tensor([0.7, 0.2, 0.1]).log()

    logits = with_temperature(torch.from_numpy(head.logits(features)), value, log_prior)

    assert np.allclose(calibrated(head, value, log_prior).logits(features), logits.numpy(), atol=1e-4)
