"""The rows of one look: mapped to the target classes, merged from several uploads, taken by their ids."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from looks import HERE, THERE, look, part, snap

from breadcrumbs.training.refit.rows import RefitError, merged, rows_of

LIVE = ("oak", "elm")


def test_rows_are_mapped_by_name() -> None:
    """A snapshot with the classes in another order gets the target's indices; a class not among them is −1."""
    own = replace(snap("yeoe", ("yew", "oak", "elm")), ids=np.int64([7, 8, 9, 10]))

    rows = rows_of(own, LIVE, 2, HERE)

    assert rows.labels.tolist() == [-1, 1, 0, 1]
    assert torch.equal(rows.features, torch.from_numpy(own.features))
    assert rows.ids is not None
    assert rows.ids.tolist() == [7, 8, 9, 10]
    assert rows.known().labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(("backbone", "present"), [(HERE, True), (THERE, False)])
def test_rows_know_who_made_them(backbone: str, present: bool) -> None:
    """Only what the deployed backbone made is present; half precision is widened."""
    own = snap("oe", backbone=backbone, epoch=5)

    rows = rows_of(replace(own, features=own.features.astype(np.float16)), LIVE, 2, HERE)

    assert (rows.present, rows.epoch, rows.ids) == (present, 5, None)
    assert rows.features.dtype == torch.float32


def test_another_dimension_is_refused() -> None:
    """Features of another dimension than the bundle's are refused with both numbers and the epoch."""
    with pytest.raises(RefitError, match=r"epoch 4 has features of 2 dimensions; the deployed backbone gives 64"):
        rows_of(snap("oe", epoch=4), LIVE, 64, HERE)


def test_uploads_of_one_look_are_merged_and_nothing_is_lost() -> None:
    """Rows that two uploads share count once, rows of one alone stay, with labels and, where unique, ids."""
    features = torch.arange(12.0).reshape(6, 2)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    ids = torch.arange(6)
    one = look(features[:4], labels[:4], ids[:4], 3, present=True)
    other = look(features[2:], labels[2:], ids[2:], 3, present=True)

    both = merged([one, other])

    assert torch.equal(both.features, features)
    assert torch.equal(both.labels, labels)
    assert torch.equal(both.ids, ids)
    assert merged([one]) is one


def test_ids_that_name_different_rows_are_given_up() -> None:
    """Two uploads that number their images independently keep all their rows, and lose only the ids."""
    one = look(
        torch.zeros(2, 2) + torch.arange(2.0).unsqueeze(1), torch.tensor([0, 1]), torch.arange(2), 3, present=True
    )
    other = look(one.features + 5, torch.tensor([1, 1]), torch.arange(2), 3, present=True)

    both = merged([one, other])

    assert len(both.features) == 4
    assert both.labels.tolist() == [0, 1, 1, 1]
    assert both.ids is None


def test_the_first_of_each_class_are_those_of_the_lowest_ids() -> None:
    """A class with more rows than asked for offers those of the lowest ids, whatever their order."""
    some = part([0, 1, 0, 0, 1], ids=[9, 4, 3, 7, 1])

    assert some.first_of_each(2).ids.tolist() == [4, 3, 7, 1]
    assert some.first_of_each(1).ids.tolist() == [3, 1]
