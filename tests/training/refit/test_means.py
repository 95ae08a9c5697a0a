"""The shrunk mean: pooled where the class has not moved, the newest where it has."""

import torch
from looks import look
from torch import Tensor

from breadcrumbs.training.refit.means import shrunk
from breadcrumbs.training.refit.rows import Rows


def part(features: Tensor, labels: Tensor, epoch: int, *, present: bool = False) -> Rows:
    return look(features, labels, None, epoch, present=present)


def test_a_class_that_stayed_has_the_mean_of_all_its_rows() -> None:
    """Where old and new rows come from one place, the blend is much nearer to it than the newest mean alone."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200).repeat_interleave(5)
    errors = {"newest": 0.0, "shrunk": 0.0}
    looks = [part(torch.randn(1000, 16, generator=generator), labels, e, present=e == 9) for e in (9, 8, 7, 6)]
    newest = looks[0].features.view(200, 5, 16).mean(1)

    found, weights = shrunk(newest, looks[:1], looks[1:])
    errors["newest"] = float(newest.square().sum(1).mean())
    errors["shrunk"] = float(found.square().sum(1).mean())

    assert errors["shrunk"] < 0.5 * errors["newest"]
    assert weights.mean() < 0.35


def test_a_class_that_moved_keeps_its_newest_mean() -> None:
    """Far outside the sampling error the newest mean stands, to within a hundredth of the way."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(20, dtype=torch.int64)
    old = part(torch.randn(20, 8, generator=generator), labels, 1)
    new = part(torch.randn(20, 8, generator=generator) + 30, labels, 2, present=True)
    newest = new.features.mean(0, keepdim=True)

    found, weights = shrunk(newest, [new], [old])

    assert weights[0] > 0.99
    assert (found - newest).norm() < 0.01 * (newest - old.features.mean(0)).norm()


def test_the_formula_is_the_one_stated() -> None:
    """Against a loop over the classes that says the docstring in so many words."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 4)
    new = part(torch.randn(13, 4, generator=generator), labels, 3, present=True)
    old = [part(torch.randn(13, 4, generator=generator) + e, labels, 3 - e) for e in (1, 2)]
    newest = torch.stack([new.features[labels == c].mean(0) for c in range(3)])

    found, weights = shrunk(newest, [new], old)

    for c in range(3):
        own = new.features[labels == c]
        before = torch.cat([p.features[labels == c] for p in old])
        s2 = (own - own.mean(0)).square().sum() / (len(own) - 1)
        error = s2 * (1 / len(own) + 1 / len(before))
        w = max(0.0, float(1 - error / (own.mean(0) - before.mean(0)).square().sum()))
        expected = w * own.mean(0) + (1 - w) * torch.cat([own, before]).mean(0)
        torch.testing.assert_close(found[c], expected)
        assert abs(float(weights[c]) - w) < 1e-5


def test_what_cannot_be_known_stays() -> None:
    """A class of one row, or without older rows, keeps its newest mean; nothing is NaN."""
    new = part(torch.tensor([[1.0, 2.0], [5.0, 5.0], [7.0, 5.0]]), torch.tensor([0, 1, 1]), 2, present=True)
    old = part(torch.tensor([[9.0, 9.0]]), torch.tensor([0]), 1)
    newest = torch.tensor([[1.0, 2.0], [6.0, 5.0], [0.0, 0.0]])

    found, weights = shrunk(newest, [new], [old])

    assert torch.equal(found, newest)
    assert weights.tolist() == [1, 1, 1]
