"""A convex problem for the solver's tests."""

import torch
from torch import Tensor


def problem(seed: int, rows: int = 300, dim: int = 8, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Ill-conditioned features, imbalanced labels, class-balanced weights."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([0.6, 0.25, 0.1, 0.05])[:classes]
    labels = torch.multinomial(share, rows, replacement=True, generator=generator)
    labels[:classes] = torch.arange(classes)
    scale = 10.0 ** torch.linspace(-1.5, 1, dim)
    centres = torch.randn(classes, dim, generator=generator)
    features = (torch.randn(rows, dim, generator=generator) + centres[labels]) * scale + 3
    counts = torch.bincount(labels, minlength=classes)
    return features, labels, 1 / (counts[labels] * classes)
