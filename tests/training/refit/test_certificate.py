"""The certificate's numbers against Lemma 1 written out for one class at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look
from torch import Tensor

from breadcrumbs.training.emanate import class_loss
from breadcrumbs.training.refit.certificate import certify
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.solver.solver import solve


def rows(seed: int, epoch: int, count: int = 90, classes: int = 3) -> Rows:
    """Noisy classes; the same images in every epoch, each epoch around other means."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, 4, generator=generator)
    features = torch.randn(count, 4, generator=generator) + 1.5 * centres[labels]
    return look(features, labels, torch.arange(count), epoch, present=epoch == 2)


def fit(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A class-balanced head."""
    counts = torch.bincount(labels, minlength=3)
    found = solve(features, labels, 1 / (counts[labels] * 3), 3, 1e-2)
    return found.weight, found.bias


def test_both_sides_are_the_lemmas() -> None:
    """Gain and bound equal the terms of Lemma 1, computed plainly on the half that no head was fitted on."""
    newest, older = rows(0, 2), rows(1, 1)
    fitted: list[tuple[Tensor, Tensor]] = []

    def spy(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        fitted.append((features, labels))
        return fit(features, labels)

    found = certify(newest, older, ("a", "b", "c"), spy, 0)
    in_fit = {tuple(row) for row in fitted[0][0].tolist()}
    kept = torch.tensor([tuple(row) not in in_fit for row in newest.features.tolist()])
    new, old = newest.take(kept), older.take(kept)
    head, old_head = fit(*fitted[0]), fit(*fitted[1])

    for y, evidence in enumerate(found["classes"]):
        z, z_old = new.features[new.labels == y], old.features[old.labels == y]
        moved = z_old - z_old.mean(0) + z.mean(0)
        labels = torch.full((len(z),), y)
        loss = class_loss(z.double(), labels, *head)[y]
        augmented = class_loss(torch.cat([z, moved]).double(), labels.repeat(2), *head)[y]
        bound = (class_loss(z_old.double(), labels, *old_head)[y] - loss) / 2
        assert evidence["n"] == len(z)
        assert evidence["gain"] == pytest.approx(float(augmented - loss), abs=1e-6)
        assert evidence["bound"] == pytest.approx(float(bound), abs=1e-6)
        assert evidence["held"] == bool(augmented - loss >= bound)
    assert 0 < len(in_fit) < 90


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_floor_is_never_above_the_augmented_loss(seed: int) -> None:
    """Jensen: the loss at the class mean bounds the loss of the augmented class from below, for any head."""
    found = certify(rows(seed, 2), rows(seed + 1, 1), ("a", "b", "c"), fit, seed)

    for evidence in found["classes"]:
        assert evidence["floor"] <= evidence["augmented_loss"] + 1e-9


def test_the_share_is_counted_not_assumed() -> None:
    """The share of classes that kept the bound is the mean of what was measured."""
    found = certify(rows(3, 2), rows(9, 1), ("a", "b", "c"), fit, 0)

    assert found["bound_held_share"] == pytest.approx(sum(e["held"] for e in found["classes"]) / 3)
    assert found["epoch"] == 2
    assert found["older_epoch"] == 1


def test_a_class_of_one_image_is_left_out() -> None:
    """What cannot be split cannot be measured, and is not claimed."""
    newest, older = rows(0, 2, 61), rows(1, 1, 61)
    only = torch.tensor([*range(60)])
    lonely = look(newest.features[:4], torch.tensor([0, 1, 2, 2]), only[:4], 2, present=True)

    found = certify(lonely, older, ("a", "b", "c"), fit, 0)

    assert len(found["classes"]) < 3
