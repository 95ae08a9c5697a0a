"""The rows that a head is fitted to, and what each weighs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.training.refit import pool as pools
from breadcrumbs.training.refit.pool import Pool, pooled
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.refit.transfer import Move


def normal(seed: int, *shape: int) -> Tensor:
    """Random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(seed: int, count: int, classes: int) -> tuple[Rows, Move]:
    """A base of some images, and a second look at half of them."""
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))
    half = torch.arange(0, count, 2)
    return look(normal(seed, count, 3), labels), Move(look(normal(seed + 1, len(half), 3), labels[half], half))


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6))
@settings(deadline=None)
def test_every_image_weighs_the_same_or_every_class_does(seed: int, count: int, classes: int) -> None:
    """However many looks there are at an image; and all weigh 1."""
    base, more = both(seed, count, classes)

    pool = pooled(base, [more], torch.ones(count, dtype=torch.bool), None, 0)
    image = torch.cat([base.images, more.rows.images])
    plain = torch.zeros(count).index_add_(0, image, pool.plain())
    balanced = torch.zeros(classes).index_add_(0, pool.labels, pool.balanced(classes))
    own = torch.zeros(count).index_add_(0, image, pool.balanced(classes))

    assert torch.allclose(plain, torch.full((count,), 1 / count))
    have = base.labels.unique()
    assert torch.allclose(balanced[have], torch.full((len(have),), 1 / len(have)))
    assert all(torch.allclose(own[base.labels == y], own[base.labels == y][:1]) for y in have)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6), st.integers(1, 9))
@settings(deadline=None)
def test_the_papers_cut_takes_the_base_first(seed: int, count: int, classes: int, target: int) -> None:
    """At most n rows of a class, and a moved row only where the base has fewer."""
    base, more = both(seed, count, classes)

    pool = pooled(base, [more], torch.ones(count, dtype=torch.bool), target, seed)

    for y in range(classes):
        own, moved = (int(((pool.labels == y) & (pool.part == part)).sum()) for part in (0, 1))
        have, spare = int((base.labels == y).sum()), int((more.rows.labels == y).sum())
        assert own == min(target, have)
        assert moved == min(target - own, spare)


def test_only_usable_images_with_a_class_are_in() -> None:
    """Not those that are set aside, and no row without a class."""
    base = look(normal(0, 6, 2), torch.tensor([0, 1, -1, 0, 1, -1]))

    pool = pooled(base, [], torch.arange(6) != 3, None, 0)

    assert pool.place.tolist() == [0, 1, 4]
    assert pool.labels.tolist() == [0, 1, 1]


def test_rows_are_read_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, some of them, or as the solver's source: moved and in one order."""
    base, more = both(3, 25, 4)
    pool: Pool = pooled(base, [Move(more.rows, None, normal(9, 4, 3))], torch.ones(25, dtype=torch.bool), None, 0)
    whole = pool.features

    monkeypatch.setattr(pools, "CHUNK", 7)
    read = list(pool.source(pool.plain())())

    assert len(read) == -(-len(pool) // 7)
    assert torch.equal(torch.cat([z for z, _, _ in read]), whole)
    assert torch.equal(torch.cat([y for _, y, _ in read]), pool.labels)
    assert torch.equal(whole[25:], more.rows.features + normal(9, 4, 3)[more.rows.labels])
