"""Choosing λ and the prior offset on held-out rows."""

import numpy as np
import pytest
import torch
from breadcrumbs.training.refit.balanced_set import BalancedSet
from looks import look

from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit.selection import L2_PATH, OFFSETS, TAUS, Holdout, choose, with_offset, with_tau
from breadcrumbs.training.refit.without_training import logit_adjusted, tau_normalised

CLASSES = ("head", "tail")
GROUPS: tuple[Group, ...] = ("many", "few")
LOG_PRIOR = np.log([0.9, 0.1])
SPREAD = LOG_PRIOR[0] - LOG_PRIOR[1]  # log 9: what t = 1 takes from the difference of the two logits


def line_head() -> LinearHead:
    """A head whose logits differ by the one feature: it says head above 0, tail below."""
    return LinearHead(np.float32([[0.5], [-0.5]]), np.zeros(2, np.float32), CLASSES)


def held_at(head: list[float], tail: list[float], **floor: float) -> Holdout:
    """Rows of both classes at these places of the line."""
    features = np.float32([*head, *tail])[:, None]
    labels = np.array([0] * len(head) + [1] * len(tail))
    return Holdout(features, labels, GROUPS, floor)  # type: ignore[arg-type]


@pytest.mark.parametrize("best", OFFSETS)
def test_the_best_offset_is_found(best: float) -> None:
    """Where only one offset gets every row right, it is the one that is chosen, and it is in the head's bias."""
    place = best * SPREAD  # the border between the classes that this offset draws
    held = held_at([place + 0.2, place + 3], [place - 0.2, place - 3])

    chosen = with_offset(line_head(), LOG_PRIOR, held, "auto")

    assert chosen.prior_offset == best
    assert np.allclose(chosen.head.bias, -best * LOG_PRIOR, atol=1e-6)
    assert np.array_equal(chosen.head.weight, line_head().weight)
    assert (chosen.head.logits(held.features).argmax(1) == held.labels).all()


@pytest.mark.parametrize("given", [0.0, 0.3, -1.5, 2.0])
def test_a_given_offset_is_respected(given: float) -> None:
    """A number is taken, however bad it is on the hold-out."""
    held = held_at([SPREAD + 0.1], [SPREAD - 0.1])

    chosen = with_offset(line_head(), LOG_PRIOR, held, given)

    assert chosen.prior_offset == given
    assert np.allclose(chosen.head.bias, -given * LOG_PRIOR, atol=1e-6)


def test_of_equals_the_likelier_is_chosen() -> None:
    """Where every offset is right everywhere, likelihood decides."""
    held = held_at([9.0], [-6.0])

    chosen = with_offset(line_head(), LOG_PRIOR, held, "auto")

    loss = {t: np.log1p(np.exp(t * SPREAD - 9)) + np.log1p(np.exp(-t * SPREAD - 6)) for t in OFFSETS}
    assert chosen.prior_offset == min(OFFSETS, key=lambda t: loss[t])
    assert 0 < chosen.prior_offset < OFFSETS[-1]


def test_a_floor_goes_before_the_best_balance() -> None:
    """An offset under which a group falls below its floor is not chosen while another keeps it."""
    held = held_at([0.2, 0.2, 5, 5, 5], [0.3, 0.3, 0.3, 0.3, 0.3])  # all of the tail, at the price of two of the head

    free = with_offset(line_head(), LOG_PRIOR, held, "auto")
    bound = with_offset(line_head(), LOG_PRIOR, held_at([0.2, 0.2, 5, 5, 5], [0.3] * 5, many=0.9), "auto")

    assert free.prior_offset > 0
    assert bound.prior_offset == 0


def test_where_no_offset_keeps_the_floor_the_best_is_chosen() -> None:
    """A floor that nothing reaches decides nothing."""
    head, tail = [SPREAD + 0.2], [SPREAD - 0.2]

    chosen = with_offset(line_head(), LOG_PRIOR, held_at(head, tail, few=1.5), "auto")

    assert chosen.prior_offset == 1


