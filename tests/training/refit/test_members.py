"""The members of a head against what they are defined by, and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from sklearn.covariance import empirical_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
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


@given(st.integers(0, 1000), st.integers(2, 8), st.integers(2, 6), st.floats(0.01, 1))
@settings(deadline=None, max_examples=30)
def test_lda_is_scikit_learns(seed: int, dim: int, classes: int, gamma: float) -> None:
    """With equal priors and its shrinkage γ, the same posterior."""
    z, y = world(seed, 200, dim, classes)

    found = Fitter(pool_of(z, y), classes, 2**30).fit("lda", gamma, 1e-3)
    logits = (z @ found.weight.T + found.bias).double().log_softmax(1).numpy()
    means = np.stack([z[y == c].mean(0).numpy() for c in range(classes)])
    within = empirical_covariance(z.numpy() - means[y], assume_centered=True)
    inverse = np.linalg.inv((1 - gamma) * within + gamma * np.trace(within) / dim * np.eye(dim))
    expected = torch.from_numpy(z.numpy() @ inverse @ means.T - 0.5 * np.einsum("cd,de,ce->c", means, inverse, means))

    assert np.allclose(logits, expected.double().log_softmax(1).numpy(), atol=1e-3)
    if gamma == 1:
        return
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None, priors=np.full(classes, 1 / classes))
    plain = Fitter(pool_of(z, y), classes, 2**30).fit("lda", 0.0, 1e-3)
    assert ((z @ plain.weight.T + plain.bias).argmax(1).numpy() == peer.fit(z, y).predict(z)).mean() > 0.99


@given(st.floats(0.01, 100), st.sampled_from(["plain", "balanced", "lda"]))
@settings(deadline=None, max_examples=20)
def test_a_penalty_means_the_same_for_features_of_any_size(size: float, member: Member) -> None:
    """Features times s give the same logits."""
    z, y = world(0, 60, 3, 3)

    one, two = (Fitter(pool_of(x, y), 3, 2**30).fit(member, 0.01, 1e-6) for x in (z, size * z))

    assert torch.allclose(z @ one.weight.T + one.bias, size * z @ two.weight.T + two.bias, atol=0.02)


@pytest.mark.parametrize("member", ["plain", "balanced", "lda"])
def test_rows_from_disk_give_the_same_head(member: Member) -> None:
    """Whether they fit into memory or are read on every pass."""
    z, y = world(1, 90, 4, 3)

    one, two = (Fitter(pool_of(z, y), 3, room).fit(member, 0.01, 1e-5) for room in (2**30, 1))

    assert torch.allclose(one.weight, two.weight, atol=5e-3)
    assert torch.allclose(one.bias - one.bias.mean(), two.bias - two.bias.mean(), atol=2e-2)


@pytest.mark.parametrize("member", ["plain", "balanced", "lda"])
def test_a_class_without_rows_is_never_predicted(member: Member) -> None:
    """It may be a class of the live head of which nothing came."""
    z, y = world(2, 50, 4, 3)

    found = Fitter(pool_of(z, y), 5, 2**30).fit(member, 0.01, 1e-3)

    assert set((10 * torch.randn(500, 4) @ found.weight.T + found.bias).argmax(1).tolist()) <= {0, 1, 2}
    assert torch.isfinite(found.weight).all()
