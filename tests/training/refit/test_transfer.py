"""The ways to bring a look to the deployed backbone's rows, against what they are defined by."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.refit.transfer import Mode, fitted, in_both, modes_for, moved, procrustes, ridge


def normal(seed: int, *shape: int) -> Tensor:
    """Random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_images(*looks: Rows) -> Tensor:
    """Every image may be used."""
    return torch.ones(1 + max(int(rows.images.max()) for rows in looks), dtype=torch.bool)


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(3, 40), st.integers(0, 20))
@settings(deadline=None)
def test_emanate_is_eq_6_over_the_images_in_both(seed: int, classes: int, common: int, only_old: int) -> None:
    """It is z − z̄^{e'} + z̄^e of its class, both means over the images that both looks have, and over no other."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (common + only_old,), generator=draw)
    new = torch.randint(classes, (7,), generator=draw)
    base_labels = torch.cat([labels[:common], new])
    old = look(normal(seed, common + only_old, 3), labels, present=False)
    images = torch.cat([torch.arange(common), 1000 + torch.arange(7)])
    base = look(normal(seed + 1, common + 7, 3) + 5, base_labels, images)

    found = moved(old, base, all_images(old, base), "emanate", classes)

    assert found is not None
    for y in range(classes):
        both = (labels[:common] == y).nonzero().squeeze(1)
        mine = (found.rows.labels == y).nonzero().squeeze(1)
        if not len(both):
            assert not len(mine)  # nothing is known of how the class moved
            continue
        expected = old.features[labels == y] - old.features[both].mean(0) + base.features[both].mean(0)
        assert torch.allclose(found.gather(mine), expected, atol=1e-4)


def test_one_new_image_moves_nothing() -> None:
    """The class's old rows have no image in common with the new one, so they do not go to where it is."""
    old = look(normal(0, 30, 4), torch.zeros(30, dtype=torch.int64), present=False)
    base = look(normal(1, 1, 4) + 50, torch.zeros(1, dtype=torch.int64), torch.tensor([99]))

    assert moved(old, base, all_images(old, base), "emanate", 1) is None


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(deadline=None)
def test_procrustes_finds_a_rotation_and_a_scale(seed: int, dim: int) -> None:
    """Pairs that differ by them are mapped exactly."""
    x = normal(seed, 40, dim)
    rotation, _ = torch.linalg.qr(normal(seed + 1, dim, dim))
    y = 2.5 * x @ rotation + normal(seed + 2, dim)

    a, c = procrustes(x, y)

    assert torch.allclose(x @ a + c, y, atol=1e-3)
    assert torch.allclose(a @ a.T, 6.25 * torch.eye(dim), atol=1e-3)


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 6))
@settings(deadline=None)
def test_ridge_finds_a_map_between_any_dimensions(seed: int, before: int, after: int) -> None:
    """Pairs of a linear map are predicted, and so are rows that were not among them."""
    x, more = normal(seed, 200, before), normal(seed + 1, 10, before)
    linear, shift = normal(seed + 2, before, after), normal(seed + 3, after)

    a, c = ridge(x, x @ linear + shift)

    assert torch.allclose(more @ a + c, more @ linear + shift, atol=1e-2)


def test_the_family_that_predicts_better_is_used() -> None:
    """Few noisy pairs of a rotation: its few degrees of freedom; many of a shear: the ridge."""
    rotation, _ = torch.linalg.qr(normal(1, 20, 20))
    few, many = normal(0, 60, 20), normal(0, 2000, 20)
    shear = torch.diag(torch.linspace(0.1, 3, 20))

    turned = fitted(few, few @ rotation + 0.5 * normal(2, 60, 20))
    sheared = fitted(many, many @ shear)

    assert torch.allclose(turned[0] @ turned[0].T, torch.eye(20) * turned[0].square().sum() / 20, atol=1e-3)
    assert torch.allclose(sheared[0], shear, atol=1e-2)


def test_a_map_moves_classes_that_have_no_common_image() -> None:
    """Pairs without labels are enough, and a class that only the old look has comes along."""
    x = normal(0, 60, 5)
    linear = normal(1, 5, 3)
    labels = torch.cat([torch.full((50,), -1), torch.zeros(10, dtype=torch.int64)])
    old = look(x, labels, present=False)
    base = look(x[:50] @ linear, torch.full((50,), -1))

    found = moved(old, base, all_images(old, base), "map", 1)

    assert found is not None
    assert torch.allclose(found.gather(torch.arange(10)), x[50:] @ linear, atol=0.05)


@pytest.mark.parametrize("mode", ["emanate", "map", "map, emanate"])
def test_nothing_is_learned_of_images_that_are_not_usable(mode: Mode) -> None:
    """A fold that is left out changes nothing in how the rest moves."""
    labels = torch.arange(60) % 3
    x, y = normal(0, 60, 4), normal(1, 60, 4)
    usable = torch.arange(60) % 5 > 0
    other = torch.where(usable.unsqueeze(1), y, y + 100)

    one, two = (moved(look(x, labels, present=False), look(base, labels), usable, mode, 3) for base in (y, other))

    assert one is not None
    assert two is not None
    assert len(one.rows) == int(usable.sum())
    rows = torch.arange(len(one.rows))
    assert torch.equal(one.gather(rows), two.gather(rows))


def test_ways_that_make_sense() -> None:
    """The deployed backbone's own rows need no map; rows of another dimension can only be mapped."""
    base = look(normal(0, 4, 3), torch.zeros(4, dtype=torch.int64))
    same = look(normal(0, 4, 3), torch.zeros(4, dtype=torch.int64), present=False)
    other = look(normal(0, 4, 2), torch.zeros(4, dtype=torch.int64), present=False)

    assert modes_for(base, base) == ("leave out", "none", "emanate")
    assert "none" in modes_for(same, base)
    assert modes_for(other, base) == ("leave out", "map", "map, emanate")
    assert [part.tolist() for part in in_both(other.take(torch.tensor([2, 0])), base)] == [[0, 1], [2, 0]]
