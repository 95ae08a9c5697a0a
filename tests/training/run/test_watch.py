"""The watched images and the best epoch: drawn sizes and scores, against slow and obvious versions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from breadcrumbs.training.data.split import Split
from breadcrumbs.training.run.watch import FEWEST, MARGIN, MOST, Watch, divided

COUNTS = st.lists(st.integers(0, 120), min_size=2, max_size=12)
SCORES = st.lists(st.integers(0, 20).map(lambda score: score / 20), min_size=1, max_size=12)


def images(counts: list[int]) -> Split:
    """So many images of each class, of one pixel, in a drawn order."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    return Split(labels, np.arange(len(labels)) + 7, pixels=np.zeros((len(labels), 1, 1), np.uint8))


def watch(patience: int = 3) -> Watch:
    """A comparison on four images of two classes."""
    return Watch(images([2, 2]), patience)


def network(epoch: int) -> nn.Linear:
    """A network whose weights tell its epoch."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, epoch)
    return layer


@given(COUNTS, st.integers(0, 2**31 - 1))
def test_images_are_watched_or_learned_from(counts: list[int], seed: int) -> None:
    """Every image is in one part; a small class keeps its images, a larger one gives a tenth, within a limit."""
    whole = images(counts)

    parts = divided(whole, len(counts), seed)

    if parts is None:
        assert sum(count >= FEWEST for count in counts) < max(2, len(counts) / 2)
        return
    assert sorted([*parts[0].ids, *parts[1].ids]) == sorted(whole.ids)
    for label, count in enumerate(counts):
        watched = int((parts[1].labels == label).sum())
        if count < FEWEST:
            assert watched == 0
        else:
            assert 1 <= watched <= min(MOST, count / 10 + 0.5)


@given(st.integers(0, 2**31 - 1))
def test_the_draw_follows_the_seed(seed: int) -> None:
    """One seed gives one draw."""
    first, second = divided(images([40, 30]), 2, seed), divided(images([40, 30]), 2, seed)

    assert first is not None
    assert second is not None
    assert first[1].ids.tolist() == second[1].ids.tolist()


@pytest.mark.parametrize("counts", [[500] + [3] * 9, [9, 9], [1], [30, 0], [1] * 1000])
def test_too_few_classes_are_not_watched(counts: list[int]) -> None:
    """Where most classes have no image to spare, nothing is watched: one large class says nothing of the others."""
    assert divided(images(counts), len(counts), 0) is None


@given(SCORES, st.integers(1, 5), st.integers(0, 1))
def test_the_best_epoch_is_kept(scores: list[float], patience: int, first: int) -> None:
    """The first of the highest scores is the best, its weights are kept, and training stops `patience` epochs later."""
    one = watch(patience)
    stopped = []
    for epoch, score in enumerate(scores, first):
        one.add(epoch, score, network(epoch))
        stopped.append(one.stopped)

    best = first + scores.index(max(scores))
    assert one.best == best
    assert float(one.weights["weight"]) == best
    for epoch in range(first, first + len(scores)):
        before = scores[: epoch - first + 1]
        assert stopped[epoch - first] == (len(before) - 1 - before.index(max(before)) >= patience)


def test_a_tiny_gain_is_none() -> None:
    """An epoch that is better by less than the margin is not the best, but such gains add up."""
    one = watch()
    for epoch, score in enumerate((0.5, 0.5 + MARGIN / 2, 0.5 + 1.5 * MARGIN)):
        one.add(epoch, score, network(epoch))

    assert one.best == 2


@given(SCORES)
def test_a_comparison_goes_on(scores: list[float]) -> None:
    """Brought back from its state it has the same scores and weights."""
    one, other = watch(), watch()
    for epoch, score in enumerate(scores):
        one.add(epoch, score, network(epoch))

    other.load_state_dict(one.state_dict())

    assert (other.scores, other.best, other.stopped) == (one.scores, one.best, one.stopped)
    assert torch.equal(other.weights["weight"], one.weights["weight"])


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({0: 0.8}, "no epoch was trained: the frozen start is exported, with 80.0 %"),
        ({0: 0.8, 1: 0.5, 2: 0.75}, "the frozen start was better than 2 epochs of training: 80.0 %"),
        ({0: 0.8, 1: 0.5, 2: 0.75}, "75.0 % after epoch 2, the best of them; the frozen start is exported"),
        ({0: 0.8, 1: 0.8}, "the frozen start was as good as 1 epoch of training: 80.0 %"),
        ({0: 0.8, 1: 0.9, 2: 0.7}, "epoch 1 of 2 was the best: 90.0 %"),
        ({0: 0.8, 1: 0.9, 2: 0.7}, "80.0 % at the frozen start; it is exported"),
        ({1: 0.9, 2: 0.7}, "epoch 1 of 2 was the best: 90.0 % balanced accuracy on 4 watched training images; it is"),
    ],
)
def test_the_verdict_has_both_numbers(scores: dict[int, float], told: str) -> None:
    """It says what is exported, and the balanced accuracy of the start and of the best epoch."""
    one = watch()
    for epoch, score in scores.items():
        one.add(epoch, score, network(epoch))

    assert told in one.verdict()
    assert one.as_dict()["exported_epoch"] == one.best
