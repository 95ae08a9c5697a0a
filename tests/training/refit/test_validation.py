"""Folds over images, and heads that were fitted without one."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.training.config import Member
from breadcrumbs.training.folds import FOLDS
from breadcrumbs.training.refit.offset import balanced_accuracy
from breadcrumbs.training.refit.pool import Pool, pooled
from breadcrumbs.training.refit.validation import Validation, folds_of

MEMORY = 2**30


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 100))
@settings(deadline=None)
def test_folds_spread_every_class_evenly(labels: list[int], seed: int) -> None:
    """An image is in one fold, unless it is the only one of its class: then it is always fitted."""
    y = torch.tensor(labels)
    base = look(torch.zeros(len(y), 2), y)

    folds = torch.stack(folds_of(base, torch.ones(len(y), dtype=torch.bool), 6, seed))

    count = torch.bincount(y, minlength=6)
    assert len(folds) == FOLDS[0][1] == 5
    assert folds.sum(0).tolist() == (count[y] > 1).long().tolist()
    for c in range(6):
        sizes = folds[:, y == c].sum(1)
        assert int(sizes.max() - sizes.min()) <= 1


def test_images_that_are_set_aside_are_in_no_fold() -> None:
    """Nothing is chosen on the hold-out."""
    base = look(torch.zeros(20, 2), torch.arange(20) % 2)
    usable = torch.arange(20) < 10

    assert not any(fold[~usable].any() for fold in folds_of(base, usable, 2, 0))


def test_a_row_is_scored_by_a_head_that_never_saw_its_image() -> None:
    """The pool of each fold lacks the fold; a label that only one image has cannot be known to the head."""
    draw = torch.Generator().manual_seed(0)
    base = look(torch.randn(40, 3, generator=draw), torch.arange(40) % 2)
    usable = torch.ones(40, dtype=torch.bool)
    folds = folds_of(base, usable, 2, 0)
    fitted: list[Tensor] = []

    def pool(images: Tensor) -> Pool:
        fitted.append(images)
        return pooled(base, [], images, None, 0)

    found = Validation(base, usable, folds, pool, 2, MEMORY, "cpu")
    logits, _ = found.logits("plain", 1e-2)

    assert all(not (images & fold).any() for images, fold in zip(fitted, folds, strict=True))
    assert sorted(found.images.tolist()) == list(range(40))
    assert torch.equal(found.labels, base.labels[found.images])
    assert logits.shape == (40, 2)
    memorised = Validation(base, usable, [torch.zeros(40, dtype=torch.bool)], pool, 2, MEMORY, "cpu")
    assert len(memorised.labels) == 0


def test_many_classes_are_scored_by_fewer_rows_each() -> None:
    """So that the logits of one member stay within memory, whatever the number of classes."""
    base = look(torch.zeros(60, 2), torch.arange(60) % 2)
    usable = torch.ones(60, dtype=torch.bool)
    folds = folds_of(base, usable, 2, 0)

    def pool(images: Tensor) -> Pool:
        return pooled(base, [], images, None, 0)

    few, many = (Validation(base, usable, folds, pool, classes, MEMORY, "cpu") for classes in (2, 10_000))

    assert len(few.labels) == 60
    assert len(many.labels) == 2 * len(folds)


@given(st.integers(0, 1000), st.sampled_from([(400, 300, 8), (400, 600, 20)]))
@settings(deadline=None, max_examples=4)
def test_labels_without_any_meaning_are_guessed(seed: int, shape: tuple[int, int, int]) -> None:
    """At every penalty, one after the other, for each member: no fold learns from another fold's head."""
    count, width, classes = shape
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    base = look(torch.randn(count, width, generator=draw), labels)
    usable = torch.ones(count, dtype=torch.bool)

    def pool(images: Tensor) -> Pool:
        return pooled(base, [], images, None, 0)

    found = Validation(base, usable, folds_of(base, usable, classes, seed), pool, classes, MEMORY, "cpu")
    members: list[Member] = ["plain", "balanced"]
    scores = [
        balanced_accuracy(found.logits(member, penalty)[0], found.labels)
        for member in members
        for penalty in (1e-1, 1e-2, 1e-3, 1e-4)
    ]

    chance = 1 / classes
    assert max(scores) < chance + 4.5 * (chance * (1 - chance) / count) ** 0.5
