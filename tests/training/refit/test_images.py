"""Which rows show one image, and of which class it is."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from looks import HERE, THERE, snapshot

from breadcrumbs.training.refit.images import identified

PLACE = {"oak": 0, "elm": 1, "yew": 2}
SET = "d" * 64


def random(count: int, seed: int = 0) -> torch.Tensor:
    """Features (count, 4) that are all different."""
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True), st.sampled_from(["", SET, "e" * 64]))
def test_ids_match_only_within_one_data_set(ids: list[int], dataset: str) -> None:
    """An upload that counts from 0, as the training set did, has images of its own unless it names the same set."""
    own = snapshot(random(10), [0] * 10, ids=list(range(10)), dataset=SET)
    upload = snapshot(random(len(ids), 1), [1] * len(ids), ids=ids, dataset=dataset)

    found = identified([own], [upload], None, PLACE, HERE)

    common = torch.isin(found.uploads[0].images, found.own[0].images)
    assert bool(common.all()) == (dataset == SET)
    assert bool(common.any()) == (dataset == SET)
    assert len(found.labels) == (10 if dataset == SET else 10 + len(ids))


def test_ids_without_a_data_set_are_a_snapshots_own() -> None:
    """Only a bundle's own snapshots, made by one run, share such ids; two uploads do not."""
    one, two = (snapshot(random(3, seed), [0, 1, 2], ids=[0, 1, 2], epoch=seed) for seed in (1, 2))

    assert len(identified([one, two], [], None, PLACE, HERE).labels) == 3
    assert len(identified([], [one, two], None, PLACE, HERE).labels) == 6


@given(st.integers(1, 6), st.integers(0, 6))
def test_equal_rows_of_one_backbone_are_one_image(equal: int, more: int) -> None:
    """Features are compared by value, whatever the ids; the same numbers of another backbone mean nothing."""
    own = snapshot(random(6), [0] * 6)
    upload = snapshot(torch.cat([own_rows(own.features[:equal]), random(more, 1)]), [0] * (equal + more))
    foreign = snapshot(own_rows(own.features), [0] * 6, backbone=THERE)

    assert len(identified([own], [upload], None, PLACE, HERE).labels) == 6 + more
    assert len(identified([own], [foreign], None, PLACE, HERE).labels) == 12


def own_rows(features: object) -> torch.Tensor:
    """A copy of features."""
    return torch.tensor(features)


def test_the_newest_label_holds_and_is_told() -> None:
    """A correction of one image's class, known by data set and id, holds in every look at the image."""
    own = snapshot(random(3), [0, 0, 1], ids=[0, 1, 2], dataset=SET)
    older = snapshot(random(3, 1), [0, 0, 1], ids=[0, 1, 2], dataset=SET, backbone=THERE)
    correction = snapshot(random(1, 2), [2], ids=[1], dataset=SET, epoch=2)

    found = identified([own, older], [correction], None, PLACE, HERE)

    assert found.labels.tolist() == [0, 2, 1]
    assert [rows.labels.tolist() for rows in found.own] == [[0, 2, 1], [0, 2, 1]]
    assert found.disputed == 1


def test_a_row_without_a_label_has_that_of_its_image() -> None:
    """−1 says nothing; a class that the head does not have is none."""
    own = snapshot(random(2), [0, 1], ids=[0, 1], dataset=SET)
    pairs = snapshot(random(3, 1), [-1, -1, -1], ids=[0, 1, 2], dataset=SET, backbone=THERE)

    found = identified([own], [pairs], None, {"oak": 0}, HERE)

    assert found.own[0].labels.tolist() == [0, -1]
    assert found.uploads[0].labels.tolist() == [0, -1, -1]


def test_the_base_has_one_row_an_image() -> None:
    """That of the bundle where it has one, else of the newest upload; all other rows are crumbs."""
    own = snapshot(random(3), [0, 1, 2], ids=[0, 1, 2], dataset=SET, epoch=5)
    again = snapshot(random(3, 1), [0, 1, 2], ids=[1, 2, 3], dataset=SET, epoch=6)
    later = snapshot(random(2, 2), [2, 0], ids=[3, 4], dataset=SET, epoch=7)
    foreign = snapshot(random(2, 3), [0, 1], ids=[0, 9], dataset=SET, backbone=THERE)

    found = identified([own], [again, later, foreign], None, PLACE, HERE)
    base, crumbs = found.base(), found.crumbs()

    assert sorted(base.images.tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(base.features, torch.cat([own_rows(own.features), own_rows(later.features)]))
    assert [len(rows) for rows in crumbs] == [3, 2]
    assert found.stored.tolist() == [True, True, True, False, False, False]


def test_the_holdout_is_in_no_look() -> None:
    """Its rows are known as images of the looks, and kept aside."""
    own = snapshot(random(3), [0, 1, 2])
    held = snapshot(torch.cat([own_rows(own.features[:1]), random(1, 1)]), [0, 1])

    found = identified([own], [], held, PLACE, HERE)

    assert found.aside is not None
    assert found.aside.images.tolist() == [0, 3]
    assert found.seen.tolist() == [True, True, True, False]
    assert len(found.base()) == 3
