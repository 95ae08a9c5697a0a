"""The members of a head: what they are whatever the features' size, and wherever their rows lie."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.training.config import Member
from breadcrumbs.training.refit.members import Fitter
from breadcrumbs.training.refit.pool import Pool, pooled


def world(seed: int, count: int, dim: int, classes: int) -> tuple[Tensor, Tensor]:
    """Noisy classes, each with a row at least."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (count,), generator=draw)])
    return 2 * torch.randn(classes, dim, generator=draw)[labels] + torch.randn(len(labels), dim, generator=draw), labels


def pool_of(features: Tensor, labels: Tensor) -> Pool:
    """All rows, each of an image of its own."""
    return pooled(look(features, labels), [], torch.ones(len(labels), dtype=torch.bool), None, 0)


@given(st.floats(0.01, 100), st.sampled_from(["plain", "balanced"]))
@settings(deadline=None, max_examples=20)
def test_a_penalty_means_the_same_for_features_of_any_size(size: float, member: Member) -> None:
    """Features times s give the same logits."""
    z, y = world(0, 60, 3, 3)

    one, two = (Fitter(pool_of(x, y), 3, 2**30).fit(member, 0.01, 1e-6) for x in (z, size * z))

    assert torch.allclose(z @ one.weight.T + one.bias, size * z @ two.weight.T + two.bias, atol=0.02)


@pytest.mark.parametrize("member", ["plain", "balanced"])
def test_rows_from_disk_give_the_same_head(member: Member) -> None:
    """Whether they fit into memory or are read on every pass."""
    z, y = world(1, 90, 4, 3)

    one, two = (Fitter(pool_of(z, y), 3, room).fit(member, 0.01, 1e-5) for room in (2**30, 1))

    assert torch.allclose(one.weight, two.weight, atol=5e-3)
    assert torch.allclose(one.bias - one.bias.mean(), two.bias - two.bias.mean(), atol=2e-2)


@pytest.mark.parametrize("member", ["plain", "balanced"])
def test_a_class_without_rows_is_never_predicted(member: Member) -> None:
    """It may be a class of the live head of which nothing came."""
    z, y = world(2, 50, 4, 3)

    found = Fitter(pool_of(z, y), 5, 2**30).fit(member, 0.01, 1e-3)

    assert set((10 * torch.randn(500, 4) @ found.weight.T + found.bias).argmax(1).tolist()) <= {0, 1, 2}
    assert torch.isfinite(found.weight).all()
