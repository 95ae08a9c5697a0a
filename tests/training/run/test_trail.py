"""The trail against the paper's construction, written slowly: queues of epochs, a class at a time."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from breadcrumbs.training.data.order import Order
from breadcrumbs.training.emanate import back_track
from breadcrumbs.training.recipes import RECIPES
from breadcrumbs.training.run.trail import Trail


def epochs_of(labels: Tensor, dim: int, number: int, seed: int) -> list[Tensor]:
    """Features of a few epochs, each (N, D), drifting."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(labels), dim, generator=generator) + e for e in range(number)]


def paper_set(labels: Tensor, epochs: list[Tensor], target: int, y: int) -> Tensor:
    """Class y's part of the balanced set as the release builds it: last q_y epochs, newest first, cut to n."""
    own = [features[labels == y] for features in epochs]
    back = -(-target // len(own[0]))
    newest_mean = own[-1].mean(0)
    rows = [features - features.mean(0) + newest_mean for features in reversed(own[-back:])]
    return torch.cat(rows)[:target]


def walk(trail: Trail, epochs: list[Tensor], batch: int = 7) -> None:
    """Record and close epochs, batch by batch, in another order each time."""
    for number, features in enumerate(epochs):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(number))
        for rows in order.split(batch):
            trail.record(rows, features[rows])
        trail.close_epoch()


def whole_set(trail: Trail, steps: int = 5) -> tuple[Tensor, Tensor]:
    """The balanced set of an epoch, all steps together."""
    parts = [trail.balanced(step, steps) for step in range(steps)]
    return torch.cat([p.features for p in parts]), torch.cat([p.labels for p in parts])


def sorted_rows(rows: Tensor) -> Tensor:
    """Rows in an order of their own, to compare sets."""
    return rows[rows[:, 0].argsort()]


def long_tail(rows: int, classes: int) -> Tensor:
    """Labels of about that many rows: every class has one, the largest about a hundred times as many as the median."""
    share = torch.logspace(0, -4, classes)
    counts = (share / share.sum() * max(0, rows - classes)).long() + 1
    counts[0] += max(0, rows - int(counts.sum()))
    return torch.repeat_interleave(torch.arange(classes), counts)


def check_even(labels: Tensor, classes: int, steps: int) -> None:
    """After an epoch, the parts of the balanced set are all of its rows, and their sizes differ by one at most."""
    trail = Trail(labels, classes, 1)
    trail.record(torch.arange(len(labels)), torch.ones(len(labels), 1))
    trail.close_epoch()
    whole = classes * trail.target

    sizes = [len(trail.balanced(step, steps).labels) for step in range(steps)]

    assert sum(sizes) == whole
    assert set(sizes) <= {whole // steps, -(-whole // steps)}
    assert min(sizes) >= 1


@settings(max_examples=100)
@given(st.integers(1, 3000), st.integers(1, 300), st.integers(1, 3000))
def test_every_step_has_its_even_share(rows: int, classes: int, steps: int) -> None:
    """Whatever N, C and S, no step is empty and none is larger than another by more than one row."""
    assume(steps <= rows)

    check_even(long_tail(max(rows, classes), classes), classes, steps)


SHAPES = {
    "demo": (2_478, 10),
    "fashion-mnist-lt": (13_996, 10),
    "cifar100-lt": (10_847, 100),
    "imagenet-lt-r10": (115_846, 1_000),
    "places-lt-r152": (62_500, 365),
    "inat18-r50": (437_513, 8_142),
    "finetune": (4_801, 140),
}
"""Training images and classes of each recipe's data."""
COMMON = {
    "cifar100-lt, factor 10": (19_573, 100, 128),
    "196 classes": (8_144, 196, 64),
    "ImageNet": (1_281_167, 1_000, 64),
}


@pytest.mark.parametrize(
    ("rows", "classes", "batch"),
    [*((*SHAPES[name], recipe.batch_size) for name, recipe in RECIPES.items()), *COMMON.values()],
    ids=[*RECIPES, *COMMON],
)
def test_the_shape_of_every_recipe_is_cut_evenly(rows: int, classes: int, batch: int) -> None:
    """Each shipped recipe, and sets of the field that were cut into empty steps."""
    check_even(long_tail(rows, classes), classes, len(Order(rows, batch, 0)))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**31))
