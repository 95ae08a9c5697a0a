"""The map between two spaces: which family, how good, and what further pairs would give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from breadcrumbs.training.migrate.map import FEWEST, PENALTIES, Point, chosen_map, explained, forecast, penalised
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.transfer import PAIRS, ridges

QUICK = settings(max_examples=15, deadline=None)


def pairs(count: int, dims: tuple[int, int], seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Features of so many images, and a linear map of them with noise."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dims[0], generator=draw)
    y = x @ torch.randn(*dims, generator=draw) + noise * torch.randn(count, dims[1], generator=draw) + 3
    return x, y


@QUICK
@given(
    count=st.integers(PAIRS, 90), seed=st.integers(0, 2**16), noise=st.floats(0, 3),
    place=st.integers(0, len(PENALTIES) - 1),
)  # fmt: skip
def test_the_explained_share_is_that_of_an_obvious_loop(count: int, seed: int, noise: float, place: int) -> None:
    """Every fifth pair is left out, the others are fitted, and errors are summed over all."""
    x, y = pairs(count, (3, 4), seed, noise)
    error = total = 0.0
    for fold in range(5):
        own = [i for i in range(count) if i % 5 != fold]
        (a, c) = penalised(x[own], y[own])[place]
        for i in range(fold, count, 5):
            error += float(((x[i] @ a + c - y[i]) ** 2).sum())
            total += float(((y[i] - y[own].mean(0)) ** 2).sum())

    assert explained(x, y, penalised)[place] == pytest.approx(1 - error / total, abs=1e-3)


@QUICK
@given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 10))
def test_few_pairs_of_a_rotation_with_a_scale_choose_procrustes(seed: int, scale: float) -> None:
    """Ridge has as many parameters as there are numbers in 8 pairs of 8 dimensions."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    x = torch.from_numpy(rng.normal(size=(12, 8))).float()
    y = x @ torch.from_numpy(scale * rotation).float() + 1
    found = chosen_map(x, y)

    assert found.family == "procrustes"
    assert found.explained > 0.999
    assert torch.allclose(found(x), y, atol=1e-2 * scale)


@QUICK
@given(seed=st.integers(0, 2**16), noise=st.floats(1, 3))
def test_a_penalty_is_chosen_that_few_noisy_pairs_need(seed: int, noise: float) -> None:
    """With fewer pairs than dimensions the smallest penalty fits the noise; each map solves its normal equations."""
    x, y = pairs(30, (40, 6), seed, noise * 6)
    found = chosen_map(x, y)

    assert found.explained > explained(x, y, penalised)[0]
    for penalty, (a, _) in zip((0.1, 3.0), ridges(x, y, (0.1, 3.0)), strict=True):
        z, w = x - x.mean(0), y - y.mean(0)
        l2 = penalty * torch.linalg.svdvals(z).square().mean()
        assert torch.allclose(z.T @ (w - z @ a), l2 * a, atol=1e-2)


def test_spaces_of_different_widths_leave_ridge() -> None:
    """There is no rotation between them."""
    found = chosen_map(*pairs(40, (3, 7), 0, 0.1))

    assert (found.family, set(found.families)) == ("ridge", {"ridge"})
    assert found(torch.zeros(2, 3)).shape == (2, 7)


def test_the_curve_ends_with_all_pairs() -> None:
    """25, 50, 75 and 100 % of the pairs outside a fold, the last with the share that is told."""
    found = chosen_map(*pairs(100, (5, 5), 1, 1.0))

    assert [point.pairs for point in found.curve] == [20, 40, 60, 80]
    assert found.curve[-1].explained == found.explained


@pytest.mark.parametrize("count", [1, 2, PAIRS - 1])
def test_too_few_pairs_are_refused(count: int) -> None:
    """With the number that is needed."""
    with pytest.raises(RefitError, match=f"^{count} pairs are left .* expected {PAIRS}"):
        chosen_map(*pairs(count, (3, 3), 0, 0))


def test_a_backbone_that_sees_no_difference_is_refused() -> None:
    """All of its features are one."""
    with pytest.raises(RefitError, match="the same features of all 20 pairs"):
        chosen_map(torch.randn(20, 3), torch.ones(20, 4))


@QUICK
@given(exponent=st.floats(0.2, 1.5), start=st.floats(0.5, 3), count=st.integers(FEWEST, 2000))
def test_the_forecast_goes_on_as_the_curve_does(exponent: float, start: float, count: int) -> None:
    """What is left unexplained falls by a power of the number of pairs."""
    curve = [Point(n, 1 - start * n**-exponent) for n in (count // 4, count // 2, count)]
    gain, words = forecast(curve, count)
    if curve[-1].explained > 0.9995:
        assert (gain, "about nothing" in words) == (0, True)
    else:
        assert gain == pytest.approx(start * (count**-exponent - (count + 100) ** -exponent), rel=1e-3)
        assert "100 further pairs would give about +" in words


@pytest.mark.parametrize(
    ("curve", "count", "why"),
    [
        ([0.1, 0.2, 0.3, 0.4], FEWEST - 1, "too few"),
        ([0.4, 0.3, 0.5, 0.6], 400, "steadily"),
        ([-0.2, -0.3, -0.4, -0.5], 400, "steadily"),
    ],
)
def test_a_forecast_that_cannot_be_made_says_why(curve: list[float], count: int, why: str) -> None:
    """In words, and without a number."""
    points = [Point(count * (k + 1) // 4, share) for k, share in enumerate(curve)]
    gain, words = forecast(points, count)

    assert gain is None
    assert "cannot be known" in words
    assert why in words
