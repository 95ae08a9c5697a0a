"""What is chosen of members, penalties and offsets, and that it is the best of what there is to choose."""

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.offset import (
    END,
    TAUS,
    Labelled,
    balanced_accuracy,
    best_offset,
    likeliest_offset,
    with_offset,
    with_tau,
)
from breadcrumbs.training.refit.pool import Pool, pooled
from breadcrumbs.training.refit.selection import Part, average, choose, given
from breadcrumbs.training.refit.validation import Validation, folds_of
from breadcrumbs.training.refit.without_training import logit_adjusted, tau_normalised

COUNTS = torch.tensor([300, 60, 12])
LOG_PRIOR = (COUNTS / COUNTS.sum()).log()
GRID = [k / 4 for k in range(-16, 17)]


def tail(seed: int, counts: Tensor = COUNTS) -> tuple[Tensor, Tensor]:
    """Long-tailed rows of three overlapping classes."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(3), counts)
    means = torch.randn(3, 6, generator=torch.Generator().manual_seed(7))
    return means[labels] + torch.randn(len(labels), 6, generator=draw), labels


def validation(seed: int = 0) -> Validation:
    """Cross-validation on such rows."""
    base = look(*tail(seed))
    usable = torch.ones(len(base), dtype=torch.bool)

    def pool(images: Tensor) -> Pool:
        return pooled(base, [], images, None, 0)

    return Validation(base, usable, folds_of(base, usable, 3, 0), pool, 3, 2**30, "cpu")


@drawn(st.integers(0, 10_000), st.floats(-3, 3))
@settings(deadline=None)
def test_balanced_accuracy_is_the_mean_recall(seed: int, shift: float) -> None:
    """Of the classes that have rows."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(50, 4)) + np.array([shift, 0, 0, 0]), rng.integers(0, 3, 50)

    found = balanced_accuracy(torch.from_numpy(logits), torch.from_numpy(labels))

    right = logits.argmax(1) == labels
    assert found == pytest.approx(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


@drawn(st.integers(0, 1000), st.floats(-2.5, 2.5))
@settings(deadline=None)
def test_the_likeliest_offset_has_the_least_balanced_log_loss(seed: int, off: float) -> None:
    """Of all on the grid, wherever the optimum is; a given one is kept."""
    rows, y = tail(seed)
    logits = rows @ torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)) + off * LOG_PRIOR

    t, score = likeliest_offset(logits, y, LOG_PRIOR)

    def loss(value: float) -> float:
        rows = torch.log_softmax(logits - value * LOG_PRIOR, 1)[torch.arange(len(y)), y]
        return -float(torch.stack([rows[y == c].mean() for c in range(3)]).mean())

    assert loss(t) <= min(loss(value) for value in GRID) + 1e-6
    assert score == balanced_accuracy(logits - t * LOG_PRIOR, y)
    assert likeliest_offset(logits, y, LOG_PRIOR, 0.3)[0] == 0.3
    assert likeliest_offset(logits[:0], y[:0], LOG_PRIOR) == (1.0, 0.0)


@drawn(st.integers(0, 10_000), st.floats(-3, 3))
@settings(deadline=None)
def test_the_best_offset_is_inside_its_grid(seed: int, off: float) -> None:
    """However far the head's own prior is from the right one, the search goes on until the best is not at an end."""
    z, y = tail(seed)
    logits = -torch.cdist(z, torch.randn(3, 6, generator=torch.Generator().manual_seed(7))) + off * LOG_PRIOR

    t, score = best_offset(logits, y, LOG_PRIOR)
    beside = [balanced_accuracy(logits - other * LOG_PRIOR, y) for other in (t - 0.25, t + 0.25)]

    assert score == balanced_accuracy(logits - t * LOG_PRIOR, y)
    assert -END <= t <= END
    assert abs(t) == END or score >= max(beside)


def test_the_head_is_the_best_of_what_was_tried() -> None:
    """Each member has the penalty and the offset of the best score of all, and the average is not behind either."""
    own = validation()

    parts = choose(own, RefitSpec(), LOG_PRIOR)

    for part in parts:
        for penalty in (part.penalty * 10, part.penalty / 10):
            logits, _ = own.logits(part.member, penalty)
            assert best_offset(logits, own.labels, LOG_PRIOR)[1] <= part.score + 0.02  # the solver's gap is 1 %
    assert sum(part.share for part in parts) == 1
    both = sum(part.share * part.logits for part in parts)
    assert balanced_accuracy(both, own.labels) >= max(part.score or 0 for part in parts)


@pytest.mark.parametrize("member", ["plain", "balanced"])
def test_given_numbers_are_respected(member: str) -> None:
    """With one member, λ and t there is nothing to choose; with fewer, what is given stays."""
    alone = RefitSpec(members=(member,), l2=0.5, prior_offset=0.75)

    part = given(alone)
    (chosen,) = choose(validation(), alone.model_copy(update={"prior_offset": "auto"}), LOG_PRIOR)

    assert part is not None
    assert (part.member, part.penalty, part.prior_offset, part.share) == (member, 0.5, 0.75, 1)
    assert chosen.penalty == 0.5
    assert given(RefitSpec(l2=0.5, prior_offset=0.75)) is None


@drawn(st.lists(st.floats(0.1, 1), min_size=1, max_size=3), st.integers(0, 100))
@settings(deadline=None)
def test_an_average_of_heads_gives_the_average_of_their_logits(shares: list[float], seed: int) -> None:
    """Prior offsets included."""
    draw = torch.Generator().manual_seed(seed)
    heads = [(torch.randn(3, 4, generator=draw), torch.randn(3, generator=draw)) for _ in shares]
    z = torch.randn(9, 4, generator=draw)

    class Fit:
        def __init__(self, weight: Tensor, bias: Tensor) -> None:
            self.weight, self.bias = weight, bias

    parts = [
        (Part("plain", 1.0, k / 2, share), Fit(*head))
        for k, (share, head) in enumerate(zip(shares, heads, strict=True))
    ]
    found = average(parts, LOG_PRIOR, ("a", "b", "c"))  # type: ignore[arg-type]

    expected = sum(
        share * (z @ weight.T + bias - k / 2 * LOG_PRIOR)
        for k, (share, (weight, bias)) in enumerate(zip(shares, heads, strict=True))
    )
    assert np.allclose(found.logits(z.numpy()), expected.numpy() / sum(shares), atol=1e-4)


def test_offset_and_tau_of_a_given_head_are_the_best_on_the_rows() -> None:
    """Of all pairs, by balanced accuracy."""
    z, y = tail(1)
    rows = Labelled(z.numpy(), y.numpy())
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(7)) * torch.tensor([[3.0], [1.0], [0.3]])
    head = LinearHead(weight.numpy(), np.zeros(3, np.float32), ("a", "b", "c"))
    prior = LOG_PRIOR.double().numpy()

    def score(own: LinearHead) -> float:
        return balanced_accuracy(torch.from_numpy(own.logits(rows.features)), y)

    shifted, t = with_offset(head, prior, rows)
    normal, tau, with_t = with_tau(head, prior, rows)

    assert np.array_equal(shifted.bias, logit_adjusted(head, prior, t).bias)
    assert score(shifted) == max(score(logit_adjusted(head, prior, own)) for own in GRID if own >= 0)
    assert score(normal) >= score(logit_adjusted(tau_normalised(head, 1.0), prior, 1.0))
    assert tau in TAUS
    assert np.array_equal(normal.bias, logit_adjusted(tau_normalised(head, tau), prior, with_t).bias)
