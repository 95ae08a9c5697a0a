"""Labels that were flipped are found, and no class is wholly named."""

import numpy as np
import pytest
import torch
from worlds import World

from breadcrumbs.training.folds import fold_count
from breadcrumbs.training.inspect import suspects as module
from breadcrumbs.training.inspect.suspects import GAP, PENALTY, fold_heads, out_of_fold, suspects
from breadcrumbs.training.solver.solver import solve

COUNTS = (200, 120, 70, 40, 25, 15, 4, 2, 1)


def world(seed: int, counts: tuple[int, ...] = COUNTS, dim: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Features and right labels of a long tail."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return World(counts, dim, seed, apart=1.0).draw(labels, seed + 1), labels


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_named_first(seed: int) -> None:
    """Of ten flipped labels of large classes most are among the first twelve, with the right class suggested."""
    features, labels = world(seed)
    flipped = np.random.default_rng(seed).permutation(390)[:10]
    given = labels.copy()
    given[flipped] = (labels[flipped] + 1 + np.arange(10) % 3) % 5

    found = suspects(features, given, len(COUNTS), seed)

    hits = [one for one in found[:12] if one.row in set(flipped.tolist())]
    assert len(hits) >= 8
    assert sum(one.suggested == labels[one.row] for one in hits) >= 0.8 * len(hits)
    assert all(one.given == given[one.row] != one.suggested for one in found)
    assert all(one.given_probability < one.suggested_probability <= 1 for one in found)
    assert all(one.typical is not None and given[one.typical] == one.suggested for one in found)
    assert [one.score for one in found] == sorted(one.score for one in found)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_no_class_has_more_than_its_quota(share: float, seed: int) -> None:
    """Labels without any meaning: at most half of a class, or one row, and the share in all."""
    features, labels = world(seed)
    given = np.random.default_rng(seed).permutation(labels)

    found = suspects(features, given, len(COUNTS), seed, share=share)

    named = np.bincount([one.given for one in found], minlength=len(COUNTS))
    assert found
    assert len(found) <= np.ceil(share * len(labels))
    assert all(named <= np.maximum(1, np.round(np.array(COUNTS) / 2)))


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_that_crowd_a_small_class_are_named(seed: int) -> None:
    """Of six rows of a large class that got into a class of fifteen, most are named, though they are a third of it."""
    features, labels = world(seed)
    flipped = np.random.default_rng(seed).permutation(200)[:6]
    given = labels.copy()
    given[flipped] = 5

    found = suspects(features, given, len(COUNTS), seed)

    assert sum(one.row in set(flipped.tolist()) for one in found if one.given == 5) >= 4


@pytest.mark.parametrize("counts", [(2, 1), (1, 1), (40, 1), (3,) * 300, (6, 6)])
@pytest.mark.parametrize("dim", [3, 2048])
def test_a_class_of_one_image_is_never_named(counts: tuple[int, ...], dim: int) -> None:
    """It is not scored, as a head without the image would not know the class; few and many classes, few dimensions."""
    if len(counts) * sum(counts) * dim > 1e7:
        counts = counts[:30]
    features, labels = world(0, counts, dim)

    scored = out_of_fold(features, labels, len(counts))
    found = suspects(features, labels, len(counts))

    lone = {row for row, label in enumerate(labels) if counts[label] == 1}
    assert sorted(scored.rows) == [row for row in range(len(labels)) if row not in lone]
    assert not lone & {one.row for one in found}
    assert np.isfinite([one.score for one in found]).all()


def test_the_same_seed_gives_the_same_suspects() -> None:
    """And another one other folds."""
    features, labels = world(3)

    assert suspects(features, labels, len(COUNTS), 5) == suspects(features, labels, len(COUNTS), 5)
    assert suspects(features, labels, len(COUNTS), 5) != suspects(features, labels, len(COUNTS), 6)


@pytest.mark.parametrize("dim", [24, 500])
def test_a_row_does_not_vouch_for_itself(dim: int) -> None:
    """Labels without any meaning are believed no more than chance, though a head could learn them by heart."""
    rng = np.random.default_rng(dim)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, dim)).astype(np.float32)

    found = out_of_fold(features, labels, 3)

    right = (found.given > found.other).mean()
    assert right < 0.55
    assert (np.exp(found.given) + np.exp(found.other) <= 1 + 1e-5).all()


@pytest.mark.parametrize("seed", range(2))
def test_no_head_has_seen_the_rows_that_it_scores(seed: int) -> None:
    """Each fold's head is, number for number, the one that is fitted to the other rows alone, from nothing."""
    features, labels = world(seed)
    z, y = torch.from_numpy(features), torch.from_numpy(labels)
    scored = []

    for fold, weight, bias in fold_heads(features, labels, len(COUNTS), seed):
        others = torch.ones(len(y), dtype=torch.bool)
        others[fold] = False
        own = z[others]
        share = torch.full((len(own),), 1 / len(own))
        l2 = PENALTY * float(own.var(0, correction=0).mean())
        alone = solve(own, y[others], share, len(COUNTS), l2, gap=GAP, rough=True)
        assert torch.equal(weight, alone.weight.float())
        assert torch.equal(bias, alone.bias.float())
        scored += fold.tolist()

    assert sorted(scored) == [row for row, label in enumerate(labels) if COUNTS[label] > 1]


def test_what_takes_too_long_is_known_before() -> None:
    """The limit, and the number of folds, are those of a refit's thorough cross-validation."""
    assert [fold_count(work) for work in (1, 3e8, 3e8 + 1, 3e9, 3e9 + 1)] == [5, 5, 3, 3, None]
    assert module.within_limit(5_000, 1_280, 140)
    assert not module.within_limit(100_000, 768, 1_000)
