"""The pool of a refit: names, means, the hold-out and the balanced set, against slow versions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look, part, snap
from torch import Tensor

from breadcrumbs.training.refit.balanced_set import (
    BalancedSet,
    balanced,
    newest_first,
    present_means,
    skip_without_mean,
    split,
    target_classes,
)
from breadcrumbs.training.refit.rows import RefitError, Rows

LIVE = ("oak", "elm")


# Classes


def test_known_classes_keep_their_places() -> None:
    """The live head's classes stay as they are, also where no snapshot has them."""
    assert target_classes(LIVE, [snap("e", ("elm", "oak"))], grow=False) == LIVE


def test_new_classes_come_after_in_order_of_appearance() -> None:
    """New classes follow the live ones, each once, however many snapshots have them."""
    first, second = snap("yyo", ("yew", "oak")), snap("aayy", ("ash", "yew"))

    assert target_classes(LIVE, [first, second], grow=True) == ("oak", "elm", "yew", "ash")


def test_a_class_without_rows_is_not_new() -> None:
    """A name in a snapshot's list that no row has is nothing to be refused or added."""
    for grow in (False, True):
        assert target_classes(LIVE, [snap("oe")], grow=grow) == LIVE


def test_new_classes_are_refused_unless_allowed() -> None:
    """Every class that is unknown is named, with what to set."""
    with pytest.raises(RefitError, match="unknown to the live head: yew, ash; set allow_new_classes"):
        target_classes(LIVE, [snap("yy"), snap("aa", ("ash",))], grow=False)


def test_a_new_class_needs_two_examples() -> None:
    """One example is too few; two in different snapshots are enough."""
    with pytest.raises(RefitError, match="at least two examples; too few of: yew"):
        target_classes(LIVE, [snap("yoo")], grow=True)

    assert target_classes(LIVE, [snap("y"), snap("y", epoch=2)], grow=True) == (*LIVE, "yew")


def test_newest_is_what_the_deployed_backbone_made_then_the_epoch() -> None:
    """The deployed backbone's parts come first, whatever the epochs of others."""
    parts = [part([0], 3, present=False), part([0], 1), part([0], 9, present=False), part([0], 2)]

    assert [(p.present, p.epoch) for p in newest_first(parts)] == [(True, 2), (True, 1), (False, 9), (False, 3)]


# Present means


def test_the_newest_part_that_has_a_class_gives_its_mean() -> None:
    """Each class's mean is of the first part that has it, and of that part alone."""
    new, old = part([0, 0], 2), part([0, 1, 1], 1)

    means = present_means([old], [new, old], ("oak", "elm", "yew"))

    assert torch.allclose(means[0], new.features.mean(0))
    assert torch.allclose(means[1], old.features[1:].mean(0))
    assert means[2].tolist() == [0, 0]  # a class of nobody: never asked for


def test_a_class_without_a_present_mean_is_refused() -> None:
    """A class that only older backbones have seen is named: there is nowhere to move it."""
    pool = [part([0, 1, 2], present=False), part([0, 0], 2)]

    with pytest.raises(RefitError, match=r"has the classes elm, yew;.*set missing_mean = skip"):
        present_means(pool, [pool[1]], ("oak", "elm", "yew"))


def test_a_class_without_a_present_mean_may_be_skipped() -> None:
    """Its rows go and it is named; a live class keeps its place, a new one goes, and later labels close up."""
    names = ("oak", "elm", "new", "yew")
    old, here = part([0, 1, 2, 3, 1], present=False, ids=[5, 6, 7, 8, 9]), part([0, 3, 3, -1], 2)

    kept, pool, present, skipped = skip_without_mean([here.known(), old], [here], names, known=2)

    assert (kept, skipped) == (("oak", "elm", "yew"), ["elm", "new"])
    assert [one.labels.tolist() for one in pool] == [[0, 2, 2], [0, 2]]
    assert pool[1].ids is not None
    assert pool[1].ids.tolist() == [5, 8]
    assert torch.equal(pool[1].features, old.features[[0, 3]])
    assert present[0].labels.tolist() == [0, 2, 2, -1]


def test_skipping_every_class_is_refused() -> None:
    """If no class of the pool has a present mean, there is nothing to fit to, and the classes are named."""
    with pytest.raises(RefitError, match="no class has a present mean; left out: elm, yew"):
        skip_without_mean([part([1, 2], present=False)], [part([0])], ("oak", "elm", "yew"), known=3)