def test_the_balanced_set_is_the_papers(counts: list[int], seed: int) -> None:
    """Once complete: for each class its last q_y epochs, newest first, cut to n, moved to the newest mean."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    trail = Trail(labels, len(counts), 3, uniform=False)
    number = int(back_track(torch.tensor(counts), trail.target).max()) + 2
    epochs = epochs_of(labels, 3, number, seed)

    walk(trail, epochs)
    features, drawn = whole_set(trail)

    assert trail.complete
    assert len(features) == trail.target * len(counts)
    for y in range(len(counts)):
        expected = paper_set(labels, epochs, trail.target, y)
        assert torch.allclose(sorted_rows(features[drawn == y]), sorted_rows(expected), atol=1e-4)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(1, 4), st.integers(0, 2**31))
def test_uniform_draws_keep_whole_newer_epochs(counts: list[int], number: int, seed: int) -> None:
    """With uniform draws, too, every newer epoch is there whole and only the oldest is cut."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    trail = Trail(labels, len(counts), 2, seed=seed)
    epochs = epochs_of(labels, 2, number, seed)

    walk(trail, epochs)
    features, drawn = whole_set(trail)

    for y, count in enumerate(counts):
        present = {tuple(round(v, 3) for v in row) for row in features[drawn == y].tolist()}
        newest = epochs[-1][labels == y].mean(0)
        whole = min(number, trail.target // count)
        for old in epochs[number - whole :]:
            own = old[labels == y]
            for row in (own - own.mean(0) + newest).tolist():
                assert any(max(abs(a - b) for a, b in zip(row, seen, strict=True)) < 2e-3 for seen in present)


def test_before_completion_a_class_repeats_what_it_has() -> None:
    """With too few crumbs each weighs n / available: every class still offers n features."""
    labels = torch.tensor([0] * 9 + [1])
    trail = Trail(labels, 2, 2)

    walk(trail, epochs_of(labels, 2, 2, 0))
    features, drawn = whole_set(trail)

    assert trail.target == 5
    assert torch.bincount(drawn).tolist() == [5, 5]
    assert len(features[drawn == 1].unique(dim=0)) == 1  # a class of one image: its residual is zero
    assert not trail.complete


def test_weights_are_as_even_as_repeats_can_be() -> None:
    """No crumb of a class is drawn twice more often than another."""
    labels = torch.tensor([0] * 17 + [1] * 3)
    trail = Trail(labels, 2, 4)

    walk(trail, epochs_of(labels, 4, 2, 0))
    features, drawn = whole_set(trail)

    _, repeats = features[drawn == 1].unique(dim=0, return_counts=True)
    assert sorted(repeats.tolist()) == [1, 1, 2, 2, 2, 2]


def test_head_class_is_drawn_uniformly() -> None:
    """A class with more than n images offers different ones in different epochs, never one twice."""
    labels = torch.tensor([0] * 20 + [1, 1])
    trail = Trail(labels, 2, 1)
    features = torch.arange(22.0).unsqueeze(1)
    seen = set[float]()

    for _ in range(12):
        walk(trail, [features])
        drawn, drawn_labels = whole_set(trail)
        own = [round(v, 2) for v in drawn[drawn_labels == 0, 0].tolist()]
        assert len(set(own)) == trail.target == 11
        seen |= set(own)

    assert len(seen) == 20


def test_an_unseen_class_keeps_its_crumbs_and_its_mean() -> None:
    """A class that an epoch does not see gives no NaN and loses nothing."""
    labels = torch.tensor([0, 0, 0, 1, 1])
    trail = Trail(labels, 2, 2)
    first = epochs_of(labels, 2, 1, 3)[0]

    walk(trail, [first])
    trail.record(torch.tensor([0, 1, 2]), torch.zeros(3, 2))
    trail.close_epoch()
    features, drawn = whole_set(trail)

    assert not features.isnan().any()
    assert torch.allclose(trail.means[1], first[3:].mean(0))
    assert (drawn == 1).sum() == trail.target


def test_a_class_never_seen_is_not_drawn() -> None:
    """Until a class has left a crumb, it has no part in the balanced set."""
    trail = Trail(torch.tensor([0, 0, 1]), 2, 2)

    trail.record(torch.tensor([0, 1]), torch.ones(2, 2))
    trail.close_epoch()

    assert set(whole_set(trail)[1].tolist()) == {0}


def test_memory_is_two_n_d_and_does_not_grow() -> None:
    """The tensors are allocated once: C·n + N rows, and the same storage after many epochs."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor([500, 200, 100, 80, 50, 30, 20, 10, 5, 5]))
    trail = Trail(labels, 10, 64)
    large = [t for t in vars(trail).values() if isinstance(t, Tensor) and t.ndim == 2]
    before = {t.data_ptr() for t in (trail._fresh, trail._residuals)}

    walk(trail, epochs_of(labels, 64, 5, 0), batch=100)

    assert sum(t.numel() for t in large) <= 2.2 * len(labels) * 64
    assert {t.data_ptr() for t in (trail._fresh, trail._residuals)} == before


def test_state_goes_on_exactly() -> None:
    """A trail restored from its state draws what the original draws, in the same order."""
    labels = torch.tensor([0] * 8 + [1] * 3 + [2])
    epochs = epochs_of(labels, 3, 5, 0)
    one, other = Trail(labels, 3, 3, seed=4), Trail(labels, 3, 3, seed=4)

    walk(one, epochs[:3])
    other.load_state_dict(one.state_dict())
    for trail in (one, other):
        walk(trail, epochs[3:])

    for a, b in zip(whole_set(one), whole_set(other), strict=True):
        assert torch.equal(a, b)


def test_gradients_are_left_behind() -> None:
    """What is recorded carries no graph, so memory does not hold old forward passes."""
    trail = Trail(torch.tensor([0, 1]), 2, 2)
    features = torch.ones(2, 2, requires_grad=True) * 2

    trail.record(torch.tensor([0, 1]), features)

    assert not trail.snapshot()[1].requires_grad
