"""Ways to bring the rows of another look to where the deployed backbone's rows are, each made from images in both.

    none             as they are
    emanate          z − z̄_y^{e'} + z̄_y^e (eq. 6); both means are of the images of class y that both looks have
    map              z A + c, fitted to all images that both looks have, with or without a label: orthogonal Procrustes
                     with a scale, or ridge regression, whichever predicts left-out pairs better
    map, emanate     the map, and then the class means that are left
    leave out        no row of the look

In the paper both means are always of the same images. A difference of means over *different* images would mostly be the
sampling error of the smaller set, which is what ruins a class of which one new image came. It knows nothing of heads.

Sources: eq. 6 of the paper, which `training/emanate.py` names; Schönemann (1966), "A generalized solution of the
orthogonal Procrustes problem"; Golub, Heath & Wahba (1979), "Generalized cross-validation" for ridge.

Letters: M rows, P pairs (images in both looks), D' and D dimensions of the two spaces, C classes, I images, R ridge
penalties, r singular values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from breadcrumbs.training.emanate import class_means
from breadcrumbs.training.refit.rows import Rows

Mode = Literal["leave out", "none", "emanate", "map", "map, emanate"]
MODES: tuple[Mode, ...] = get_args(Mode)  # the simplest first
PAIRS = 8  # fewer pairs make no map
MOST = 5_000  # pairs that a map is fitted to at most
RIDGES = tuple(10.0**k for k in range(-6, 3))  # of the mean squared singular value

Line = tuple[Tensor, Tensor]
"""A (D', D) and c (D,): z ↦ z A + c."""


@dataclass(frozen=True, eq=False)
class Move:
    """Where the rows of a look go.

    Attributes:
        rows: those that can be moved.
        line: A and c; None means z stays.
        shifts: (C, D), what is added to the rows of each class; None means nothing.
    """

    rows: Rows
    line: Line | None = None
    shifts: Tensor | None = None

    def gather(self, chosen: Tensor) -> Tensor:
        """Read the moved features f32 (B, D) of some rows, by numbers (B,)."""
        z = self.rows.gather(chosen)
        if self.line is not None:
            z = torch.addmm(self.line[1], z, self.line[0])
        if self.shifts is not None:
            z += self.shifts[self.rows.labels[chosen]]
        return z


def modes_for(look: Rows, base: Rows) -> tuple[Mode, ...]:
    """Return the ways that make sense for a look: the deployed backbone's own needs no map."""
    if look.present:
        return ("leave out", "none", "emanate")
    same = look.feature_dim == base.feature_dim
    return tuple(mode for mode in MODES if same or mode not in ("none", "emanate"))


def moved(look: Rows, base: Rows, usable: Tensor, mode: Mode, classes: int) -> Move | None:
    """Bring a look's labelled rows to the base; None means that no row can be.

    Args:
        look: the rows to move.
        base: the deployed backbone's rows, one for each image that it has seen.
        usable: bool (I,), the images that anything may be learned of; rows of others do not come along.
        mode: how.
        classes: C.
    """
    mine = look.take(usable[look.images])
    rows = mine.take(mine.labels >= 0)
    if mode == "leave out" or not len(rows):
        return None
    if mode == "none":
        return Move(rows)
    there, here = in_both(mine, base)
    line = None
    if mode != "emanate":
        if len(there) < PAIRS:
            return None
        few = torch.linspace(0, len(there) - 1, min(len(there), MOST)).long()
        line = fitted(mine.gather(there[few]), base.gather(here[few]))
        if mode == "map":
            return Move(rows, line)
    labels = mine.labels[there]
    there, here, labels = there[labels >= 0], here[labels >= 0], labels[labels >= 0]
    before, counts = class_means(Move(mine, line).gather(there), labels, classes)  # z̄^{e'} (C, D)
    after, _ = class_means(base.gather(here), labels, classes)  # z̄^e (C, D)
    if line is None:  # a class whose images are in one look only has no shift
        rows = rows.take(counts[rows.labels] > 0)
    return Move(rows, line, after - before) if len(rows) else None


def in_both(look: Rows, base: Rows) -> tuple[Tensor, Tensor]:
    """Return the numbers (P,) of rows of both that show the same images."""
    where = torch.full((int(max(look.images.max(), base.images.max())) + 1,), -1)
    where[base.images] = torch.arange(len(base))
    here = where[look.images]
    there = (here >= 0).nonzero().squeeze(1)
    return there, here[there]


def fitted(x: Tensor, y: Tensor) -> Line:
    """Fit y ≈ x A + c to pairs x (P, D'), y (P, D), by the family that predicts the other half of the pairs better."""
    families: list[Callable[[Tensor, Tensor], Line]] = [ridge]
    if x.shape[1] == y.shape[1]:
        families.insert(0, procrustes)
    if len(families) == 1:
        return families[0](x, y)

    def error(family: Callable[[Tensor, Tensor], Line]) -> float:
        total = 0.0
        for half in (slice(0, None, 2), slice(1, None, 2)):
            other = slice(1 - (half.start or 0), None, 2)
            a, c = family(x[half], y[half])
            total += float((x[other] @ a + c - y[other]).square().sum())
        return total

    return min(families, key=error)(x, y)


def procrustes(x: Tensor, y: Tensor) -> Line:
    """The rotation R and scale s with the least ‖s (x − x̄) R − (y − ȳ)‖²: R = U Vᵀ, s = tr Σ / ‖x − x̄‖².

    U Σ Vᵀ is the singular value decomposition of (x − x̄)ᵀ (y − ȳ), (D, D).
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, sigma, vt = torch.linalg.svd((x - x_mean).T @ (y - y_mean))
    a = (u @ vt) * (sigma.sum() / (x - x_mean).square().sum().clamp(min=1e-30))
    return a, y_mean - x_mean @ a


def ridge(x: Tensor, y: Tensor) -> Line:
    """The A with the least ‖(x − x̄) A − (y − ȳ)‖² + λ ‖A‖², λ by generalised cross-validation.

    With x − x̄ = U diag(s) Vᵀ, the fit is U diag(s² / (s² + λ)) Uᵀ (y − ȳ); its degrees of freedom are
    h = Σ s² / (s² + λ), and GCV(λ) = ‖residual‖² / (P − 1 − h)².
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, s, vt = torch.linalg.svd(x - x_mean, full_matrices=False)  # (P, r), (r,), (r, D')
    centred = y - y_mean
    along = u.T @ centred  # (r, D)
    total, parts = centred.square().sum(), along.square().sum(1)  # ‖y − ȳ‖², (r,)

    l2 = s.square().mean() * s.new_tensor(RIDGES)  # (R,)
    kept = s.square() / (s.square() + l2.unsqueeze(1))  # (R, r)
    residual = total - (parts * kept * (2 - kept)).sum(1)
    best = l2[(residual / (len(x) - 1 - kept.sum(1)).clamp(min=1e-3) ** 2).argmin()]
    a = vt.T @ ((s / (s.square() + best)).unsqueeze(1) * along)
    return a, y_mean - x_mean @ a


def ridges(x: Tensor, y: Tensor, penalties: Sequence[float]) -> list[Line]:
    """The map of `ridge` for each of several λ, given as shares of the mean squared singular value of x − x̄.

    One decomposition serves them all, so a caller can choose by pairs that were left out. With fewer pairs than
    dimensions that is the surer way: the residual of a small λ, from which `ridge` chooses, is then nearly zero.
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, s, vt = torch.linalg.svd(x - x_mean, full_matrices=False)  # (P, r), (r,), (r, D')
    along = u.T @ (y - y_mean)  # (r, D)
    made = []
    for penalty in penalties:
        l2 = penalty * s.square().mean()
        a = vt.T @ ((s / (s.square() + l2).clamp(min=1e-30)).unsqueeze(1) * along)
        made.append((a, y_mean - x_mean @ a))
    return made
