"""How far probabilities hold, against a slow version, and on draws whose probabilities are true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.calibration import CalibratedGroup
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.head import softmax
from breadcrumbs.training.calibration import BIN_ROWS, BINS, compared, row_weights


def slow(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Calibration error and log loss, row by row."""
    p = softmax(logits)
    count = min(BINS, max(1, len(labels) // BIN_ROWS))
    gaps, done, loss = [0.0] * count, 0.0, 0.0
    whole = weights.sum()
    for row in sorted(range(len(labels)), key=lambda i: p[i].max()):
        place = min(int(count * (done + weights[row] / 2) / whole), count - 1)
        done += weights[row]
        gaps[place] += weights[row] * (p[row].max() - (p[row].argmax() == labels[row]))
        loss -= weights[row] * np.log(max(p[row][labels[row]], 1e-30))
    return sum(map(abs, gaps)) / whole, loss / whole


@given(st.integers(0, 1000), st.integers(1, 150), st.integers(2, 9), st.floats(0.4, 3))
@settings(deadline=None, max_examples=40)
def test_the_numbers_are_those_of_a_slow_version(seed: int, rows: int, classes: int, value: float) -> None:
    """By group of the answer, any prior; a group that is not answered is left out."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    own: list[Group] = [GROUPS[k] for k in rng.integers(0, 3, classes)]
    prior = rng.dirichlet(np.ones(classes))

    found = compared(value * logits, logits, labels, own, prior, seed)

    weights, answered = row_weights(labels, prior), np.array(own)[logits.argmax(1)]
    assert set(found) == {"all", *answered}
    for name, group in found.items():
        told = CalibratedGroup.model_validate(group)
        mask = np.ones(rows, bool) if name == "all" else answered == name
        assert told.rows == mask.sum()
        for head, scaled in ((told.before, value * logits), (told.after, logits)):
            ece, nll = slow(scaled[mask], labels[mask], weights[mask])
            assert (head.ece.value, head.nll.value) == (pytest.approx(ece, abs=1e-9), pytest.approx(nll))
        assert told.change.ece.value == pytest.approx(told.after.ece.value - told.before.ece.value)
        assert told.change.nll.low <= told.change.nll.high


@pytest.mark.parametrize("prior", [np.full(4, 0.25), np.array([0.7, 0.2, 0.06, 0.04])])
def test_true_probabilities_hold_and_others_do_not(prior: np.ndarray) -> None:
    """Labels drawn from the probabilities of the prior that is meant, rows drawn of every class alike."""
    rng = np.random.default_rng(0)
    means = 1.5 * rng.normal(size=(4, 5))
    labels = np.repeat(np.arange(4), 1500)
    features = means[labels] + rng.normal(size=(len(labels), 5))
    logits = features @ means.T - (means**2).sum(1) / 2 + np.log(prior)

    found = compared(3 * logits, logits, labels, ["many", "many", "few", "few"], prior)["all"]

    assert found["after"]["ece"]["value"] < 0.02
    assert found["before"]["ece"]["value"] > found["after"]["ece"]["high"]
    assert found["change"]["nll"]["high"] < 0
    curve = found["after"]["curve"]
    assert len(curve) == BINS
    assert [one["probability"] for one in curve] == sorted(one["probability"] for one in curve)


def test_weights_make_classes_as_frequent_as_the_prior_says() -> None:
    """Whatever rows there are of each; a class without rows has no part."""
    labels = np.array([0, 0, 0, 2])

    weights = row_weights(labels, np.array([0.5, 0.25, 0.25]))

    assert weights.tolist() == pytest.approx([2 / 9, 2 / 9, 2 / 9, 1 / 3])
