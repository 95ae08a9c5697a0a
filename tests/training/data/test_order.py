"""Which images come when: seeded, whole, in even batches."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.data.order import BalancedOrder, Order


def rows_of(order: Order) -> list[list[int]]:
    return [[look[-1] for look in batch] for batch in order]


@given(rows=st.integers(1, 200), batch=st.integers(1, 70), epoch=st.integers(0, 5))
def test_every_row_comes_once_in_even_batches(rows: int, batch: int, epoch: int) -> None:
    """An epoch has ceil(N / B) batches that hold every row once and differ by one row at most."""
    order = Order(rows, batch, 0)
    order.epoch = epoch

    found = rows_of(order)

    assert len(found) == len(order) == -(-rows // batch)
    assert sorted(row for batch in found for row in batch) == list(range(rows))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert max(map(len, found)) <= batch


def test_the_order_follows_from_seed_and_epoch() -> None:
    """The same seed and epoch give the same order; another of either gives another."""
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        order = Order(50, 8, seed)
        order.epoch = epoch
        orders[seed, epoch] = rows_of(order)

    assert rows_of(Order(50, 8, 0)) == orders[0, 0]
    assert len({str(found) for found in orders.values()}) == 3


def test_a_batch_can_be_told_again() -> None:
    """`batch` names the rows of a step, so that an error can name its images."""
    order = Order(50, 8, 0)
    order.epoch = 3

    assert [order.batch(step).tolist() for step in range(len(order))] == rows_of(order)


def test_every_look_has_a_name_of_its_own() -> None:
    """No two looks of a run, of either purpose, share the name that seeds their augmentation."""
    labels = torch.tensor([0] * 9 + [1])
    names = []
    for order in (Order(10, 4, 0), BalancedOrder(labels, 4, 0)):
        for epoch in (0, 1):
            order.epoch = epoch
            names += [look for batch in order for look in batch]

    assert len(set(names)) == 40


def test_the_balanced_order_draws_classes_alike() -> None:
    """Of classes of 900, 90 and 10 images each comes about as often; rows repeat; there are as many as in an epoch."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([900, 90, 10]))
    rows = BalancedOrder(labels, 64, 0).rows()

    share = torch.bincount(labels[rows], minlength=3) / len(rows)

    assert len(rows) == 1000
    assert (share - 1 / 3).abs().max() < 0.05
    assert len(rows.unique()) < 800