def test_present_rows_of_other_classes_are_left_out() -> None:
    """A part with rows of classes that are not among the target's gives means of those that are."""
    newest = part([-1, 0, 0, 1])

    means = present_means([newest.known()], [newest], LIVE)

    assert torch.allclose(means[0], newest.features[1:3].mean(0))
    assert torch.allclose(means[1], newest.features[3])


# The hold-out


def test_a_share_of_each_class_is_held_out() -> None:
    """A fifth of every class, at least one row, and of a class with one row none."""
    newest = part([0] * 20 + [1] * 10 + [2] * 2 + [3])

    held, (pool,), (present,) = split([newest], [newest], 4, 0.2, seed=0)

    assert torch.bincount(held.labels, minlength=4).tolist() == [4, 2, 1, 0]
    assert torch.bincount(pool.labels).tolist() == [16, 8, 1, 1]
    assert torch.equal(pool.features, present.features)
    together = torch.cat([held.features, pool.features])
    assert sorted(together[:, 0].tolist()) == sorted(newest.features[:, 0].tolist())


def test_held_images_are_in_no_other_part() -> None:
    """With ids, the held-out images go from every part: older epochs, other backbones, crumbs of the same epoch."""
    ids = list(range(100, 130))
    newest = part([0] * 20 + [1] * 10, 3, ids)
    old = part([1] * 10 + [0] * 20, 2, ids[::-1])
    foreign = part([0] * 5, 9, ids[:5], present=False)
    crumbs = newest.take(newest.labels == 1)

    held, pool, present = split([newest, old, foreign], [newest, crumbs, old], 2, 0.3, seed=0)

    assert held.ids is not None
    out = set(held.ids.tolist())
    assert len(out) == 9
    for before, after in zip([newest, old, foreign, newest, crumbs, old], [*pool, *present], strict=True):
        assert before.ids is not None
        assert after.ids is not None
        assert after.ids.tolist() == [i for i in before.ids.tolist() if i not in out]
        assert len(after.features) == len(after.labels) == len(after.ids)


def test_rows_keep_their_labels() -> None:
    """What is held out and what is left are rows of the newest part, each with its own label and id."""
    newest = part([0, 1] * 10, 1, list(range(20)))

    held, (rest,), _ = split([newest], [newest], 2, 0.25, seed=3)

    for some in (held, rest):
        assert some.ids is not None
        assert torch.equal(some.features, newest.features[some.ids])
        assert torch.equal(some.labels, newest.labels[some.ids])


def test_without_ids_only_the_newest_is_split() -> None:
    """Parts that cannot be matched stay whole; the newest, read twice, is split in both places."""
    newest, old = part([0] * 10, 2), part([0] * 10, 1)
    again = look(newest.features.clone(), newest.labels.clone(), None, 2, present=True)

    held, pool, present = split([newest, old], [again, old], 1, 0.2, seed=0)

    assert [len(p.labels) for p in (held, *pool, *present)] == [2, 8, 10, 8, 10]
    assert torch.equal(pool[0].features, present[0].features)
    assert not {tuple(r) for r in held.features.tolist()} & {tuple(r) for r in pool[0].features.tolist()}


def test_other_images_of_the_same_epoch_and_number_stay() -> None:
    """Two snapshots that agree only in epoch and number of rows are not taken for one."""
    newest = part([0] * 10, 2, list(range(10)))
    other = look(torch.full((10, 2), 7.0), torch.tensor([0] * 10), torch.arange(50, 60), 2)

    _, (_, kept), _ = split([newest, other], [newest, other], 1, 0.2, seed=0)

    assert len(kept.labels) == 10


def test_the_seed_decides_the_hold_out() -> None:
    """The same seed holds out the same rows, another seed others."""
    newest = part([0] * 40, 1, list(range(40)))

    first, again, other = (split([newest], [newest], 1, 0.2, s)[0].ids for s in (1, 1, 2))

    assert first is not None
    assert other is not None
    assert first.equal(again)
    assert not first.equal(other)


def test_rows_of_other_classes_are_never_held_out() -> None:
    """Rows of classes that are not among the target's are in no result."""
    newest = part([-1] * 10 + [0] * 10)

    held, _, (present,) = split([newest.known()], [newest], 1, 0.2, seed=0)

    assert held.labels.tolist() == [0, 0]
    assert present.labels.tolist() == [0] * 8


# The balanced set