def two_clouds(rows: int, seed: int, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that overlap, in more dimensions than matter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    features = rng.normal(size=(rows, dim))
    features[:, 0] += 1.5 * labels
    return features.astype(np.float32), labels


def pool_of(rows: int) -> BalancedSet:
    features, labels = two_clouds(rows, 0)
    weights = torch.full((rows,), 1 / rows)
    part = look(torch.from_numpy(features), torch.from_numpy(labels))
    return BalancedSet((part,), (None,), torch.arange(rows), part.labels, weights, torch.zeros(rows).long())


HELD = Holdout(*two_clouds(400, 1), GROUPS)


def accuracy_and_loss(head: LinearHead) -> tuple[float, float]:
    logits = head.logits(HELD.features).astype(float)
    right = logits.argmax(1) == HELD.labels
    own = logits[np.arange(len(right)), HELD.labels] - np.log(np.exp(logits).sum(1))
    return float((right[HELD.labels == 0].mean() + right[HELD.labels == 1].mean()) / 2), float(own.mean())


def test_the_best_penalty_of_the_path_is_found() -> None:
    """`auto` gives the λ and offset that are best on the hold-out of all pairs, each fitted by itself."""
    alone = {
        (l2, t): choose(pool_of(24), CLASSES, LOG_PRIOR, HELD, RefitSpec(l2=l2, prior_offset=t, gap=1e-6))
        for l2 in L2_PATH
        for t in OFFSETS
    }
    best = max(alone, key=lambda pair: accuracy_and_loss(alone[pair].head))

    chosen = choose(pool_of(24), CLASSES, LOG_PRIOR, HELD, RefitSpec(gap=1e-6))

    assert (chosen.l2, chosen.prior_offset) == best
    assert chosen.solution is not None
    assert chosen.solution.converged
    assert chosen.solution.gap_bound <= 1e-6 * chosen.solution.objective
    assert np.allclose(chosen.head.weight, alone[best].head.weight, atol=1e-3)


def test_given_numbers_are_respected() -> None:
    """A given λ and a given offset are what the head is fitted with; nothing is chosen."""
    chosen = choose(pool_of(40), CLASSES, LOG_PRIOR, HELD, RefitSpec(l2=0.5, prior_offset=0.75, gap=1e-6))

    assert (chosen.l2, chosen.prior_offset) == (0.5, 0.75)
    assert chosen.solution is not None
    expected = chosen.solution.bias.numpy() - 0.75 * LOG_PRIOR
    assert np.allclose(chosen.head.bias, expected, atol=1e-6)


def test_a_given_offset_stays_along_the_path() -> None:
    """With λ on `auto` and a given offset, the offset is the given one for every λ."""
    heard: list[tuple[float, int]] = []

    chosen = choose(
        pool_of(40), CLASSES, LOG_PRIOR, HELD, RefitSpec(prior_offset=0.25), lambda l2, at, *_: heard.append((l2, at))
    )

    assert chosen.prior_offset == 0.25
    assert chosen.l2 in L2_PATH
    begun = [l2 for (l2, at), (_, before) in zip(heard, [(0, 10**6), *heard[:-1]], strict=True) if at <= before]
    assert begun in ([*L2_PATH, chosen.l2], [*L2_PATH[:-1], chosen.l2])  # each of the path, and the chosen one again


def test_the_weakest_penalty_is_tried_only_where_the_one_before_was_best() -> None:
    """On few rows, where a strong penalty wins, the path ends before the weakest; on many it may go to the end."""
    tried: set[float] = set()

    chosen = choose(pool_of(4), CLASSES, LOG_PRIOR, HELD, RefitSpec(), lambda l2, *_: tried.add(l2))

    assert chosen.l2 in L2_PATH[:-2]
    assert tried == set(L2_PATH[:-1])


@pytest.mark.parametrize("t", [0.0, 0.75, 1.5])
def test_the_live_head_is_a_warm_start(t: float) -> None:
    """Where it was solved for at this λ on nearly these rows, it is soon there, whatever offset it was given."""
    asked = RefitSpec(l2=1e-3, prior_offset=t)
    live = choose(pool_of(400), CLASSES, LOG_PRIOR, HELD, asked)
    cold, warm = (choose(pool_of(402), CLASSES, LOG_PRIOR, HELD, asked, live=head) for head in (None, live.head))

    assert cold.solution is not None
    assert warm.solution is not None
    assert warm.solution.converged
    assert warm.solution.iterations <= 2 < cold.solution.iterations
    assert warm.solution.objective == pytest.approx(cold.solution.objective, rel=2e-3)


def test_a_useless_or_smaller_live_head_changes_nothing() -> None:
    """A head that is worse than knowing nothing is not started from; one of fewer classes is, and its gap is closed."""
    asked = RefitSpec(gap=1e-6)
    wrong = LinearHead(np.float32([[50] * 6, [-50] * 6]), np.zeros(2, np.float32), CLASSES)
    smaller = LinearHead(np.ones((1, 6), np.float32), np.zeros(1, np.float32), CLASSES[:1])

    cold, *others = (choose(pool_of(40), CLASSES, LOG_PRIOR, HELD, asked, live=h) for h in (None, wrong, smaller))

    for other in others:
        assert (other.l2, other.prior_offset) == (cold.l2, cold.prior_offset)
        np.testing.assert_allclose(other.head.weight, cold.head.weight, atol=1e-4)


def test_the_best_tau_is_found_with_its_offset() -> None:
    """Of all pairs of τ and t, each measured by itself, the best in balanced accuracy, then likelihood, is chosen."""
    features, labels = two_clouds(300, 3)
    head = LinearHead(np.float32([[3, 0.1, 0, 0, 0, 0], [2, 0.3, 0.2, 0, 0, 0]]), np.float32([1, 0]), CLASSES)
    held = Holdout(features, labels, GROUPS)
    pairs = {(tau, t): logit_adjusted(tau_normalised(head, tau), LOG_PRIOR, t) for tau in TAUS for t in OFFSETS}
    scores = {pair: evaluate(h.logits(features), labels, GROUPS) for pair, h in pairs.items()}
    best = max(pairs, key=lambda pair: (scores[pair].balanced, -scores[pair].nll))

    chosen = with_tau(head, LOG_PRIOR, held, "auto")

    assert (chosen.tau, chosen.prior_offset) == best
    assert chosen.head.digest == pairs[best].digest
    assert with_tau(head, LOG_PRIOR, held, 0.25).prior_offset == 0.25


def test_what_does_not_fit_in_memory_is_streamed_to_the_same_head() -> None:
    """A balanced set above `max_memory` is read anew on every pass, and gives the head that it gives in memory."""
    rows, width = 40_000, 8
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 2
    part = look(torch.randn(rows, width, generator=generator) + labels.unsqueeze(1), labels)
    weights = torch.full((rows,), 1 / rows)
    pool = BalancedSet((part,), (None,), torch.randperm(rows), labels, weights, torch.zeros(rows).long())
    held = Holdout(part.features[:200].numpy(), labels[:200].numpy(), GROUPS)
    asked = RefitSpec(l2=1e-3, prior_offset=0.0, gap=1e-6)

    loaded, streamed = (
        choose(pool, CLASSES, LOG_PRIOR, held, asked.model_copy(update={"max_memory": limit}))
        for limit in (2**32, 2**20)
    )

    assert pool.size * 4 > 2**20
    np.testing.assert_allclose(streamed.head.weight, loaded.head.weight, atol=1e-5)
    np.testing.assert_allclose(streamed.head.bias, loaded.head.bias, atol=1e-5)


@pytest.mark.parametrize("floor", [{}, {"many": 0.8}, {"few": 0.8}, {"many": 0.9, "few": 0.9}, {"medium": 0.1}])
def test_the_quick_rank_chooses_as_whole_metrics_do(floor: dict[Group, float]) -> None:
    """Floors, balanced accuracy and likelihood, all by `evaluate` on each candidate's logits, give the same choice."""
    for seed in range(20):
        features, labels = two_clouds(60, seed)
        held = Holdout(features, labels, GROUPS, floor)
        heads = {t: logit_adjusted(line_head_of(features), LOG_PRIOR, t) for t in OFFSETS}

        def score(t: float) -> tuple[bool, float, float]:
            measured = evaluate(heads[t].logits(features), labels, GROUPS)  # noqa: B023
            keeps = all((getattr(measured, group) or 0) >= value for group, value in floor.items())
            return keeps, measured.balanced, -measured.nll

        chosen = with_offset(line_head_of(features), LOG_PRIOR, held, "auto")

        assert chosen.prior_offset == max(OFFSETS, key=score)


def line_head_of(features: np.ndarray) -> LinearHead:
    """`line_head` on the first of several features."""
    weight = np.zeros((2, features.shape[1]), np.float32)
    weight[:, :1] = line_head().weight
    return LinearHead(weight, np.zeros(2, np.float32), CLASSES)
