"""EMANATE against slow, obvious loops, and the properties that the paper's proof rests on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from breadcrumbs.training.emanate import back_track, balanced_target, class_loss, class_means, rank_in_class, transfer


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Features (N, D) in float64, labels (N,) with every class at least once, and C."""
    classes = draw(st.integers(1, 5))
    extra = draw(st.lists(st.integers(0, classes - 1), max_size=12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    labels = torch.tensor([*range(classes), *extra])
    features = torch.randn(len(labels), draw(st.integers(1, 6)), generator=generator, dtype=torch.float64) * 3
    return features, labels, classes


def obvious_transfer(features: Tensor, labels: Tensor, new_means: Tensor) -> Tensor:
    """Eq. 6, one row at a time."""
    moved = []
    for i in range(len(features)):
        own = [features[j] for j in range(len(features)) if labels[j] == labels[i]]
        mean = sum(own[1:], own[0]) / len(own)
        moved.append(features[i] - mean + new_means[labels[i]])
    return torch.stack(moved)


@given(snapshots())
def test_transfer_equals_the_obvious_loop(snapshot) -> None:
    """The vectorised transfer is eq. 6 row by row."""
    features, labels, classes = snapshot
    target = torch.randn(classes, features.shape[1], dtype=torch.float64)

    means, _ = class_means(features, labels, classes)

    assert torch.allclose(transfer(features, labels, means, target), obvious_transfer(features, labels, target))


@given(snapshots())
def test_transfer_moves_only_the_mean(snapshot) -> None:
    """After transfer the class means are the target's and every class's covariance is what it was."""
    features, labels, classes = snapshot
    target = torch.randn(classes, features.shape[1], dtype=torch.float64)

    means, _ = class_means(features, labels, classes)
    moved = transfer(features, labels, means, target)

    assert torch.allclose(class_means(moved, labels, classes)[0], target)
    for c in range(classes):
        before, after = features[labels == c], moved[labels == c]
        assert torch.allclose(before.T.cov(correction=0), after.T.cov(correction=0), atol=1e-10)


@given(snapshots())
def test_the_identity_of_the_lemmas_proof_is_exact(snapshot) -> None:
    """The loss of transferred features equals the loss of the old ones under a shifted bias, for any W and b."""
    features, labels, classes = snapshot
    dim = features.shape[1]
    target = torch.randn(classes, dim, dtype=torch.float64)
    weight, bias = torch.randn(classes, dim, dtype=torch.float64), torch.randn(classes, dtype=torch.float64)

    means, _ = class_means(features, labels, classes)
    moved = class_loss(transfer(features, labels, means, target), labels, weight, bias)

    for y in range(classes):
        shifted = bias + weight @ (target[y] - means[y])
        old = class_loss(features, labels, weight, shifted)[y]
        assert torch.allclose(moved[y], old, rtol=1e-9, atol=1e-9)


@given(snapshots(), snapshots())
def test_the_loss_of_a_union_is_the_size_weighted_mean(one, other) -> None:
    """L_y of a union is the size-weighted mean of its parts: one half each for two equal parts (eq. 9)."""
    classes = max(one[2], other[2])
    dim = min(one[0].shape[1], other[0].shape[1])
    a, b = one[0][:, :dim], other[0][:, :dim]
    weight, bias = torch.randn(classes, dim, dtype=torch.float64), torch.randn(classes, dtype=torch.float64)

    union = class_loss(torch.cat([a, b]), torch.cat([one[1], other[1]]), weight, bias)
    loss_a, loss_b = class_loss(a, one[1], weight, bias), class_loss(b, other[1], weight, bias)

    size_a, size_b = (torch.bincount(labels, minlength=classes) for labels in (one[1], other[1]))
    both = (size_a > 0) & (size_b > 0)
    mean = (size_a * loss_a + size_b * loss_b) / (size_a + size_b)
    assert torch.allclose(union[both], mean[both])
    equal = class_loss(torch.cat([a, a + 1]), torch.cat([one[1], one[1]]), weight, bias)
    half = (loss_a + class_loss(a + 1, one[1], weight, bias)) / 2
    assert torch.allclose(equal[size_a > 0], half[size_a > 0])


def test_an_absent_class_has_a_zero_mean_and_no_loss() -> None:
    """An absent class gives no NaN mean that would stay; its loss alone is undefined."""
    features, labels = torch.ones(2, 3), torch.tensor([0, 2])

    means, counts = class_means(features, labels, 3)
    loss = class_loss(features, labels, torch.zeros(3, 3), torch.zeros(3))

    assert torch.equal(means[1], torch.zeros(3))
    assert counts.tolist() == [1, 0, 1]
    assert loss[1].isnan()
    assert not loss[[0, 2]].isnan().any()


def test_half_precision_features_are_summed_in_single() -> None:
    """Means of float16 features do not overflow where the sum leaves float16's range."""
    features = torch.full((1000, 1), 300.0, dtype=torch.float16)

    means, _ = class_means(features, torch.zeros(1000, dtype=torch.int64), 1)

    assert means.dtype == torch.float32
    assert means.item() == pytest.approx(300)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20).filter(any))
def test_epochs_back_are_the_fewest_that_suffice(counts: list[int]) -> None:
    """q_y = ceil(n / n_y): q_y epochs reach the target n, one less does not."""
    target = balanced_target(sum(counts), len(counts))

    back = back_track(torch.tensor(counts), target).tolist()

    assert target == -(-sum(counts) // len(counts))
    for n, q in zip(counts, back, strict=True):
        assert q == 0 if n == 0 else (q * n >= target and (q - 1) * n < target)


@given(snapshots(), st.integers(0, 2**31))
def test_the_rank_in_its_class_is_the_count_of_those_before(snapshot, seed: int) -> None:
    """In any order of the rows, a row's rank is how many of its class come before it."""
    _, labels, _ = snapshot
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))

    rank = rank_in_class(labels, order)

    for place, row in enumerate(order):
        assert rank[row] == (labels[order[:place]] == labels[row]).sum()
