"""Heads made without a gradient, against slow and obvious versions of them."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean, tau_normalised

CLASSES = ("a", "b", "c")


def some_head(seed: int = 0) -> LinearHead:
    """A head of three classes and five features."""
    rng = np.random.default_rng(seed)
    return LinearHead(rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=3).astype(np.float32), CLASSES)


def long_tail(counts: tuple[int, ...] = (60, 20, 5), dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds that overlap, of 60, 20 and 5 rows."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), counts)
    return (rng.normal(size=(len(labels), dim)) + 1.2 * np.eye(3, dim)[labels]).astype(np.float32), labels


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_tau_divides_each_weight_by_its_norm(tau: float) -> None:
    """Each row is the weight over its norm to the power τ, written as a loop; the bias is gone."""
    head = some_head()

    found = tau_normalised(head, tau)

    for own, weight in zip(found.weight, head.weight, strict=True):
        length = sum(float(w) ** 2 for w in weight) ** 0.5
        assert own.tolist() == pytest.approx([float(w) / length**tau for w in weight], rel=1e-5)
    assert found.bias.tolist() == [0, 0, 0]
    assert found.classes == CLASSES


def test_a_weight_of_zero_stays_zero() -> None:
    """A class without a weight has no direction to normalise, and nothing is divided by zero."""
    head = LinearHead(np.float32([[0, 0], [3, 4]]), np.zeros(2, np.float32), ("a", "b"))

    assert np.allclose(tau_normalised(head, 1).weight, [[0, 0], [0.6, 0.8]])


def test_the_nearest_mean_is_given() -> None:
    """The linear head gives the class that a loop over the distances to the means gives, with its probabilities."""
    features, labels = long_tail()
    queries = np.random.default_rng(2).normal(size=(50, 5)).astype(np.float32)
    means = [features[labels == c].mean(0) for c in range(3)]

    logits = nearest_class_mean(features, labels, CLASSES).logits(queries).astype(np.float64)

    distances = np.array([[((z - mean) ** 2).sum() for mean in means] for z in queries])
    assert (logits.argmax(1) == distances.argmin(1)).all()
    assert np.allclose(log_softmax(logits, 1), log_softmax(-distances / 2, 1), atol=1e-4)


def test_a_class_without_rows_is_never_the_nearest() -> None:
    """Not even where every mean is far away and the origin is near."""
    features, labels = long_tail()

    head = nearest_class_mean(features[labels < 2] + 100, labels[labels < 2], CLASSES)

    assert (head.logits(np.zeros((1, 5))).argmax(1) < 2).all()


def test_logits_are_less_by_t_log_prior() -> None:
    """What is adjusted is each row's logits, and by the same everywhere; t = 0 leaves the head."""
    head, log_prior = some_head(), np.log([0.7, 0.2, 0.1])
    features = long_tail()[0]

    found = logit_adjusted(head, log_prior, 0.5).logits(features)

    assert np.allclose(found, head.logits(features) - 0.5 * log_prior, atol=1e-5)
    assert logit_adjusted(head, log_prior, 0).digest == head.digest


def minimiser(features: np.ndarray, labels: np.ndarray, log_shift: np.ndarray, l2: float) -> LinearHead:
    """Minimise −mean log softmax(Wz + b + shift)_y + (λ/2)‖W‖² over W and a free b, by scipy."""
    rows, dim = features.shape
    one_hot = np.eye(3)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = flat[: 3 * dim].reshape(3, dim), flat[3 * dim :]
        logs = log_softmax(features @ weight.T + bias + log_shift, 1)
        slope = (np.exp(logs) - one_hot) / rows
        value = -(logs * one_hot).sum() / rows + l2 / 2 * (weight**2).sum()
        return value, np.concatenate([(slope.T @ features + l2 * weight).ravel(), slope.sum(0)])

    found = minimize(loss, np.zeros(3 * dim + 3), jac=True, method="BFGS", options={"gtol": 1e-9})
    flat = found.x.astype(np.float32)
    return LinearHead(flat[: 3 * dim].reshape(3, dim), flat[3 * dim :], CLASSES)


def test_balanced_softmax_with_a_free_bias_is_the_adjusted_joint_head() -> None:
    """Minimising balanced softmax gives the joint minimiser adjusted by t = 1: same weights, same probabilities."""
    features, labels = long_tail()
    wide = features.astype(np.float64)
    log_prior = np.log(np.bincount(labels) / len(labels))
    joint = minimiser(wide, labels, np.zeros(3), 1e-2)
    balanced = minimiser(wide, labels, log_prior, 1e-2)

    adjusted = logit_adjusted(joint, log_prior, 1)

    assert np.allclose(adjusted.weight, balanced.weight, atol=1e-4)
    assert np.allclose(adjusted.bias - adjusted.bias.mean(), balanced.bias - balanced.bias.mean(), atol=1e-4)
    queries = np.random.default_rng(3).normal(size=(500, 5))
    assert np.allclose(log_softmax(adjusted.logits(queries), 1), log_softmax(balanced.logits(queries), 1), atol=1e-3)
    assert (joint.logits(queries).argmax(1) != balanced.logits(queries).argmax(1)).mean() > 0.1
