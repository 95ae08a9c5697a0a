"""Linear discriminant analysis: Gaussian classes of one covariance, shrunk toward a multiple of the unit matrix.

    Σ = (1 − γ) S + γ (tr S / D) I,     w_y = Σ⁻¹ (μ_y − z̄),     b_y = −½ (μ_y − z̄)ᵀ Σ⁻¹ (μ_y − z̄) − w_y · z̄

S is the pooled covariance within the classes, every image weighing the same; the classes have equal priors. With γ = 1
it is the nearest class mean. It knows nothing of how γ is chosen.

Source: Friedman (1989), "Regularized discriminant analysis", with one covariance for all classes.

Letters: M rows, D feature dimensions, C classes; ω_i the weight of row i.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e9  # the logit of a class that is never predicted


@dataclass(frozen=True, eq=False)
class Gaussians:
    """What every γ needs.

    Attributes:
        means: μ_y − z̄ (C, D), 0 for a class without rows.
        known: whether a class has rows, bool (C,).
        centre: z̄ (D,).
        values, vectors: S = V diag(s) Vᵀ, s (D,) and V (D, D).
    """

    means: Tensor
    known: Tensor
    centre: Tensor
    values: Tensor
    vectors: Tensor

    def head(self, gamma: float) -> tuple[Tensor, Tensor]:
        """Return W (C, D) and b (C,) for γ in 0 … 1."""
        smoothed = (1 - gamma) * self.values + gamma * self.values.mean()  # the eigenvalues of Σ (D,)
        along = self.means @ self.vectors  # (C, D)
        weight = (along / smoothed) @ self.vectors.T  # (C, D)
        bias = -0.5 * (along.square() / smoothed).sum(1) - weight @ self.centre  # (C,)
        return weight, torch.where(self.known, bias, NEVER)


def gaussians(rows: Iterable[tuple[Tensor, Tensor, Tensor]], classes: int) -> Gaussians:
    """Sum up chunks of features (B, D), labels (B,) and weights ω (B,), and take S apart."""
    counts, sums, second = torch.zeros(classes), torch.zeros(()), torch.zeros(())
    for z, y, omega in rows:
        if not sums.ndim:
            sums, second = torch.zeros(classes, z.shape[1]), torch.zeros(z.shape[1], z.shape[1])
        weighed = z * omega.unsqueeze(1)
        counts.index_add_(0, y, omega)  # n_y (C,)
        sums.index_add_(0, y, weighed)  # n_y μ_y (C, D)
        second += weighed.T @ z  # Σ ω z zᵀ (D, D)
    means = sums / counts.clamp(min=1e-9).unsqueeze(1)
    within = (second.double() - sums.double().T @ means.double()) / float(counts.sum())  # less Σ_y n_y μ_y μ_yᵀ
    values, vectors = torch.linalg.eigh(within)
    known, centre = counts > 0, sums.sum(0) / counts.sum()
    tiny = 1e-12 * float(values.max().clamp(min=1e-20))
    centred = torch.where(known.unsqueeze(1), means - centre, 0.0)
    return Gaussians(centred, known, centre, values.clamp(min=tiny).float(), vectors.float())