def means_of(some: Rows, classes: int) -> Tensor:
    return torch.stack(
        [
            some.features[some.labels == y].mean(0) if (some.labels == y).any() else torch.zeros(some.features.shape[1])
            for y in range(classes)
        ]
    )


def slow(parts: list[Rows], means: Tensor | None, target: int, y: int) -> list[tuple[int, list[Tensor], int]]:
    """Class y's share: for each age the rows it may be drawn from, moved, and how many of them there must be."""
    left, shares = target, []
    for age, some in enumerate(parts):
        own = [f for f, label in zip(some.features, some.labels.tolist(), strict=True) if label == y]
        if own and means is not None:
            own = [f - torch.stack(own).mean(0) + means[y] for f in own]
        taken = min(left, len(own))
        shares.append((age, own, taken))
        left -= taken
    return shares


def near(row: Tensor, rows: list[Tensor]) -> bool:
    return any(torch.allclose(row, other, atol=1e-4) for other in rows)


@settings(max_examples=60)
@given(
    labels=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=25), min_size=1, max_size=4),
    target=st.integers(1, 20), move=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_balanced_set_is_the_slow_one(labels: list[list[int]], target: int, move: bool, seed: int) -> None:
    """For each class newest first, moved to its present mean, cut to n; all classes weigh the same."""
    parts = [part(own, epoch=9 - i, dim=3) for i, own in enumerate(labels)]
    means = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) if move else None

    found = balanced(parts, means, target, 4, seed)

    seen = sorted({y for own in labels for y in own})
    for y in range(4):
        for age, candidates, taken in slow(parts, means, target, y):
            rows = found.features[(found.labels == y) & (found.ages == age)]
            assert len(rows) == taken
            assert all(near(row, candidates) for row in rows)
    assert found.weights.sum().item() == pytest.approx(1, abs=1e-5)
    for y in seen:
        own = found.weights[found.labels == y]
        assert own.sum().item() == pytest.approx(1 / len(seen), abs=1e-5)
        assert own.max() == own.min()
    assert len(found.features) == len(found.labels) == len(found.weights) == len(found.ages)


def test_whole_epochs_have_the_present_mean() -> None:
    """Every age of a class that is drawn whole has the present mean, and the spread it had."""
    new, old = part([0] * 8 + [1] * 3, 2), part([0] * 5 + [1] * 4, 1)
    means = means_of(new, 2)

    found = balanced([new, old], means, 100, 2, seed=0)

    for y in range(2):
        for age, some in enumerate((new, old)):
            rows = found.features[(found.labels == y) & (found.ages == age)]
            was = some.features[some.labels == y]
            assert torch.allclose(rows.mean(0), means[y], atol=1e-5)
            assert torch.allclose(rows.std(0), was.std(0), atol=1e-5)
    assert torch.allclose(found.features[found.ages == 0].sum(0), new.features.sum(0), atol=1e-4)  # the newest stays


def test_without_means_old_features_stay() -> None:
    """Untransferred, every row drawn is a row as it was."""
    new, old = part([0, 0], 2), part([0, 0, 0], 1)

    found = balanced([new, old], None, 5, 1, seed=0)

    assert sorted(found.features[:, 0].tolist()) == sorted([*new.features[:, 0].tolist(), *old.features[:, 0].tolist()])


def drawn(found: BalancedSet) -> set[float]:
    return {round(v, 4) for v in found.features[:, 0].tolist()}


def test_a_rich_class_is_drawn_uniformly_by_the_seed() -> None:
    """A class with more than n rows offers n different ones; over seeds all of them come, from front and back."""
    newest = part([0] * 30)

    sets = [drawn(balanced([newest], None, 10, 1, seed)) for seed in range(20)]

    assert all(len(s) == 10 for s in sets)
    assert drawn(balanced([newest], None, 10, 1, 0)) == sets[0]
    assert sets[0] != sets[1]
    assert len(set.union(*sets)) == 30


def test_features_stay_where_they_are_stored() -> None:
    """Choosing, splitting and drawing copy no features: the rows still read from the arrays they were given."""
    parts = [part([0] * 6 + [1] * 4, epoch=e, ids=list(range(10))) for e in (2, 1)]
    held, pool, present = split(parts, parts, 2, 0.5, 0)

    drawn = balanced(newest_first(pool), present_means(pool, present, LIVE), 4, 2, 0)

    for some in (held, *pool, *present, *drawn.parts):
        assert some.stored[0] is parts[2 - some.epoch].stored[0]
    assert torch.equal(drawn.features, torch.cat([f for f, _, _ in drawn.source()()]))
